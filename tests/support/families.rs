//! The metric families of the program: name and type.

use std::collections::BTreeMap;

use disk_usage_exporter::exposition::FAMILIES;

/// What a recorded node shows, which `fixtures` holds to the program's own exposition, has every registered family but
/// those of an API server and of the kubelet.
const RECORDED: &str = include_str!("../../fixtures/nodes/mixed/expected.prom");
const NOT_RECORDED: [(&str, &str); 3] = [
    ("kubelet_volume_stats_scrape_errors_total", "counter"),
    ("disk_usage_exporter_kubernetes_requests_total", "counter"),
    ("disk_usage_exporter_kubernetes_request_duration_seconds", "histogram"),
];

pub(crate) fn families() -> BTreeMap<&'static str, &'static str> {
    let recorded = RECORDED.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let catalogue = FAMILIES.iter().map(|family| (family.name, "gauge"));
    catalogue.chain(recorded).chain(NOT_RECORDED).collect()
}
