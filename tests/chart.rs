/// The rules, dashboards and monitors of a release.
mod monitoring;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::manifests::assert_known;
use crate::migration::chart_values;
use crate::support::document::{read, yaml};
use crate::support::helm::{CHART, RELEASE, is_helm_there, releases};
use crate::support::manifest::text;

#[test]
fn meaningless_values_are_refused() {
    if !is_helm_there() {
        return;
    }
    let cases: Vec<(String, Value)> = serde_saphyr::from_str(&read("tests/chart/refused.yaml")).unwrap();
    let values: Vec<Value> = cases.iter().map(|(_, values)| values.clone()).collect();
    for ((part, values), release) in cases.iter().zip(releases(CHART, [RELEASE, RELEASE], &values)) {
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
    if !is_helm_there() {
        return;
    }
    let values = [json!({"port": 9999}), json!({"mode": "kubeletOnly", "monitor": {"kind": "PodMonitor"}})];
    let mut releases = releases(CHART, [RELEASE, RELEASE], &values).into_iter().map(Result::unwrap);
    let [default, monitored] = [(); 2].map(|()| releases.next().unwrap().notes);
    let steps = ["kubectl label namespace disk-usage-exporter pod-security", "Nothing scrapes them yet"];
    assert_eq!(steps.map(|step| default.contains(step)), [true; 2], "{default}");
    assert!(default.contains("daemonset/disk-usage-exporter 9999\n"), "{default}");
    assert!(!monitored.contains("pod-security") && !monitored.contains("Nothing scrapes"), "{monitored}");
    assert!(!default.contains("\n\n\n") && !monitored.contains("\n\n\n"), "{default}{monitored}");
}

#[test]
fn releases_of_odd_names_are_valid_and_do_not_collide() {
    if !is_helm_there() {
        return;
    }
    let enabled = json!({"enabled": true});
    let values =
        json!({"monitor": {"kind": "ServiceMonitor"}, "prometheusRule": enabled, "dashboards": enabled});
    let release = |name: &str, namespace| {
        let release = releases(CHART, [name, namespace], std::slice::from_ref(&values)).remove(0);
        release.unwrap_or_else(|error| panic!("{error}")).manifest
    };
    let like_number = release("1e3", "007");
    assert_eq!(like_number.the("DaemonSet")["metadata"]["namespace"], "007");
    assert_known(like_number.0.into_iter());
    // Helm takes 53 characters. Cut off before a suffix, a name may end in a dash.
    let names = ["b", "c"].map(|last| release(&["a".repeat(52).as_str(), last].concat(), "same").names());
    assert!(names[0].is_disjoint(&names[1]), "{names:?}");
    for [kind, _, name] in &names[0] {
        let is_limited = ["DaemonSet", "Service", "ServiceMonitor"].contains(&kind.as_str());
        assert!(!is_limited || name.len() <= 63 && !name.ends_with('-'), "{kind} {name}");
    }
}
