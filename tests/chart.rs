/// The rules, dashboards and monitors of a release.
mod monitoring;
/// Whether objects are of Kubernetes' and the Prometheus Operator's types.
mod types;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use disk_usage_exporter::config::{Args, Config};
use serde_json::{Value, json};

use self::types::assert_known;
use crate::migration::{chart_values, compatible_values};
use crate::support::document::{read, yaml};
use crate::support::helm::{CHART, RELEASE, is_helm_there, released, releases};
use crate::support::manifest::{Manifest, list, text};
use crate::support::pod_security::unmet;

/// Values that users may give, and what they get.
struct Case {
    values: Value,
    /// The rules of the `ClusterRole`, such as `get persistentvolumes`.
    rights: Value,
    chart: Manifest,
    /// The kustomization of the same objects.
    overlay: Option<Manifest>,
}

/// `None` where there is no Helm or no `kubectl`.
static CASES: LazyLock<Option<Vec<Case>>> = LazyLock::new(|| {
    let compatible = json!({
        "values": compatible_values(),
        "rights": ["get nodes/stats"],
        "overlay": "manifests/overlays/kubelet-only-compat",
    });
    let cases = [list(&yaml("tests/chart/cases.yaml")), &[compatible]].concat();
    let values: Vec<Value> = cases.iter().map(|case| case["values"].clone()).collect();
    let charts = is_helm_there().then(|| released(&values))?;
    let cases = cases.into_iter().zip(values).zip(charts).map(|((case, values), chart)| {
        let overlay = case["overlay"].as_str().map(|overlay| Manifest::kustomized(overlay).ok_or(()));
        Some(Case { values, rights: case["rights"].clone(), chart, overlay: overlay.transpose().ok()? })
    });
    cases.collect()
});

/// The chart and the kustomization of each case.
fn all() -> impl Iterator<Item = (&'static Case, &'static Manifest)> {
    let cases = CASES.iter().flatten();
    cases.flat_map(|case| {
        std::iter::once(&case.chart).chain(&case.overlay).map(move |manifest| (case, manifest))
    })
}

/// The chart with these values, which it takes.
fn with(values: Value) -> Manifest {
    released(&[values]).remove(0)
}

#[test]
fn every_object_is_of_its_type() {
    assert_known(all().flat_map(|(_, manifest)| manifest.0.clone()));
}

#[test]
fn program_accepts_the_arguments() {
    for (Case { values, .. }, manifest) in all() {
        // Where the pods mount the node, this machine has its own root.
        let here = |arg: &&str| arg.replace("$(HOST_IP)", "127.0.0.1").replace("=/rootfs", "=/");
        let args = manifest.args();
        let args = Args::read(std::iter::once("program".into()).chain(args.iter().map(here)));
        let args = args.unwrap_or_else(|error| panic!("{values}: {error}"));
        let config = Config::try_from(args).unwrap_or_else(|error| panic!("{values}: {error}"));
        let container = manifest.container();
        let field =
            |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let env = [field("HOST_IP", "status.hostIP"), field("NODE_NAME", "spec.nodeName")];
        assert_eq!(list(&container["env"])[..2], env, "{values}");
        let (name, number) = manifest.port();
        assert_eq!(number, u64::from(config.serving.listen_port), "{values}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": name}), "{values}: {probe}");
        }
    }
}

