use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::exporter::Exporter;
use crate::support::prometheus::{Prometheus, job};
use crate::support::promql::assert_known;
use crate::support::tool::is_there;

const FILES: [&str; 2] = ["volumes.json", "claim.json"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/dashboards")
}

fn read(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(directory().join(file)).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// All that asks a dashboard's data source: panels' queries, and those of variables as queries of their own.
fn queries(dashboard: &Value) -> Vec<String> {
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    let of_panels = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
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
    std::fs::copy(directory().join("make.py"), &script).unwrap();
    assert!(Command::new("python3").arg(&script).status().unwrap().success());
    let json = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(json(copy.path()), FILES.map(str::to_owned).into());
    assert_eq!(json(&directory()), FILES.map(str::to_owned).into());
    for file in FILES {
        let read = |directory: &Path| std::fs::read_to_string(directory.join(file)).unwrap();
        assert!(
            read(copy.path()) == read(&directory()),
            "run manifests/dashboards/make.py: {file} is not its own"
        );
    }
}

#[test]
fn panels_fit_and_ask_the_chosen_data_source_for_what_there_is() {
    for file in FILES {
        let dashboard = read(file);
        let panels = list(&dashboard["panels"]);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        let mut taken = BTreeSet::new();
        for panel in panels {
            let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{} lies on another panel", panel["title"]);
                }
            }
            for part in list(&panel["targets"]).iter().chain((panel["type"] != "row").then_some(panel)) {
                assert_eq!(part["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            }
        }
        let variables = list(&dashboard["templating"]["list"]);
        assert_eq!(
            (&variables[0]["name"], &variables[0]["type"]),
            (&"datasource".into(), &"datasource".into())
        );
        for query in queries(&dashboard) {
            assert_known(&substituted(&query, ["", ""]), &BTreeSet::new());
            // One Prometheus may hold several clusters.
            assert!(
                query.contains("cluster=~\"$cluster\"") || query.contains("group by (cluster)"),
                "{query}"
            );
        }
    }
}

#[test]
fn a_claims_figures_are_of_one_claim_in_one_cluster() {
    let dashboard = read("claim.json");
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let (query, legend) =
                (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            let outermost = query.split_once(" by (cluster");
            assert!(
                outermost.is_some_and(|(function, _)| ["max", "min", "group"].contains(&function)),
                "{query}"
            );
            // Other namespaces may have claims of that name.
            assert!(query.contains(r#"pvc_namespace="$namespace", pvc_name="$claim""#), "{query}");
            assert!(legend == "__auto" || legend.contains("{{cluster}}"), "{query} is shown as {legend}");
        }
    }
}

/// Which queries of all dashboards have no answer from a node.
fn unanswered(node: &str, claim: [&str; 2]) -> BTreeSet<String> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes").join(node);
    let exporter = Exporter::start(&["--stat-timeout=500ms", &format!("--fixture={}", fixture.display())]);
    let prometheus = Prometheus::start(&job("manifests/prometheus-scrape.yaml", exporter.address));
    // What changes needs two samples.
    prometheus.wait_for("count(count_over_time(pv_disk_usage_up[1m]) > 2)");
    let queries = FILES.iter().flat_map(|file| queries(&read(file)));
    let count = |query: &String| prometheus.query(&format!("count({})", substituted(query, claim)));
    queries.filter(|query| count(query).is_empty()).collect()
}

#[test]
fn every_query_is_answered_by_a_node() {
    if is_there("prometheus", &["--version"]) {
        let without_errors = unanswered("csi", ["shop", "csi-fs"]);
        let with_errors = unanswered("mixed", ["team-a", "half"]);
        let never: Vec<_> = without_errors.intersection(&with_errors).collect();
        assert!(never.is_empty(), "{never:#?}");
        // Of a node where all is well only errors are missing.
        assert!(
            without_errors.iter().all(|query| query.contains("pv_disk_usage_error")),
            "{without_errors:#?}"
        );
    }
}
