/// Values that users may give.
mod cases;
/// What single values make of the pods.
mod choices;
/// What Prometheus and Grafana are given.
mod monitoring;
/// Releases of any name, side by side and one after the other.
mod names;
/// What objects of the Prometheus Operator may say.
mod operator;
/// What objects may say.
mod types;

use std::collections::BTreeSet;
use std::path::Path;

use disk_usage_exporter::config::{Args, Config};
use serde_json::{Value, json};

use self::cases::cases;
use self::operator::{faults, is_known_here};
use crate::migration::{chart_values, compatible_values};
use crate::support::helm::{chart, is_helm_there, notes, released};
use crate::support::manifest::{Manifest, kustomized, list, text};
use crate::support::pod_security::unmet;

/// The chart with all those values; `None` where there is no Helm.
fn charted() -> Option<Vec<(Value, Manifest, &'static [&'static str])>> {
    is_helm_there().then(|| {
        let (values, rights): (Vec<Value>, Vec<_>) = cases().into_iter().unzip();
        let manifests = released(&chart(), &values);
        let manifests =
            manifests.into_iter().map(|manifest| manifest.unwrap_or_else(|error| panic!("{error}")));
        values.into_iter().zip(manifests).zip(rights).map(|((a, b), c)| (a, b, c)).collect()
    })
}

/// Their kinds have all that they say.
fn assert_known(objects: impl Iterator<Item = Value>) {
    let (operators, own): (Vec<Value>, Vec<Value>) =
        objects.partition(|object| text(&object["apiVersion"]).starts_with("monitoring.coreos.com/"));
    own.iter().for_each(types::assert_known);
    assert!(!operators.is_empty());
    if is_known_here() {
        assert_eq!(faults(&operators), [""; 0]);
    }
}

