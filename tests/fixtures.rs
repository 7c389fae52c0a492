use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{stderr, stdout};
use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::http;
use crate::support::prometheus::{Prometheus, job};
use crate::support::tool::{assert_promtool_agrees, is_there, pipe};

/// Set to renew the golden files: `RENEW_FIXTURES=1 cargo test fixtures`.
const RENEW: &str = "RENEW_FIXTURES";

/// What differs from run to run, and is written as 0.
const VOLATILE: [&str; 7] = [
    "process_",
    "pv_disk_usage_timing_",
    "disk_usage_exporter_metadata_age_seconds",
    // The counts of observations are compared.
    "disk_usage_exporter_collection_duration_seconds_bucket",
    "disk_usage_exporter_collection_duration_seconds_sum",
    "disk_usage_exporter_probe_duration_seconds_bucket",
    "disk_usage_exporter_probe_duration_seconds_sum",
];
/// The registry does not sort its series.
const UNSORTED: &str = "disk_usage_exporter_probe_duration_seconds_";

/// The recorded nodes.
fn nodes() -> [PathBuf; 3] {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes");
    ["csi", "gke", "mixed"].map(|name| directory.join(name))
}

fn exposition(node: &Path) -> String {
    let output = run(&["metrics", "--stat-timeout=500ms", &format!("--fixture={}", node.display())]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn stable(exposition: &str) -> String {
    let lines = exposition.lines().map(|line| {
        if VOLATILE.iter().any(|name| line.starts_with(name)) {
            format!("{} 0\n", line.rsplit_once(' ').unwrap().0)
        } else if line.starts_with("disk_usage_exporter_build_info{") {
            "disk_usage_exporter_build_info{version=\"0\",revision=\"0\"} 1\n".to_owned()
        } else {
            format!("{line}\n")
        }
    });
    let mut lines: Vec<String> = lines.collect();
    let unsorted = lines.iter().position(|line| line.starts_with(UNSORTED)).unwrap();
    let series = lines[unsorted..].partition_point(|line| line.starts_with(UNSORTED));
    // The lines of one histogram stay in order.
    lines[unsorted..unsorted + series].sort_by_key(|line| {
        line.split_once("volume_type=").map(|(_, rest)| rest.split('"').nth(1).map(str::to_owned))
    });
    lines.concat()
}

#[test]
fn expositions_are_the_golden_ones() {
    let directories = fs::read_dir(nodes()[0].parent().unwrap()).unwrap();
    assert_eq!(directories.count(), nodes().len());
    for node in nodes() {
        let golden = node.join("expected.prom");
        let actual = stable(&exposition(&node));
        if std::env::var_os(RENEW).is_some() {
            fs::write(&golden, &actual).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        let difference = only_in("-", &expected, &actual) + &only_in("+", &actual, &expected);
        assert!(difference.is_empty(), "{} (renew by {RENEW}=1):\n{difference}", golden.display());
        assert_eq!(expected, actual, "the order of {}", golden.display());
    }
}

/// Lines that only the first has.
fn only_in(sign: &str, first: &str, second: &str) -> String {
    let lines = first.lines().filter(|line| !second.lines().any(|other| other == *line));
    lines.flat_map(|line| [sign, line, "\n"]).collect()
}

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

fn serve(node: &Path, args: &[&str]) -> Exporter {
    let fixture = format!("--fixture={}", node.display());
    Exporter::start(&[&["--stat-timeout=500ms", &fixture], args].concat())
}

#[test]
fn promtool_accepts_a_live_scrape_and_reference_parsers_read_the_same_from_both_formats() {
    let has_promtool = is_there("promtool", &["--version"]);
    let has_parsers = is_there("python3", &["-c", "import prometheus_client.openmetrics.parser"]);
    for node in nodes() {
        let exporter = serve(&node, &[]);
        // The next ones have what only a later scrape shows.
        exporter.scrape();
        if has_promtool {
            assert_promtool_agrees(&exporter.get("/metrics").text());
        }
        let read = |format: &str, headers: &[(&str, &str)]| -> Vec<String> {
            let body = http::get(exporter.address, "/metrics", headers).text();
            let output = pipe("python3", &["-c", REFERENCE_PARSER, format], &body);
            assert!(output.status.success(), "{}: {}", node.display(), stderr(&output));
            let volatile = ["_timing_", "_duration_", "process_", "_reads", "_age_"];
            let is_stable = |line: &&str| !volatile.iter().any(|part| line.contains(part));
            stdout(&output).lines().filter(is_stable).map(str::to_owned).collect()
        };
        if has_parsers {
            let openmetrics = read("openmetrics", &[OPENMETRICS]);
            assert!(openmetrics.len() > 20, "{openmetrics:?}");
            assert_eq!(openmetrics, read("text", &[]), "{}", node.display());
        }
    }
}

type Labels = BTreeSet<BTreeMap<String, String>>;

/// The label sets of a result, without the target's address.
fn labels(result: &[Value]) -> Labels {
    let of = |series: &Value| {
        let labels = series["metric"].as_object().unwrap().iter();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        labels.filter(|(name, _)| name != "instance").collect()
    };
    result.iter().map(of).collect()
}

/// The label sets of a family, each with these labels.
fn labels_with(scrape: &Exposition, family: &str, added: &[(&str, &str)]) -> Labels {
    let added = || added.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let series = scrape.all(family, &[]).into_iter();
    let labels: Labels = series.map(|(labels, _)| labels.iter().cloned().chain(added()).collect()).collect();
    assert!(!labels.is_empty(), "{family}");
    labels
}

/// What a node exposes of claims, and a Prometheus that scrapes it by this manifest.
fn scrape_claims(labels: &str, manifest: &str) -> Option<(Exposition, Prometheus, Exporter)> {
    if !is_there("prometheus", &["--version"]) {
        return None;
    }
    let labels = format!("--kubelet-volume-stats-labels={labels}");
    let exporter = serve(&nodes()[0], &["--kubelet-volume-stats=all", &labels]);
    let prometheus = Prometheus::start(&job(manifest, exporter.address));
    prometheus.wait_for("up==1");
    Some((exporter.scrape(), prometheus, exporter))
}

#[test]
fn stock_alerts_find_the_series_of_claims() {
    let manifest = "manifests/prometheus-kubelet-names.yaml";
    let Some((claims, prometheus, _exporter)) = scrape_claims("kubelet", manifest) else { return };
    let suffixes =
        ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"];
    let families = suffixes.map(|suffix| format!("kubelet_volume_stats_{suffix}"));
    for family in &families {
        let added =
            [("__name__", &family[..]), ("job", "kubelet"), ("metrics_path", "/metrics"), ("node", "n")];
        let result = prometheus.query(&format!("{family}{{job='kubelet',metrics_path='/metrics'}}"));
        assert_eq!(labels(&result), labels_with(&claims, family, &added));
    }
    // Nothing else is the kubelet's: whether it is up, its own job tells.
    let names = labels(&prometheus.query("group by (__name__) ({job='kubelet'})"));
    let expected = families.map(|family| BTreeMap::from([("__name__".to_owned(), family)]));
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(prometheus.query("up{job=\"disk-usage-exporter\"}").len(), 1);
}

#[test]
fn labels_of_the_go_exporter_are_kept() {
    let manifest = "manifests/overlays/kubelet-only-compat/prometheus-scrape.yaml";
    let Some((claims, prometheus, _exporter)) = scrape_claims("pod", manifest) else { return };
    let family = "kubelet_volume_stats_used_bytes";
    let expected = labels_with(&claims, family, &[]);
    assert!(expected.iter().all(|labels| labels.contains_key("pod")));
    let result = prometheus.query(&format!("sum without (__name__, job, node, container) ({family})"));
    assert_eq!(labels(&result), expected);
}
