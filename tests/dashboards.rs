use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::document::{files, read, root};
use crate::support::exporter::Exporter;
use crate::support::manifest::{list, text};
use crate::support::prometheus::{Prometheus, job};
use crate::support::promql::assert_known;
use crate::support::tool::{is_there, stdout};

const DIRECTORY: &str = "manifests/dashboards";
const FILES: [&str; 2] = ["manifests/dashboards/claim.json", "manifests/dashboards/volumes.json"];

fn dashboards() -> [Value; 2] {
    FILES.map(|file| serde_json::from_str(&read(file)).unwrap())
}

/// All queries of panels, and those of variables as queries of their own.
fn queries(dashboard: &Value) -> Vec<String> {
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    let of_panels = targets.map(|target| text(&target["expr"]).to_owned());
    let of_variables = list(&dashboard["templating"]["list"]).iter().filter_map(|variable| {
        let query = variable["query"]["query"].as_str()?.strip_prefix("label_values(")?;
        let (series, label) = query.strip_suffix(")")?.rsplit_once(", ")?;
        Some(format!("group by ({label}) ({series})"))
    });
    of_panels.chain(of_variables).collect()
}

/// A query for this claim, with ranges that a test can wait for.
fn substituted(query: &str, [namespace, claim]: [&str; 2]) -> String {
    let query = query.replace("=~\"$cluster\"", "=~\".*\"").replace("=~\"$namespace\"", "=~\".*\"");
    let query = query.replace("$namespace", namespace).replace("$claim", claim);
    let query = query.replace("[6h]", "[1m]").replace("$__rate_interval", "1m");
    assert!(!query.contains('$'), "{query}");
    query
}

#[test]
fn dashboards_are_what_their_script_writes() {
    if !is_there("python3", &["--version"]) {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    let script = copy.path().join("make.py");
    std::fs::copy(root().join(DIRECTORY).join("make.py"), &script).unwrap();
    stdout("python3", &[script.to_str().unwrap()], "");
    let texts = |directory: &str| files(directory, "json").iter().map(read).collect::<Vec<_>>();
    assert_eq!(files(DIRECTORY, "json"), FILES);
    let is_current = texts(copy.path().to_str().unwrap()) == texts(DIRECTORY);
    assert!(is_current, "run {DIRECTORY}/make.py: it writes other dashboards");
}

#[test]
fn panels_fit_and_query_existing_metrics_of_the_chosen_data_source() {
    for dashboard in dashboards() {
        let panels = list(&dashboard["panels"]);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        let mut taken = BTreeSet::new();
        for panel in panels {
            let title = text(&panel["title"]);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
            assert!(x + w <= 24, "{title}");
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{title} lies on another panel");
            }
            for part in list(&panel["targets"]).iter().chain((panel["type"] != "row").then_some(panel)) {
                assert_eq!(part["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
        let first = &dashboard["templating"]["list"][0];
        assert_eq!([text(&first["name"]), text(&first["type"])], ["datasource"; 2]);
        for query in queries(&dashboard) {
            assert_known(&substituted(&query, ["", ""]), &BTreeSet::new());
            // One Prometheus may hold several clusters.
            let clusters = ["cluster=~\"$cluster\"", "group by (cluster)"];
            assert!(clusters.iter().any(|part| query.contains(part)), "{query}");
        }
    }
}

#[test]
fn claim_dashboard_shows_one_claim_of_one_cluster() {
    let [dashboard, _] = dashboards();
    for target in list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"])) {
        let (query, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
        let (outermost, _) = query.split_once(" by (cluster").unwrap_or_else(|| panic!("{query}"));
        assert!(["max", "min", "group"].contains(&outermost), "{query}");
        // Other namespaces may have claims of that name.
        assert!(query.contains(r#"pvc_namespace="$namespace", pvc_name="$claim""#), "{query}");
        assert!(legend == "__auto" || legend.contains("{{cluster}}"), "{query} is shown as {legend}");
    }
}

/// The queries of all dashboards that get no answer from a node.
fn unanswered(node: &str, claim: [&str; 2]) -> BTreeSet<String> {
    let exporter = Exporter::start(&["--stat-timeout=500ms", &format!("--fixture=fixtures/nodes/{node}")]);
    let prometheus = Prometheus::start(&job("manifests/prometheus-scrape.yaml", exporter.address));
    // What changes needs two samples.
    prometheus.wait_for("count(count_over_time(pv_disk_usage_up[1m]) > 2)");
    // No series is lost on the way.
    let kept = prometheus.query("scrape_samples_post_metric_relabeling == scrape_samples_scraped");
    assert_eq!(kept.len(), 1);
    let scrape = exporter.scrape();
    for family in
        ["up", "bytes_total", "mount_info", "volume_info"].map(|name| format!("pv_disk_usage_{name}"))
    {
        let count = prometheus.query(&format!("count({family}) == {}", scrape.all(&family, &[]).len()));
        assert_eq!(count.len(), 1, "{family}");
    }
    let queries = dashboards().into_iter().flat_map(|dashboard| queries(&dashboard));
    let is_unanswered =
        |query: &String| prometheus.query(&format!("count({})", substituted(query, claim))).is_empty();
    queries.filter(is_unanswered).collect()
}

#[test]
fn every_series_is_taken_and_every_query_is_answered_by_a_node() {
    if is_there("prometheus", &["--version"]) {
        let with_errors = std::thread::spawn(|| unanswered("mixed", ["team-a", "half"]));
        let without_errors = unanswered("csi", ["shop", "csi-fs"]);
        let never: Vec<_> = without_errors.intersection(&with_errors.join().unwrap()).cloned().collect();
        assert_eq!(never, [""; 0]);
        // A node where all is well lacks errors alone.
        let other: Vec<_> =
            without_errors.iter().filter(|query| !query.contains("pv_disk_usage_error")).collect();
        assert_eq!(other, [""; 0]);
    }
}
