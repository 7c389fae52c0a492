use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{read, with};
use crate::support::helm::{RELEASE, chart, is_helm_there, released};
use crate::support::manifest::{Manifest, list, text};

/// A scrape job's rules, by the operator's names.
fn rules(path: &str, field: &str) -> Vec<Value> {
    let camel = |name: &str| match name {
        "source_labels" => "sourceLabels".to_owned(),
        "target_label" => "targetLabel".to_owned(),
        other => other.to_owned(),
    };
    let config = read(path);
    let rules = list(&config["scrape_configs"][0][field]).iter();
    rules
        .map(|rule| {
            rule.as_object().unwrap().iter().map(|(name, value)| (camel(name), value.clone())).collect()
        })
        .collect()
}

#[test]
fn monitors_do_what_the_scrape_jobs_do() {
    if !is_helm_there() {
        return;
    }
    for (kind, endpoints) in [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")] {
        let manifest = with(json!({"monitor": {"kind": kind, "asKubelet": true}}));
        let spec = &manifest.the(kind)["spec"];
        let endpoint = &spec[endpoints][0];
        assert_eq!(endpoint["honorLabels"], true);
        assert_eq!(manifest.ports().into_keys().collect::<Vec<_>>(), [&endpoint["port"]]);
        // The job of the same name: the label's value.
        let label = text(&spec["jobLabel"]);
        let job = &read("manifests/prometheus-scrape.yaml")["scrape_configs"][0]["job_name"];
        let labelled = if kind == "PodMonitor" { manifest.template() } else { manifest.the("Service") };
        assert_eq!(labelled["metadata"]["labels"][label], *job);
        // The operator keeps the ports and the living by itself, but adds labels of the exporter's own pod.
        let node = rules("manifests/prometheus-scrape.yaml", "relabel_configs").pop().unwrap();
        assert_eq!(node["targetLabel"], "node");
        let drop = json!({"action": "labeldrop", "regex": "namespace|pod|container|service|endpoint"});
        assert_eq!(endpoint["relabelings"], json!([node, drop]));
        // Which is why these need not be emptied once more.
        let mut names = rules("manifests/prometheus-kubelet-names.yaml", "metric_relabel_configs");
        names.retain(|rule| rule["replacement"] != "");
        assert_eq!(list(&endpoint["metricRelabelings"]), names);
        // They select the pods, and the Service that lists them.
        let selected = spec["selector"]["matchLabels"].as_object().unwrap();
        for (name, value) in selected {
            assert_eq!(labelled["metadata"]["labels"][name], *value);
        }
        if kind == "ServiceMonitor" {
            let service = manifest.the("Service");
            assert_eq!(
                service["spec"]["selector"],
                manifest.the("DaemonSet")["spec"]["selector"]["matchLabels"]
            );
            assert_eq!(service["spec"]["ports"][0]["name"], endpoint["port"]);
        }
    }
}

#[test]
fn rules_and_dashboards_are_taken_as_they_are() {
    if !is_helm_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copied = directory.path().join("chart");
    assert!(Command::new("cp").arg("-rL").arg(chart()).arg(&copied).status().unwrap().success());
    let groups = json!([{"name": "a", "rules": [
        {"alert": "A", "expr": "up == 0", "annotations": {"summary": "{{ $labels.instance }} is gone"}},
    ]}]);
    let dashboard = "{\n  \"title\": \"{{ a }}\"\n}\n";
    for (kind, file, text) in [
        ("rules", "zz.yaml", format!("# Why.\ngroups: {groups}\n")),
        ("dashboards", "zz.json", dashboard.to_owned()),
    ] {
        std::fs::create_dir_all(copied.join(kind)).unwrap();
        std::fs::write(copied.join(kind).join(file), text).unwrap();
    }
    let values = json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true}});
    let mut both = released(&copied, &[values, json!({})]).into_iter().map(Result::unwrap);
    let manifest = both.next().unwrap();
    let name = format!("{RELEASE}-zz");
    let the = |kind: &str| {
        let found =
            manifest.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    assert_eq!(the("PrometheusRule")["spec"], json!({"groups": groups}));
    assert_eq!(the("ConfigMap")["data"], json!({"zz.json": dashboard}));
    assert_eq!(the("ConfigMap")["metadata"]["labels"]["grafana_dashboard"], "1");
    let off = both.next().unwrap();
    assert!(off.0.iter().all(|object| object["kind"] != "PrometheusRule" && object["kind"] != "ConfigMap"));
}

#[test]
fn the_shipped_rules_and_dashboards_are_all_there() {
    if !is_helm_there() {
        return;
    }
    let manifest = with(json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true}}));
    let shipped = |directory: &str, extension: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
        paths.map(|path| format!("{RELEASE}-{}", path.file_stem().unwrap().to_str().unwrap())).collect()
    };
    let named = |manifest: &Manifest, kind: &str| -> BTreeSet<String> {
        let found = manifest.0.iter().filter(|object| object["kind"] == kind);
        found.map(|object| text(&object["metadata"]["name"]).to_owned()).collect()
    };
    assert_eq!(named(&manifest, "PrometheusRule"), shipped("manifests/rules", "yaml"));
    assert_eq!(named(&manifest, "ConfigMap"), shipped("manifests/dashboards", "json"));
    for object in manifest.0.iter().filter(|object| object["kind"] == "PrometheusRule") {
        let file = text(&object["metadata"]["name"]).replace(&format!("{RELEASE}-"), "");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("manifests/rules/{file}.yaml"));
        let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(object["spec"], rules, "{file}");
    } // Each can be left out; README.md tells when.
    let known = &read("manifests/chart/values.schema.json")["properties"]["prometheusRule"]["properties"];
    let excluded: BTreeSet<String> = list(&known["exclude"]["items"]["enum"])
        .iter()
        .map(|file| format!("{RELEASE}-{}", text(file)))
        .collect();
    assert_eq!(excluded, named(&manifest, "PrometheusRule"));
    let exclude = json!(["kubelet-volume-stats", "pv-disk-usage"]);
    let only = with(json!({"prometheusRule": {"enabled": true, "exclude": exclude}}));
    assert_eq!(named(&only, "PrometheusRule"), [format!("{RELEASE}-exporter")].into());
}
