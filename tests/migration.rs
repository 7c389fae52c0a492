use std::collections::BTreeSet;
use std::path::Path;

use crate::support::families::families;

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use regex::Regex;
use serde_json::Value;

fn migration() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("MIGRATION.md")).unwrap()
}

/// Rows of the tables of `MIGRATION.md` below a heading.
fn rows(heading: &str) -> Vec<[String; 2]> {
    let section = migration().split(&format!("\n{heading}\n")).nth(1).map(str::to_owned);
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let lines = section.lines().take_while(|line| !line.starts_with('#'));
    lines
        .filter(|line| line.starts_with("| `"))
        .map(|row| {
            let mut cells = row.trim_matches('|').splitn(2, " | ").map(|cell| cell.trim().to_owned());
            [cells.next().unwrap(), cells.next().unwrap()]
        })
        .collect()
}

/// What stands in backticks in the first column.
fn from(heading: &str) -> BTreeSet<String> {
    let quoted = Regex::new("`([^`]+)`").unwrap();
    let rows = rows(heading);
    rows.iter().flat_map(|[from, _]| quoted.captures_iter(from).map(|quote| quote[1].to_owned())).collect()
}

/// Values of the chart here that the table of the Go exporter's leads to.
pub(crate) fn chart_values() -> BTreeSet<String> {
    let value = Regex::new(r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)*)(?:: [^`]+)?`").unwrap();
    let not_values = names("kubeletOnly runAsGroup honorLabels");
    let rows = rows("### The Go exporter's chart values");
    let values = rows.iter().flat_map(|[_, to]| value.captures_iter(to).map(|quote| quote[1].to_owned()));
    values.filter(|value| !not_values.contains(value)).collect()
}

/// Its values for a chart that is like the Go exporter's.
pub(crate) fn compatible_values() -> Value {
    let text = migration().split("\n```yaml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    serde_saphyr::from_str(&text).unwrap()
}

fn names(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn all_flags_of_the_others_are_there() {
    let go =
        "--kubelet-endpoint --metrics-port --scrape-interval --token-path --insecure-skip-tls-verify --debug";
    assert_eq!(from("### The Go exporter's flags"), names(go));
    let python = "--listen-host --listen-port --log-level --log-human --export-all-mounts PATH";
    assert_eq!(from("### The Python exporter's flags"), names(python));
}

#[test]
fn all_values_of_the_go_exporters_chart_are_there() {
    let values = "
        image.repository image.tag image.pullPolicy imagePullSecrets nameOverride fullnameOverride
        serviceAccount.create serviceAccount.annotations serviceAccount.name rbac.create
        config.kubeletEndpoint config.metricsPort config.scrapeInterval config.insecureSkipTLSVerify
        config.tokenPath config.debug
        daemonset.updateStrategy daemonset.podAnnotations daemonset.podLabels daemonset.hostNetwork
        daemonset.hostPID daemonset.priorityClassName
        securityContext podSecurityContext livenessProbe readinessProbe resources nodeSelector tolerations affinity
        service.type service.port service.annotations service.headless
        serviceMonitor.enabled serviceMonitor.namespace serviceMonitor.labels serviceMonitor.annotations
        serviceMonitor.interval serviceMonitor.scrapeTimeout serviceMonitor.metricRelabelings
        serviceMonitor.relabelings serviceMonitor.targetLabels serviceMonitor.selector
        volumes.token.expirationSeconds";
    assert_eq!(from("### The Go exporter's chart values"), names(values));
}

#[test]
fn all_flags_that_it_leads_to_exist() {
    let command = Args::command();
    let known: BTreeSet<String> = command
        .get_arguments()
        .flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default())
        .map(|long| format!("--{long}"))
        .collect();
    let mut seen = BTreeSet::new();
    let flag = Regex::new("--[a-z][a-z-]*").unwrap();
    for line in migration().lines() {
        // What is left of the bar is the others'.
        let ours = if line.starts_with("| `") { line.split_once(" | ").unwrap().1 } else { line };
        seen.extend(flag.find_iter(ours).map(|found| found.as_str().to_owned()));
    }
    assert!(seen.len() > 5, "{seen:?}");
    assert_eq!(seen.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn all_metrics_of_the_others_are_there_and_exist() {
    let known: BTreeSet<&str> = families().into_keys().collect();
    let text = migration();
    let metric = Regex::new(r"`((?:kubelet_volume_stats|pv_disk_usage|disk_usage_exporter)_\w+)`").unwrap();
    let named: BTreeSet<&str> =
        metric.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new());
    let inherited = "
        kubelet_volume_stats_capacity_bytes kubelet_volume_stats_available_bytes kubelet_volume_stats_used_bytes
        kubelet_volume_stats_inodes kubelet_volume_stats_inodes_free kubelet_volume_stats_inodes_used
        kubelet_volume_stats_scrape_errors_total kubelet_volume_stats_last_scrape_timestamp_seconds
        pv_disk_usage_bytes_total pv_disk_usage_bytes_used pv_disk_usage_bytes_available pv_disk_usage_percent_used
        pv_disk_usage_timing_collect_seconds pv_disk_usage_timing_total_seconds";
    let described = &from("### The Go exporter's metrics") | &from("### The Python exporter's metrics");
    assert_eq!(described, names(inherited));
}