#[test]
fn rights_follow_the_sources() {
    for (Case { values, rights, .. }, manifest) in all() {
        let rules = manifest.all("ClusterRole").flat_map(|role| list(&role["rules"]));
        let granted = rules.map(|rule| {
            let words = |field: &str| list(&rule[field]).iter().map(text).collect::<Vec<_>>().join(",");
            assert_eq!(words("apiGroups"), "", "{values}");
            format!("{} {}", words("verbs"), words("resources"))
        });
        assert_eq!(json!(granted.collect::<Vec<_>>()), *rights, "{values}");
        let pod = &manifest.template()["spec"];
        if !list(rights).is_empty() {
            let account = &manifest.the("ServiceAccount")["metadata"];
            let subject =
                json!({"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]});
            assert_eq!(manifest.the("ClusterRoleBinding")["subjects"], json!([subject]), "{values}");
            assert_eq!(pod["serviceAccountName"], account["name"], "{values}");
        }
        let restricted = unmet(manifest.template()).is_empty();
        assert_eq!(restricted, values["mode"] == "kubeletOnly", "{values}");
    }
}

/// Objects by kind, without what Helm adds to their labels.
fn plain(manifest: &Manifest) -> Vec<Value> {
    let mut objects: Vec<Value> =
        manifest.0.iter().filter(|object| object["kind"] != "Namespace").cloned().collect();
    objects.iter_mut().for_each(remove_helms_labels);
    objects.sort_by_key(|object| object["kind"].to_string());
    objects
}

fn remove_helms_labels(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let added =
                ["app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"];
            fields.retain(|name, _| name != "helm.sh/chart" && !added.contains(&name.as_str()));
            fields.values_mut().for_each(remove_helms_labels);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_helms_labels),
        _ => {}
    }
}

#[test]
fn each_overlay_is_the_chart_with_a_value() {
    let Some(cases) = &*CASES else { return };
    let (compatible, cases) = cases.split_last().unwrap();
    let overlays = cases.iter().filter_map(|case| Some((&case.values, &case.chart, case.overlay.as_ref()?)));
    for (values, chart, overlay) in overlays {
        assert_eq!(plain(chart), plain(overlay), "{values}");
    }
    let monitor = with(json!({"monitor": {"kind": "PodMonitor"}})).the("PodMonitor").clone();
    assert_eq!(plain(&Manifest(vec![monitor])), [yaml("manifests/prometheus-podmonitor.yaml")]);

    // The names are the release's there, and the default interval is not given.
    let [chart, overlay] = [&compatible.chart, compatible.overlay.as_ref().unwrap()];
    for part in ["/metadata/name", "/metadata/annotations", "/spec/ports", "/spec/clusterIP"] {
        assert_eq!(chart.the("Service").pointer(part), overlay.the("Service").pointer(part), "{part}");
    }
    assert_eq!(chart.template()["metadata"]["annotations"], overlay.template()["metadata"]["annotations"]);
    assert_eq!(chart.port(), overlay.port());
    let args = |manifest: &Manifest| -> BTreeSet<String> {
        let args = manifest.args().into_iter().filter(|arg| *arg != "--scrape-interval=30s");
        args.map(|arg| arg.replace("--metrics-port", "--listen-port")).collect()
    };
    assert_eq!(args(chart), args(overlay));
}

#[test]
fn upgrades_change_no_immutable_field() {
    let is_renamed =
        |values: &Value| ["nameOverride", "fullnameOverride"].iter().any(|name| values[name].is_string());
    let charts = CASES.iter().flatten().filter(|case| !is_renamed(&case.values));
    let charts: Vec<&Manifest> = charts.map(|case| &case.chart).collect();
    for (kind, field) in [
        ("DaemonSet", "/spec/selector"),
        ("ClusterRoleBinding", "/roleRef"),
        ("PriorityClass", "/value"),
        ("Service", "/spec/clusterIP"),
    ] {
        let objects = charts.iter().flat_map(|chart| chart.all(kind));
        let values: BTreeSet<_> = objects.map(|object| object.pointer(field).unwrap().to_string()).collect();
        assert!(values.len() == 1 || charts.is_empty(), "{kind}{field}: {values:?}");
    }
}

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
    let notes =
        releases(CHART, [RELEASE, RELEASE], &values).into_iter().map(|release| release.unwrap().notes);
    let [default, monitored] = notes.collect::<Vec<_>>().try_into().unwrap();
    let steps = [
        "kubectl label namespace disk-usage-exporter pod-security",
        "daemonset/disk-usage-exporter 9999\n",
        "Nothing scrapes them yet",
    ];
    assert_eq!(steps.map(|step| default.contains(step)), [true; 3], "{default}");
    assert!(!monitored.contains("pod-security") && !monitored.contains("Nothing scrapes"), "{monitored}");
    assert!(!default.contains("\n\n\n") && !monitored.contains("\n\n\n"), "{default}{monitored}");
}

