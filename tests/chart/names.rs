use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{assert_known, charted};
use crate::support::helm::{chart, is_helm_there, released_as};
use crate::support::manifest::{Manifest, text};

fn release(names: [&str; 2], values: Value) -> Manifest {
    released_as(names, &chart(), &[values]).remove(0).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_looks_like_something_else_stays_text() {
    if !is_helm_there() {
        return;
    }
    let labels = json!({"app.kubernetes.io/name": "own", "a": "null"});
    let values = json!({
        "mode": "hardened",
        "sources": ["mounts", "kubelet"],
        "portName": "y",
        "pvLabels": "a\"b: {{ c }}",
        "kubelet": {"root": "/a: b #c", "ca": {"configMap": "1.5", "key": "a b"}, "serverName": "'\"\\"},
        "image": {"tag": "1.0"},
        "serviceAccount": {"name": "true", "annotations": {"a": "1"}},
        "priorityClass": {"create": false, "name": "0x1f"},
        "token": {"expirationSeconds": 31_536_000},
        "podLabels": labels,
        "podAnnotations": {"a": "1e3"},
        "nodeSelector": {"a": "true"},
        "service": {"enabled": true},
        "monitor": {"kind": "PodMonitor", "labels": labels, "interval": "1m"},
        "prometheusRule": {"enabled": true, "labels": labels},
        "dashboards": {"enabled": true, "labels": labels},
    });
    let manifest = release(["1e3", "007"], values);
    assert_known(manifest.0.iter().cloned());
    assert_eq!(manifest.the("DaemonSet")["metadata"]["namespace"], "007");
    // A user's labels win, but not over those by which pods are found.
    assert_eq!(manifest.the("PodMonitor")["metadata"]["labels"]["app.kubernetes.io/name"], "own");
    let selector = manifest.the("DaemonSet")["spec"]["selector"]["matchLabels"].as_object().unwrap();
    for (label, value) in selector {
        assert_eq!(manifest.template()["metadata"]["labels"][label], *value);
    }
    let args = manifest.args();
    for arg in ["--kubelet-root=/a: b #c", "--pv-labels=a\"b: {{ c }}", "--kubelet-server-name='\"\\"] {
        assert!(args.contains(&arg), "{args:?}");
    }
}

#[test]
fn releases_of_long_names_do_not_meet() {
    if !is_helm_there() {
        return;
    }
    let values = json!({
        "monitor": {"kind": "ServiceMonitor"}, "prometheusRule": {"enabled": true}, "dashboards": {"enabled": true},
    });
    // Helm takes 53 characters, and what they are followed by may end in a dash.
    let stem = "a".repeat(52);
    let both = ["b", "c"].map(|last| release([&format!("{stem}{last}"), "same"], values.clone()));
    let [names, others] = both.each_ref().map(Manifest::names);
    assert_eq!(names.intersection(&others).collect::<Vec<_>>(), Vec::<&[&str; 3]>::new());
    let short: BTreeSet<&str> = ["DaemonSet", "Service", "ServiceMonitor"].into();
    for [kind, _, name] in names.iter().filter(|[kind, ..]| short.contains(kind)) {
        assert!(name.len() <= 63 && !name.ends_with('-'), "{kind} {name}");
    }
}

#[test]
fn an_upgrade_changes_nothing_that_cannot_be_changed() {
    let Some(charted) = charted() else { return };
    let fixed = |kind: &str, at: &str| -> BTreeSet<String> {
        let renamed =
            |values: &Value| ["nameOverride", "fullnameOverride"].iter().any(|name| values[name].is_string());
        let manifests = charted.iter().filter(|(values, ..)| !renamed(values));
        let objects =
            manifests.flat_map(|(_, manifest, _)| &manifest.0).filter(|object| text(&object["kind"]) == kind);
        objects.map(|object| object.pointer(at).unwrap().to_string()).collect()
    };
    for (kind, at) in [
        ("DaemonSet", "/spec/selector"),
        ("ClusterRoleBinding", "/roleRef"),
        ("PriorityClass", "/value"),
        ("Service", "/spec/clusterIP"),
    ] {
        assert_eq!(fixed(kind, at).len(), 1, "{kind}{at}");
    }
}
