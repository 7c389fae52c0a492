use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::manifests::includes;
use crate::migration::chart_values;
use crate::support::document::{files, read, yaml};
use crate::support::helm::{CHART, RELEASE, released, releases};
use crate::support::manifest::{Manifest, list, text};

#[test]
fn meaningless_values_are_refused() {
    let cases: Vec<(String, Value)> = serde_saphyr::from_str(&read("tests/manifests/refused.yaml")).unwrap();
    let values: Vec<Value> = cases.iter().map(|(_, values)| values.clone()).collect();
    let Some(releases) = releases(CHART, [RELEASE, RELEASE], &values) else { return };
    for ((part, values), release) in cases.iter().zip(releases) {
        let error = release.err().unwrap_or_else(|| panic!("{values} is taken"));
        assert!(error.contains(part), "{values}: {error}");
    }
}

/// The names of values, with their parents', as far as the schema names them.
fn paths(schema: &Value, values: &Value, parent: &str) -> BTreeSet<String> {
    let Some(known) = schema["properties"].as_object() else { return [parent.to_owned()].into() };
    assert_eq!(schema["additionalProperties"], false, "{parent}");
    let given = values.as_object().unwrap_or_else(|| panic!("{parent} has no default"));
    let names: BTreeSet<_> = known.keys().filter(|name| *name != "global").collect();
    assert_eq!(names, given.keys().collect(), "{parent}");
    let below = given.iter().map(|(name, value)| (format!("{parent}.{name}"), &known[name], value));
    below.flat_map(|(path, schema, value)| paths(schema, value, &path)).collect()
}

#[test]
fn schema_has_the_values_and_those_of_the_migration() {
    let known = paths(&yaml("manifests/chart/values.schema.json"), &yaml("manifests/chart/values.yaml"), "");
    let migrated = chart_values();
    assert!(migrated.len() > 10, "{migrated:?}");
    let is_known =
        |value: &str| known.iter().any(|path| format!("{path}.").starts_with(&format!(".{value}.")));
    let unknown: Vec<&String> = migrated.iter().filter(|value| !is_known(value)).collect();
    assert_eq!(unknown, [""; 0], "of {known:?}");
}

#[test]
fn chart_has_the_programs_version() {
    let chart = yaml("manifests/chart/Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    let expected = [version, version, env!("CARGO_PKG_DESCRIPTION")];
    assert_eq!(["version", "appVersion", "description"].map(|field| text(&chart[field])), expected);
}

#[test]
fn notes_name_the_next_steps() {
    let values = [json!({"port": 9999}), json!({"mode": "kubeletOnly", "monitor": {"kind": "PodMonitor"}})];
    let Some(releases) = released(&values) else { return };
    let [default, monitored] = [&releases[0].notes, &releases[1].notes];
    let steps = ["kubectl label namespace disk-usage-exporter pod-security", "Nothing scrapes them yet"];
    assert_eq!(steps.map(|step| default.contains(step)), [true; 2], "{default}");
    assert!(default.contains("daemonset/disk-usage-exporter 9999\n"), "{default}");
    assert!(!monitored.contains("pod-security") && !monitored.contains("Nothing scrapes"), "{monitored}");
    assert!(!default.contains("\n\n\n") && !monitored.contains("\n\n\n"), "{default}{monitored}");
}

#[test]
fn releases_of_long_names_do_not_collide() {
    let enabled = json!({"enabled": true});
    let values =
        json!({"monitor": {"kind": "ServiceMonitor"}, "prometheusRule": enabled, "dashboards": enabled});
    // Helm takes 53 characters. Cut off before a suffix, a name may end in a dash.
    let names = ["b", "c"].map(|last| {
        let release = ["a".repeat(52).as_str(), last].concat();
        let releases = releases(CHART, [&release, "same"], std::slice::from_ref(&values))?;
        Some(releases[0].as_ref().unwrap().manifest.names())
    });
    let [Some(names), Some(others)] = names else { return };
    assert!(names.is_disjoint(&others), "{names:?}");
    for [kind, _, name] in &names {
        let is_limited = ["DaemonSet", "Service", "ServiceMonitor"].contains(&kind.as_str());
        assert!(!is_limited || name.len() <= 63 && !name.ends_with('-'), "{kind} {name}");
    }
}

/// A scrape job's rules, with the operator's names of the fields.
fn rules(path: &str, field: &str) -> Vec<Value> {
    let rules = yaml(path)["scrape_configs"][0][field].to_string();
    let renamed = rules.replace("source_labels", "sourceLabels").replace("target_label", "targetLabel");
    serde_json::from_str(&renamed).unwrap()
}

#[test]
fn monitors_do_what_the_scrape_jobs_do() {
    for (kind, endpoints) in [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")] {
        let values = json!({"monitor": {"kind": kind, "asKubelet": true}});
        let Some(releases) = released(&[values]) else { return };
        let manifest = &releases[0].manifest;
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
    // Others are put beside those that are shipped.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("chart");
    assert!(Command::new("cp").arg("-rL").arg(CHART).arg(&copy).status().unwrap().success());
    let alert =
        json!({"alert": "A", "expr": "up == 0", "annotations": {"summary": "{{ $labels.job }} is gone"}});
    let rules = format!("# Why.\ngroups: [{{name: a, rules: [{alert}]}}]\n");
    std::fs::write(copy.join("rules/zz.yaml"), rules).unwrap();
    std::fs::write(copy.join("dashboards/zz.json"), "{\n  \"title\": \"{{ a }}\"\n}\n").unwrap();
    let of = |directory: &str, extension| files(copy.join(directory).to_str().unwrap(), extension);
    let stem = |file: &String| Path::new(file).file_stem().unwrap().to_str().unwrap().to_owned();
    let rules: Vec<_> = of("rules", "yaml").iter().map(|file| (stem(file), yaml(file))).collect();
    let shipped: Vec<&String> = rules.iter().map(|(name, _)| name).filter(|name| *name != "zz").collect();
    let schema = yaml("manifests/chart/values.schema.json");
    let excludable = &schema["properties"]["prometheusRule"]["properties"]["exclude"]["items"]["enum"];
    assert_eq!(*excludable, json!(shipped));
    let values = [
        json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true}}),
        json!({"prometheusRule": {"enabled": true, "exclude": shipped[1..]}}),
        json!({}),
    ];
    let Some(releases) = releases(copy.to_str().unwrap(), [RELEASE, RELEASE], &values) else { return };
    let [all, excluding, none] = [0, 1, 2].map(|index| &releases[index].as_ref().unwrap().manifest);
    assert_eq!(fields(all, "PrometheusRule", "spec"), rules);
    assert_eq!(
        fields(excluding, "PrometheusRule", "spec"),
        [&rules[0], rules.last().unwrap()].map(Clone::clone)
    );
    let dashboards = of("dashboards", "json");
    let data =
        dashboards.iter().map(|file| (stem(file), json!({format!("{}.json", stem(file)): read(file)})));
    assert_eq!(fields(all, "ConfigMap", "data"), data.collect::<Vec<_>>());
    let maps: Vec<_> =
        all.all("ConfigMap").map(|map| &map["metadata"]["labels"]["grafana_dashboard"]).collect();
    assert!(maps.iter().all(|label| **label == "1"), "{maps:?}");
    assert_eq!(none.all("PrometheusRule").chain(none.all("ConfigMap")).count(), 0);
}
