use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::manifests::includes;
use crate::support::document::{files, read, yaml};
use crate::support::helm::{CHART, RELEASE, is_helm_there, released, releases};
use crate::support::manifest::{Manifest, list, text};

/// A scrape job's rules, with the operator's names of the fields.
fn rules(path: &str, field: &str) -> Vec<Value> {
    let rules = yaml(path)["scrape_configs"][0][field].to_string();
    let renamed = rules.replace("source_labels", "sourceLabels").replace("target_label", "targetLabel");
    serde_json::from_str(&renamed).unwrap()
}

#[test]
fn monitors_do_what_the_scrape_jobs_do() {
    if !is_helm_there() {
        return;
    }
    for (kind, endpoints) in [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")] {
        let manifest = released(&[json!({"monitor": {"kind": kind, "asKubelet": true}})]).remove(0);
        let spec = &manifest.the(kind)["spec"];
        let endpoint = &spec[endpoints][0];
        let (port, _) = manifest.port();
        assert_eq!([&endpoint["honorLabels"], &endpoint["port"]], [&json!(true), &json!(port)], "{kind}");
        // The job has the same name: the label's value.
        let job = &yaml("manifests/prometheus-scrape.yaml")["scrape_configs"][0]["job_name"];
        let selected = if kind == "PodMonitor" { manifest.template() } else { manifest.the("Service") };
        let labels = &selected["metadata"]["labels"];
        assert_eq!(labels[text(&spec["jobLabel"])], *job);
        // The operator keeps the ports and the running pods by itself, but adds labels of the exporter's own pod.
        let node = rules("manifests/prometheus-scrape.yaml", "relabel_configs").pop().unwrap();
        assert_eq!(node["targetLabel"], "node");
        let drop = json!({"action": "labeldrop", "regex": "namespace|pod|container|service|endpoint"});
        assert_eq!(endpoint["relabelings"], json!([node, drop]));
        // So these need not be emptied once more.
        let mut names = rules("manifests/prometheus-kubelet-names.yaml", "metric_relabel_configs");
        names.retain(|rule| rule["replacement"] != "");
        assert_eq!(list(&endpoint["metricRelabelings"]), names);
        assert!(includes(labels, &spec["selector"]["matchLabels"]), "{kind}");
        for service in manifest.all("Service") {
            assert_eq!(service["spec"]["ports"][0]["name"], port);
        }
    }
}

/// The fields of all objects of a kind, by the name that follows the release's.
fn fields(manifest: &Manifest, kind: &str, field: &str) -> Vec<(String, Value)> {
    let fields = manifest.all(kind).map(|object| {
        let name = text(&object["metadata"]["name"]).replacen(&format!("{RELEASE}-"), "", 1);
        (name, object[field].clone())
    });
    fields.collect()
}

#[test]
fn rules_and_dashboards_are_copied_unchanged() {
    if !is_helm_there() {
        return;
    }
    // Others are put beside those that are shipped.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("chart");
    assert!(Command::new("cp").arg("-rL").arg(CHART).arg(&copy).status().unwrap().success());
    let groups = json!([{"name": "a", "rules": [
        {"alert": "A", "expr": "up == 0", "annotations": {"summary": "{{ $labels.instance }} is gone"}},
    ]}]);
    std::fs::write(copy.join("rules/zz.yaml"), format!("# Why.\ngroups: {groups}\n")).unwrap();
    std::fs::write(copy.join("dashboards/zz.json"), "{\n  \"title\": \"{{ a }}\"\n}\n").unwrap();
    let named = |file: &String| {
        let path = Path::new(file);
        let [stem, name] =
            [path.file_stem(), path.file_name()].map(|name| name.unwrap().to_str().unwrap().to_owned());
        (stem, name)
    };
    let shipped = files("manifests/rules", "yaml");
    let exclude: Vec<String> = shipped.iter().map(|file| named(file).0).collect();
    let schema = yaml("manifests/chart/values.schema.json");
    let excludable = &schema["properties"]["prometheusRule"]["properties"]["exclude"]["items"]["enum"];
    assert_eq!(*excludable, json!(exclude));
    let values = [
        json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true}}),
        json!({"prometheusRule": {"enabled": true, "exclude": exclude}}),
        json!({}),
    ];
    let mut releases = releases(copy.to_str().unwrap(), [RELEASE, RELEASE], &values).into_iter();
    let [all, excluding, none] = [(); 3].map(|()| releases.next().unwrap().unwrap().manifest);

    let added = ("zz".to_owned(), json!({"groups": groups}));
    let mut specs: Vec<_> = shipped.iter().map(|file| (named(file).0, yaml(file))).collect();
    specs.push(added.clone());
    assert_eq!(fields(&all, "PrometheusRule", "spec"), specs);
    assert_eq!(fields(&excluding, "PrometheusRule", "spec"), [added]);
    let dashboards = files(copy.join("dashboards").to_str().unwrap(), "json");
    let data = dashboards.iter().map(|file| (named(file).0, json!({named(file).1: read(file)})));
    assert_eq!(fields(&all, "ConfigMap", "data"), data.collect::<Vec<_>>());
    let maps: Vec<_> =
        all.all("ConfigMap").map(|map| &map["metadata"]["labels"]["grafana_dashboard"]).collect();
    assert!(maps.iter().all(|label| **label == "1"), "{maps:?}");
    assert_eq!(none.all("PrometheusRule").chain(none.all("ConfigMap")).count(), 0);
}