#[test]
fn pods_have_the_chosen_priority() {
    if !is_helm_there() {
        return;
    }
    for (class, made, used) in [
        (json!({}), Some(RELEASE), json!(RELEASE)),
        (json!({"name": "high"}), Some("high"), json!("high")),
        (json!({"create": false, "name": "high"}), None, json!("high")),
        (json!({"create": false}), None, Value::Null),
    ] {
        let manifest = with(json!({"priorityClass": class}));
        let names: Vec<_> =
            manifest.all("PriorityClass").map(|object| text(&object["metadata"]["name"])).collect();
        assert_eq!(names, Vec::from_iter(made), "{class}");
        assert_eq!(manifest.template()["spec"]["priorityClassName"], used, "{class}");
    }
}

#[test]
fn kubelet_elsewhere_is_mounted_in_its_place() {
    if !is_helm_there() {
        return;
    }
    let root = "/var/lib/k0s/kubelet";
    let hardened = with(json!({"mode": "hardened", "kubelet": {"root": root}}));
    assert_eq!(hardened.args(), ["--rootfs=/rootfs", &format!("--kubelet-root={root}")]);
    assert_eq!(hardened.container()["volumeMounts"][0]["mountPath"], format!("/rootfs{root}"));
    assert_eq!(hardened.template()["spec"]["volumes"][0]["hostPath"]["path"], root);

    let ca = json!({"configMap": "authority", "key": "bundle.pem"});
    let only = with(json!({"mode": "kubeletOnly", "kubelet": {"ca": ca, "root": root}}));
    let mount = &only.container()["volumeMounts"][1];
    assert!(only.args().contains(&&*format!("--kubelet-ca-file={}/bundle.pem", text(&mount["mountPath"]))));
    let volume = json!({"name": mount["name"], "configMap": {"name": "authority"}});
    assert_eq!(only.template()["spec"]["volumes"][1], volume);
    let unused = with(json!({"kubelet": {"ca": ca, "serverName": "node"}}));
    assert_eq!(plain(&unused), plain(&with(json!({}))));
}

/// A release with these values, which the chart takes.
fn release(names: [&str; 2], values: Value) -> Manifest {
    releases(CHART, names, &[values]).remove(0).unwrap_or_else(|error| panic!("{error}")).manifest
}

#[test]
fn text_that_looks_like_other_types_stays_text() {
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
    let selector = &manifest.the("DaemonSet")["spec"]["selector"]["matchLabels"];
    assert!(includes(&manifest.template()["metadata"]["labels"], selector), "{selector}");
    let args = manifest.args();
    for arg in ["--kubelet-root=/a: b #c", "--pv-labels=a\"b: {{ c }}", "--kubelet-server-name='\"\\"] {
        assert!(args.contains(&arg), "{args:?}");
    }
}

/// Whether labels have all that a selector asks for.
fn includes(labels: &Value, selector: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn releases_of_long_names_do_not_collide() {
    if !is_helm_there() {
        return;
    }
    let enabled = json!({"enabled": true});
    let values =
        json!({"monitor": {"kind": "ServiceMonitor"}, "prometheusRule": enabled, "dashboards": enabled});
    // Helm takes 53 characters. Cut off before a suffix, a name may end in a dash.
    let names = ["b", "c"]
        .map(|last| release([&["a".repeat(52).as_str(), last].concat(), "same"], values.clone()).names());
    assert!(names[0].is_disjoint(&names[1]), "{names:?}");
    for [kind, _, name] in &names[0] {
        let is_limited = ["DaemonSet", "Service", "ServiceMonitor"].contains(&kind.as_str());
        assert!(!is_limited || name.len() <= 63 && !name.ends_with('-'), "{kind} {name}");
    }
}
