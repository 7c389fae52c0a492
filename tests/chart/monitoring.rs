use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{includes, with};
use crate::support::document::{files, yaml};
use crate::support::helm::{CHART, RELEASE, is_helm_there, releases};
use crate::support::manifest::{Manifest, list, text};

/// A scrape job's rules, with the operator's names of the fields.
fn rules(path: &str, field: &str) -> Vec<Value> {
    let config = &yaml(path)["scrape_configs"][0][field];
    let renamed =
        config.to_string().replace("source_labels", "sourceLabels").replace("target_label", "targetLabel");
    serde_json::from_str(&renamed).unwrap()
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
        let (port, _) = manifest.port();
        assert_eq!([&endpoint["honorLabels"], &endpoint["port"]], [&json!(true), &json!(port)], "{kind}");
        // The job has the same name: the label's value.
        let label = text(&spec["jobLabel"]);
        let job = &yaml("manifests/prometheus-scrape.yaml")["scrape_configs"][0]["job_name"];
        let labelled = if kind == "PodMonitor" { manifest.template() } else { manifest.the("Service") };
        assert_eq!(labelled["metadata"]["labels"][label], *job);
        // The operator keeps the ports and the running pods by itself, but adds labels of the exporter's own pod.
        let node = rules("manifests/prometheus-scrape.yaml", "relabel_configs").pop().unwrap();
        assert_eq!(node["targetLabel"], "node");
        let drop = json!({"action": "labeldrop", "regex": "namespace|pod|container|service|endpoint"});
        assert_eq!(endpoint["relabelings"], json!([node, drop]));
        // So these need not be emptied once more.
        let mut names = rules("manifests/prometheus-kubelet-names.yaml", "metric_relabel_configs");
        names.retain(|rule| rule["replacement"] != "");
        assert_eq!(list(&endpoint["metricRelabelings"]), names);
        // They select the pods, and the Service that lists them.
        assert!(includes(&labelled["metadata"]["labels"], &spec["selector"]["matchLabels"]), "{kind}");
        if kind == "ServiceMonitor" {
            let service = &manifest.the("Service")["spec"];
            assert_eq!(service["selector"], manifest.the("DaemonSet")["spec"]["selector"]["matchLabels"]);
            assert_eq!(service["ports"][0]["name"], port);
        }
    }
}

/// The objects of a kind by the name that follows the release's.
fn named<'a>(manifest: &'a Manifest, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let named = manifest.all(kind).map(|object| {
        let name = text(&object["metadata"]["name"]).strip_prefix(RELEASE).unwrap();
        (name.strip_prefix('-').unwrap(), object)
    });
    named.collect()
}

/// All shipped files are there as they are, and others that are put beside them.
#[test]
fn rules_and_dashboards_are_copied_unchanged() {
    if !is_helm_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("chart");
    assert!(Command::new("cp").arg("-rL").arg(CHART).arg(&copy).status().unwrap().success());
    let groups = json!([{"name": "a", "rules": [
        {"alert": "A", "expr": "up == 0", "annotations": {"summary": "{{ $labels.instance }} is gone"}},
    ]}]);
    let dashboard = "{\n  \"title\": \"{{ a }}\"\n}\n";
    std::fs::write(copy.join("rules/zz.yaml"), format!("# Why.\ngroups: {groups}\n")).unwrap();
    std::fs::write(copy.join("dashboards/zz.json"), dashboard).unwrap();
    let rules = files("manifests/rules", "yaml");
    let stem = |file: &String| Path::new(file).file_stem().unwrap().to_str().unwrap().to_owned();
    let stems: Vec<String> = rules.iter().map(stem).collect();
    let values = [
        json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true}}),
        json!({"prometheusRule": {"enabled": true, "exclude": stems}}),
        json!({}),
    ];
    let releases = releases(copy.to_str().unwrap(), [RELEASE, RELEASE], &values).into_iter();
    let [all, excluding, none] =
        releases.map(|release| release.unwrap().manifest).collect::<Vec<_>>().try_into().ok().unwrap();

    let mut specs: Vec<_> =
        rules.iter().zip(&stems).map(|(file, stem)| (stem.as_str(), yaml(file))).collect();
    specs.push(("zz", json!({"groups": groups})));
    let rule_specs = |manifest| {
        named(manifest, "PrometheusRule")
            .into_iter()
            .map(|(name, rule)| (name, rule["spec"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(rule_specs(&all), specs);
    // Each shipped file can be excluded.
    assert_eq!(rule_specs(&excluding), specs[stems.len()..]);
    let data = files("manifests/dashboards", "json").iter().map(stem).collect::<Vec<_>>();
    let maps = named(&all, "ConfigMap");
    assert_eq!(
        maps.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        [data.iter().map(String::as_str).collect(), vec!["zz"]].concat()
    );
    let (_, last) = maps.last().unwrap();
    assert_eq!(last["data"], json!({"zz.json": dashboard}));
    assert_eq!(last["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(none.all("PrometheusRule").chain(none.all("ConfigMap")).count(), 0);
}
