use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::http;
use crate::support::prometheus::{Prometheus, job};
use crate::support::tool::{assert_promtool_agrees, is_there, pipe};

const OPENMETRICS: (&str, &str) = ("Accept", "application/openmetrics-text;version=1.0.0");

/// Prints every sample that the reference parsers of both formats find, and fails where they refuse.
const REFERENCE_PARSER: &str = "
import sys
if sys.argv[1] == 'openmetrics':
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.buffer.read().decode()):
    for sample in family.samples:
        print(family.type, sample.name, sorted(sample.labels.items()), sample.value)
";

fn nodes() -> [PathBuf; 3] {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes");
    ["csi", "gke", "mixed"].map(|name| fixtures.join(name))
}

fn serving(node: &Path) -> Exporter {
    Exporter::start(&["--stat-timeout=500ms", &format!("--fixture={}", node.display())])
}

#[test]
fn openmetrics_passes_its_reference_parser_and_says_the_same_as_the_text_format() {
    if !is_there("python3", &["-c", "import prometheus_client.openmetrics.parser"]) {
        return;
    }
    for node in nodes() {
        let exporter = serving(&node);
        exporter.scrape();
        let read = |format: &str, headers: &[(&str, &str)]| {
            let body = http::get(exporter.address, "/metrics", headers).text();
            let output = pipe("python3", &["-c", REFERENCE_PARSER, format], &body);
            assert!(
                output.status.success(),
                "{}: {}",
                node.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            let volatile = ["_timing_", "_duration_", "process_", "_reads", "_age_"];
            let samples = String::from_utf8(output.stdout).unwrap();
            let stable = samples.lines().filter(|line| !volatile.iter().any(|part| line.contains(part)));
            stable.map(str::to_owned).collect::<Vec<_>>()
        };
        let openmetrics = read("openmetrics", &[OPENMETRICS]);
        assert!(openmetrics.len() > 20, "{openmetrics:?}");
        assert_eq!(openmetrics, read("text", &[]), "{}", node.display());
    }
}

#[test]
fn promtool_has_nothing_to_say_of_a_live_scrape() {
    if is_there("promtool", &["--version"]) {
        for node in nodes() {
            let exporter = serving(&node);
            // The second has what only a later scrape tells.
            exporter.scrape();
            assert_promtool_agrees(&exporter.get("/metrics").text());
        }
    }
}

#[test]
fn prometheus_takes_every_series() {
    if !is_there("prometheus", &["--version"]) {
        return;
    }
    for node in nodes() {
        let exporter = serving(&node);
        let exposition: Exposition = exporter.scrape();
        let job = format!("{{job_name: node, static_configs: [{{targets: ['{}']}}]}}", exporter.address);
        let prometheus = Prometheus::start(&format!("scrape_configs: [{job}]\n"));
        prometheus.wait_for("up==1");
        let count = |query: &str| prometheus.query(query)[0]["value"][1].as_str().unwrap().to_owned();
        // The first scrape of this Prometheus may have come before anything was counted.
        for family in [
            "pv_disk_usage_up",
            "pv_disk_usage_bytes_total",
            "pv_disk_usage_mount_info",
            "pv_disk_usage_volume_info",
        ] {
            let expected = exposition.all(family, &[]).len();
            assert_eq!(
                count(&format!("count({family})")),
                expected.to_string(),
                "{family} of {}",
                node.display()
            );
        }
        let taken = count("scrape_samples_post_metric_relabeling");
        let sent = count("scrape_samples_scraped");
        assert_eq!(taken, sent);
    }
}

/// The label sets of a result, without the target's address.
fn labels(result: &[Value]) -> BTreeSet<BTreeMap<String, String>> {
    let of = |series: &Value| {
        let labels = series["metric"].as_object().unwrap().iter();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        labels.filter(|(name, _)| name != "instance").collect()
    };
    result.iter().map(of).collect()
}

fn pairs(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn serving_claims(labels: &str) -> Exporter {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes/csi");
    let labels = format!("--kubelet-volume-stats-labels={labels}");
    Exporter::start(&[&format!("--fixture={}", fixture.display()), "--kubelet-volume-stats=all", &labels])
}

#[test]
fn stock_alerts_find_the_series_of_claims() {
    if !is_there("prometheus", &["--version"]) {
        return;
    }
    let exporter = serving_claims("kubelet");
    let claims = exporter.scrape();
    let prometheus = Prometheus::start(&job("manifests/prometheus-kubelet-names.yaml", exporter.address));
    prometheus.wait_for("up==1");
    let suffixes =
        ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"];
    let families = suffixes.map(|suffix| format!("kubelet_volume_stats_{suffix}"));
    for family in &families {
        let added =
            [("__name__", family.as_str()), ("job", "kubelet"), ("metrics_path", "/metrics"), ("node", "n")];
        let series = claims.all(family, &[]).into_iter();
        let expected: BTreeSet<_> =
            series.map(|(claim, _)| claim.iter().cloned().chain(pairs(&added)).collect()).collect();
        let found = prometheus.query(&format!("{family}{{job='kubelet',metrics_path='/metrics'}}"));
        assert_eq!(labels(&found), expected);
        assert!(!expected.is_empty(), "{family}");
    }
    // Nothing else is the kubelet's: whether it is up, its own job tells.
    let names = labels(&prometheus.query("group by (__name__) ({job='kubelet'})"));
    assert_eq!(names, families.iter().map(|family| pairs(&[("__name__", family)])).collect());
    assert_eq!(prometheus.query("up{job=\"disk-usage-exporter\"}").len(), 1);
}

#[test]
fn the_go_exporters_labels_stay_what_they_are() {
    if !is_there("prometheus", &["--version"]) {
        return;
    }
    let exporter = serving_claims("pod");
    let claims = exporter.scrape();
    let manifest = "manifests/overlays/kubelet-only-compat/prometheus-scrape.yaml";
    let prometheus = Prometheus::start(&job(manifest, exporter.address));
    prometheus.wait_for("up==1");
    let family = "kubelet_volume_stats_used_bytes";
    let expected: BTreeSet<BTreeMap<_, _>> =
        claims.all(family, &[]).into_iter().map(|(labels, _)| labels.iter().cloned().collect()).collect();
    assert!(expected.iter().all(|labels| labels.contains_key("pod")) && !expected.is_empty());
    let found = prometheus.query(&format!("sum without (__name__, job, node, container) ({family})"));
    assert_eq!(labels(&found), expected);
}