/// The chart with these values, which it takes.
fn with(values: Value) -> Manifest {
    released(&chart(), &[values]).remove(0).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_object_is_as_kubernetes_has_it() {
    let Some(charted) = charted() else { return };
    let overlays = ["hardened", "kubelet-only", "kubelet-names", "kubelet-only-compat"];
    let overlays = overlays.map(|overlay| kustomized(&format!("manifests/overlays/{overlay}")));
    let manifests =
        charted.into_iter().map(|(_, manifest, _)| manifest).chain(overlays.into_iter().flatten());
    assert_known(manifests.flat_map(|manifest| manifest.0));
}

#[test]
fn the_program_accepts_the_arguments() {
    let Some(charted) = charted() else { return };
    for (values, manifest, _) in charted {
        // Where the pods mount the node, this machine has its own root.
        let here = |arg: &&str| arg.replace("$(HOST_IP)", "127.0.0.1").replace("=/rootfs", "=/");
        let args = manifest.args();
        let typed = std::iter::once("program".into()).chain(args.iter().map(here));
        let checked = Config::try_from(Args::read(typed).unwrap_or_else(|error| panic!("{error}")));
        let config = checked.unwrap_or_else(|error| panic!("{values}: {error}"));
        let env = manifest.env();
        assert_eq!(env["HOST_IP"], "status.hostIP", "{values}");
        assert_eq!(env["NODE_NAME"], "spec.nodeName", "{values}");
        assert_eq!(
            manifest.ports().into_values().collect::<Vec<_>>(),
            [Some(config.serving.listen_port.into())]
        );
    }
}

#[test]
fn rights_follow_the_sources() {
    let Some(charted) = charted() else { return };
    for (values, manifest, rights) in charted {
        let roles = manifest.0.iter().filter(|object| object["kind"] == "ClusterRole");
        let granted: Vec<String> = roles
            .flat_map(|role| list(&role["rules"]))
            .map(|rule| {
                assert_eq!(rule["apiGroups"], json!([""]));
                let words = |field: &str| list(&rule[field]).iter().map(text).collect::<Vec<_>>().join(",");
                format!("{} {}", words("verbs"), words("resources"))
            })
            .collect();
        assert_eq!(granted, rights, "{values}");
        if !granted.is_empty() {
            let account = &manifest.the("ServiceAccount")["metadata"];
            let subject =
                json!({"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]});
            assert_eq!(manifest.the("ClusterRoleBinding")["subjects"], json!([subject]));
            assert_eq!(manifest.template()["spec"]["serviceAccountName"], account["name"]);
        }
    }
}

/// Objects by kind, without what Helm adds to their labels.
fn plain(manifest: &Manifest) -> Vec<Value> {
    let mut objects: Vec<Value> =
        manifest.0.iter().filter(|object| object["kind"] != "Namespace").cloned().collect();
    objects.iter_mut().for_each(without_helms_labels);
    objects.sort_by_key(|object| object["kind"].to_string());
    objects
}

fn without_helms_labels(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for label in ["instance", "version", "managed-by"] {
                fields.remove(&format!("app.kubernetes.io/{label}"));
            }
            fields.remove("helm.sh/chart");
            fields.values_mut().for_each(without_helms_labels);
        }
        Value::Array(items) => items.iter_mut().for_each(without_helms_labels),
        _ => {}
    }
}

#[test]
fn each_overlay_is_the_chart_with_a_value() {
    if !is_helm_there() {
        return;
    }
    for (values, overlay) in [
        (json!({}), "manifests"),
        (json!({"mode": "hardened"}), "manifests/overlays/hardened"),
        (json!({"mode": "kubeletOnly"}), "manifests/overlays/kubelet-only"),
        (json!({"kubeletVolumeStats": "missing"}), "manifests/overlays/kubelet-names"),
    ] {
        let Some(overlaid) = kustomized(overlay) else { return };
        assert_eq!(plain(&with(values)), plain(&overlaid), "{overlay}");
    }
    let chart = with(json!({"monitor": {"kind": "PodMonitor"}})).the("PodMonitor").clone();
    assert_eq!(plain(&Manifest(vec![chart])), [read("manifests/prometheus-podmonitor.yaml")]);
}

#[test]
fn migrations_values_are_like_the_go_exporters_overlay() {
    let overlay = "manifests/overlays/kubelet-only-compat";
    let Some(compat) = kustomized(overlay).filter(|_| is_helm_there()) else { return };
    let charted = with(compatible_values());
    assert_eq!(charted.the("Service")["metadata"]["name"], compat.the("Service")["metadata"]["name"]);
    for part in ["/metadata/annotations", "/spec/ports", "/spec/clusterIP"] {
        assert_eq!(charted.the("Service").pointer(part), compat.the("Service").pointer(part), "{part}");
    }
    assert_eq!(charted.template()["metadata"]["annotations"], compat.template()["metadata"]["annotations"]);
    assert_eq!(charted.ports(), compat.ports());
    let args = |manifest: &Manifest| -> BTreeSet<String> {
        let args = manifest.args().into_iter().filter(|arg| *arg != "--scrape-interval=30s");
        args.map(|arg| arg.replace("--metrics-port", "--listen-port")).collect()
    };
    assert_eq!(args(&charted), args(&compat));
}

#[test]
fn pods_that_ask_the_kubelet_alone_are_restricted() {
    let Some(charted) = charted() else { return };
    for (values, manifest, _) in charted {
        let restricted = unmet(manifest.template()).is_empty();
        assert_eq!(restricted, values["mode"] == "kubeletOnly", "{values}");
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    if !is_helm_there() {
        return;
    }
    let cases = [
        (json!({"modus": "hardened"}), "modus"),
        (json!({"mode": "Hardened"}), "/mode"),
        (json!({"kubelet": {"caFile": "/ca"}}), "caFile"),
        (json!({"sources": "mounts"}), "/sources"),
        (json!({"sources": ["node"]}), "/sources/0"),
        (json!({"sources": ["mounts", "mounts"]}), "/sources"),
        (json!({"mode": "kubeletOnly", "sources": ["mounts", "kubelet"]}), "/sources"),
        (json!({"mode": "kubeletOnly", "kubernetes": "required"}), "/kubernetes"),
        (json!({"mode": "kubeletOnly", "kubeletVolumeStats": "off"}), "/kubeletVolumeStats"),
        (json!({"sources": ["kubelet"], "kubernetes": "required"}), "/kubernetes"),
        (json!({"sources": ["kubelet"], "kubeletVolumeStats": false}), "/kubeletVolumeStats"),
        (json!({"kubernetes": true}), "/kubernetes"),
        (json!({"logLevel": "verbose"}), "/logLevel"),
        (json!({"port": 0}), "/port"),
        (json!({"port": "9274"}), "/port"),
        (json!({"portName": "a-name-that-is-too-long"}), "/portName"),
        (json!({"portName": "9274"}), "/portName"),
        (json!({"portName": "pv--metrics"}), "/portName"),
        (json!({"fullnameOverride": "a.b"}), "/fullnameOverride"),
        (json!({"fullnameOverride": "9a"}), "/fullnameOverride"),
        (json!({"nameOverride": "a".repeat(64)}), "/nameOverride"),
        (json!({"image": {"tag": 1.5}}), "/image/tag"),
        (json!({"kubelet": {"root": "var/lib/kubelet"}}), "/kubelet/root"),
        (json!({"kubelet": {"root": "/"}}), "/kubelet/root"),
        (json!({"kubelet": {"endpoint": "node:10250"}}), "/kubelet/endpoint"),
        (json!({"kubelet": {"endpoint": "https://node:10250/stats"}}), "/kubelet/endpoint"),
        (json!({"kubelet": {"scrapeInterval": "30"}}), "/kubelet/scrapeInterval"),
        (json!({"kubelet": {"insecureSkipTLSVerify": "true"}}), "/kubelet/insecureSkipTLSVerify"),
        (json!({"extraArgs": ["metrics"]}), "/extraArgs/0"),
        (json!({"image": {"repository": ""}}), "/image/repository"),
        (json!({"image": {"digest": "latest"}}), "/image/digest"),
        (json!({"token": {"expirationSeconds": 60}}), "/token/expirationSeconds"),
        (json!({"token": {"expirationSeconds": (1_u64 << 32) + 1}}), "/token/expirationSeconds"),
        (json!({"podAnnotations": {"prometheus.io/port": 9274}}), "/podAnnotations"),
        (json!({"monitor": {"kind": "podMonitor"}}), "/monitor/kind"),
        (json!({"monitor": {"interval": "1.5m"}}), "/monitor/interval"),
        (json!({"monitor": {"scrapeTimeout": "10s1m"}}), "/monitor/scrapeTimeout"),
        (json!({"monitor": {"relabelings": [{"target_label": "a"}]}}), "target_label"),
        (
            json!({"monitor": {"metricRelabelings": [{"action": "rename"}]}}),
            "/monitor/metricRelabelings/0/action",
        ),
        (
            json!({"monitor": {"asKubelet": true}, "kubeletVolumeStatsLabels": "pod"}),
            "/kubeletVolumeStatsLabels",
        ),
    ];
    let values: Vec<Value> = cases.iter().map(|(values, _)| values.clone()).collect();
    for ((values, at), released) in cases.iter().zip(released(&chart(), &values)) {
        let refused = released.err().unwrap_or_else(|| panic!("{values} is taken"));
        let named = if at.starts_with('/') { format!("at '{at}") } else { format!("'{at}' not allowed") };
        assert!(refused.contains(&named), "{values}: {refused}");
    }
}

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of values, with their parents', as far as the schema names them.
fn paths(schema: &Value, values: &Value, of: &str) -> BTreeSet<String> {
    let Some(known) = schema["properties"].as_object() else { return [of.to_owned()].into() };
    assert_eq!(schema["additionalProperties"], false, "{of}");
    let given = values.as_object().unwrap_or_else(|| panic!("{of} has no default"));
    let names = |fields: &serde_json::Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
    let mut known_names = names(known);
    known_names.remove("global");
    assert_eq!(known_names, names(given), "{of}");
    let below = given.iter().map(|(name, value)| (format!("{of}.{name}"), &known[name], value));
    below.flat_map(|(path, schema, value)| paths(schema, value, &path)).collect()
}

#[test]
fn the_schema_knows_the_values_and_migration_leads_to_them() {
    let known = paths(&read("manifests/chart/values.schema.json"), &read("manifests/chart/values.yaml"), "");
    let known: BTreeSet<&str> = known.iter().map(|path| path.trim_start_matches('.')).collect();
    let led_to = chart_values();
    assert!(led_to.len() > 10, "{led_to:?}");
    let is_known =
        |value: &str| known.iter().any(|path| *path == value || path.starts_with(&format!("{value}.")));
    let unknown: Vec<&String> = led_to.iter().filter(|value| !is_known(value)).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "of {known:?}");
}

#[test]
fn it_has_the_programs_version() {
    let chart = read("manifests/chart/Chart.yaml");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["description"], env!("CARGO_PKG_DESCRIPTION"));
}

#[test]
fn notes_tell_what_is_left_to_do() {
    if !is_helm_there() {
        return;
    }
    let usual = notes(json!({"port": 9999}));
    for part in
        ["kubectl label namespace disk-usage-exporter pod-security", "daemonset/disk-usage-exporter 9999\n"]
    {
        assert!(usual.contains(part), "{usual}");
    }
    assert!(usual.contains("Nothing scrapes them yet"), "{usual}");
    let only = notes(json!({"mode": "kubeletOnly", "monitor": {"kind": "PodMonitor"}}));
    assert!(!only.contains("pod-security") && !only.contains("Nothing scrapes"), "{only}");
    assert!(!usual.contains("\n\n\n") && !only.contains("\n\n\n"), "{usual}{only}");
}
