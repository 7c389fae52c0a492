/// Whether objects are of Kubernetes' and the Prometheus Operator's types.
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use disk_usage_exporter::config::{Args, Config};
use serde_json::{Value, json};

use self::types::assert_known;
use crate::migration::compatible_values;
use crate::support::document::{read, yaml};
use crate::support::helm::{CHART, released, releases};
use crate::support::manifest::{Manifest, list, text};
use crate::support::pod_security::unmet;

/// The cases of a table, each with what makes the objects, and these. Nothing where there is no Helm.
static CASES: LazyLock<Vec<(Value, &str, Manifest)>> = LazyLock::new(|| {
    let mut cases = list(&yaml("tests/manifests/cases.yaml")).to_vec();
    for case in cases.iter_mut().filter(|case| case["values"] == "migration") {
        case["values"] = compatible_values();
    }
    let values: Vec<Value> = cases.iter().map(|case| case["values"].clone()).collect();
    let releases = cases.iter().zip(released(&values).unwrap_or_default());
    let charts =
        releases.map(|(case, release)| (case.clone(), "chart", release.manifest)).collect::<Vec<_>>();
    let overlays = charts.iter().filter_map(|(case, ..)| {
        Some((case.clone(), "overlay", Manifest::kustomized(case["overlay"].as_str()?)?))
    });
    overlays.collect::<Vec<_>>().into_iter().chain(charts).collect()
});

#[test]
fn every_object_is_of_its_type() {
    let mut objects: Vec<Value> = CASES.iter().flat_map(|(.., manifest)| manifest.0.clone()).collect();
    // Names that look like numbers.
    let values = json!({"monitor": {"kind": "PodMonitor"}, "prometheusRule": {"enabled": true}});
    for release in releases(CHART, ["1e3", "007"], &[values]).into_iter().flatten() {
        let manifest = release.unwrap().manifest;
        assert_eq!(manifest.the("DaemonSet")["metadata"]["namespace"], "007");
        objects.extend(manifest.0);
    }
    objects.extend(Manifest::parse(&read("manifests/prometheus-rules/rules.yaml")).0);
    assert_known(objects);
}

#[test]
fn program_accepts_the_settings() {
    for (case, _, manifest) in &*CASES {
        let values = &case["values"];
        // Where the pods mount the node, this machine has its own root.
        let here = |arg: &String| arg.replace("$(HOST_IP)", "127.0.0.1").replace("=/rootfs", "=/");
        let settings = manifest.settings();
        let config = |command: Option<&str>| {
            let line = std::iter::once("program".to_owned()).chain(settings.iter().map(here));
            let args = Args::read(line.chain(command.map(Into::into)));
            let config = Config::try_from(args.unwrap_or_else(|error| panic!("{values}: {error}")));
            config.unwrap_or_else(|error| panic!("{values}: {command:?}: {error}"))
        };
        // A command that is run in the container has the same sources.
        let [df, metrics] = ["df", "metrics"].map(|command| config(Some(command)).sources);
        let config = config(None);
        for sources in [df, metrics] {
            let has = [sources.mounts, sources.kubelet];
            assert_eq!(has, [config.sources.mounts, config.sources.kubelet], "{values}");
        }
        let container = manifest.container();
        let field =
            |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let env = [field("HOST_IP", "status.hostIP"), field("NODE_NAME", "spec.nodeName")];
        assert!(env.iter().all(|field| list(&container["env"]).contains(field)), "{values}");
        let (name, number) = manifest.port();
        assert_eq!(number, u64::from(config.serving.listen_port), "{values}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": name}), "{values}: {probe}");
        }
    }
}

#[test]
fn rights_and_privileges_follow_the_values() {
    for (case, _, manifest) in &*CASES {
        let (values, rights) = (&case["values"], &case["rights"]);
        let rules = manifest.all("ClusterRole").flat_map(|role| list(&role["rules"]));
        let granted = rules.map(|rule| {
            assert_eq!(rule["apiGroups"], json!([""]), "{values}");
            let words = |field: &str| list(&rule[field]).iter().map(text).collect::<Vec<_>>().join(",");
            format!("{} {}", words("verbs"), words("resources"))
        });
        assert_eq!(json!(granted.collect::<Vec<_>>()), *rights, "{values}");
        if !list(rights).is_empty() {
            let account = &manifest.the("ServiceAccount")["metadata"];
            let subject =
                json!({"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]});
            assert_eq!(manifest.the("ClusterRoleBinding")["subjects"], json!([subject]), "{values}");
            assert_eq!(manifest.template()["spec"]["serviceAccountName"], account["name"], "{values}");
        }
        let unmet = unmet(manifest.template());
        let is_restricted = values["mode"] == "kubeletOnly";
        assert_eq!(unmet.is_empty(), is_restricted, "{values}: {unmet:?}");
        let level = if is_restricted { "restricted" } else { "privileged" };
        for namespace in manifest.all("Namespace") {
            let labels = &namespace["metadata"]["labels"];
            assert_eq!(labels["pod-security.kubernetes.io/enforce"], level, "{values}");
        }
        if case["unmet"].is_array() {
            let expected = list(&case["unmet"]).iter().map(|control| text(control).to_owned());
            assert_eq!(unmet, expected.collect(), "{values}");
        }
    }
}

/// Whether labels have all that a selector asks for.
pub(crate) fn includes(labels: &Value, selector: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn objects_have_the_expected_parts() {
    for (case, kind, manifest) in &*CASES {
        let values = &case["values"];
        let parts = list(&case["parts"]).iter().chain(list(&case[format!("parts_of_{kind}")]));
        for (path, expected) in parts.flat_map(|parts| parts.as_object().unwrap()) {
            if path == "settings" {
                let expected: BTreeSet<_> = list(expected).iter().map(|flag| text(flag).to_owned()).collect();
                assert_eq!(manifest.settings().into_iter().collect::<BTreeSet<_>>(), expected, "{values}");
                continue;
            }
            let (object, pointer) = path.split_at(path.find('/').unwrap_or(path.len()));
            let object = match object {
                "pod" => Some(manifest.template()),
                "container" => Some(manifest.container()),
                kind => manifest.all(kind).next(),
            };
            let part = object.and_then(|object| object.pointer(pointer)).unwrap_or(&Value::Null);
            assert_eq!(part, expected, "{values}: {path}");
        }
        for class in manifest.all("PriorityClass") {
            assert_eq!(
                manifest.template()["spec"]["priorityClassName"],
                class["metadata"]["name"],
                "{values}"
            );
        }
        let selector = &manifest.the("DaemonSet")["spec"]["selector"]["matchLabels"];
        assert!(includes(&manifest.template()["metadata"]["labels"], selector), "{values}: {selector}");
        for service in manifest.all("Service") {
            assert_eq!(service["spec"]["selector"], *selector, "{values}");
        }
    }
}

/// Objects by kind, without what Helm adds to their labels.
fn plain(objects: &[Value]) -> Vec<Value> {
    let mut objects: Vec<Value> =
        objects.iter().filter(|object| object["kind"] != "Namespace").cloned().collect();
    objects.iter_mut().for_each(remove_helms_labels);
    for object in &mut objects {
        // Patches come before what they are put into.
        if let Some(Value::Array(variables)) = object.pointer_mut("/spec/template/spec/containers/0/env") {
            variables.sort_by_key(|variable| variable["name"].to_string());
        }
    }
    objects.sort_by_key(|object| object["kind"].to_string());
    objects
}

fn remove_helms_labels(value: &mut Value) {
    if let Value::Object(fields) = value {
        let added = ["instance", "version", "managed-by"].map(|label| format!("app.kubernetes.io/{label}"));
        fields.retain(|name, _| name != "helm.sh/chart" && !added.contains(name));
        fields.values_mut().for_each(remove_helms_labels);
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(remove_helms_labels);
    }
}

#[test]
fn each_overlay_is_the_chart_with_a_value() {
    let [overlays, charts] =
        ["overlay", "chart"].map(|wanted| CASES.iter().filter(move |(_, kind, _)| *kind == wanted));
    for (case, _, overlay) in overlays {
        assert_eq!(json!(overlay.names()), case["names"], "{case}");
        let (.., chart) = charts.clone().find(|(other, ..)| other == case).unwrap();
        if case["parts_of_chart"].is_null() {
            assert_eq!(plain(&chart.0), plain(&overlay.0), "{case}");
        }
    }
    for release in released(&[json!({"monitor": {"kind": "PodMonitor"}})]).into_iter().flatten() {
        let monitor = release.manifest.the("PodMonitor").clone();
        assert_eq!(plain(&[monitor]), [yaml("manifests/prometheus-podmonitor.yaml")]);
    }
}

#[test]
fn modes_differ_from_the_default_in_nothing_else() {
    let overlay = |values: Value| {
        let case = CASES.iter().find(|(case, kind, _)| *kind == "overlay" && case["values"] == values);
        case.map(|(.., manifest)| manifest)
    };
    let Some(base) = overlay(json!({})) else { return };
    let mounts =
        ["/spec/volumes/0", "/spec/containers/0/volumeMounts/0", "/spec/containers/0/securityContext"];
    for (values, parts, kinds) in [
        (json!({"mode": "hardened"}), &mounts[..], &["DaemonSet"][..]),
        (
            json!({"kubeletVolumeStats": "missing"}),
            &["/spec/containers/0/env"],
            &["DaemonSet", "ClusterRole"],
        ),
    ] {
        let overlay = overlay(values).unwrap();
        let mut template = overlay.template().clone();
        for part in parts {
            template.pointer_mut(part).unwrap().clone_from(base.template().pointer(part).unwrap());
        }
        assert_eq!(template, *base.template(), "{parts:?}");
        let others = |manifest: &Manifest| {
            let others = manifest.0.iter().filter(|object| !kinds.contains(&text(&object["kind"])));
            others.cloned().collect::<Vec<_>>()
        };
        assert_eq!(others(overlay), others(base), "{kinds:?}");
    }
}

#[test]
fn upgrades_change_no_immutable_field() {
    let is_renamed = |case: &Value| {
        ["nameOverride", "fullnameOverride"].iter().any(|name| case["values"][name].is_string())
    };
    let mut fields = BTreeMap::<_, BTreeSet<String>>::new();
    for (.., chart) in CASES.iter().filter(|(case, kind, _)| *kind == "chart" && !is_renamed(case)) {
        for (kind, field) in [
            ("DaemonSet", "/spec/selector"),
            ("ClusterRoleBinding", "/roleRef"),
            ("PriorityClass", "/value"),
            ("Service", "/spec/clusterIP"),
        ] {
            let values = chart.all(kind).map(|object| object.pointer(field).unwrap().to_string());
            fields.entry((kind, field)).or_default().extend(values);
        }
    }
    assert!(fields.values().all(|values| values.len() == 1), "{fields:#?}");
}

#[test]
fn scrape_jobs_find_the_pods_and_keep_their_labels() {
    for (file, expected) in yaml("tests/manifests/scrape_jobs.yaml").as_object().unwrap() {
        let config = yaml(file);
        let [job] = list(&config["scrape_configs"]) else { panic!("{config:#}") };
        for (field, expected) in expected.as_object().unwrap() {
            assert_eq!(job[field], *expected, "{file}: {field}");
        }
    }
}

#[test]
fn each_pod_security_control_finds_what_it_forbids() {
    let Some(good) = Manifest::kustomized("manifests/overlays/kubelet-only") else { return };
    let cases: Vec<(String, String, Value)> =
        serde_saphyr::from_str(&read("tests/manifests/forbidden.yaml")).unwrap();
    for (control, path, value) in cases {
        let mut pod = good.template().clone();
        let path = path.replace("C/", "/spec/containers/0/");
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        assert_eq!(unmet(&pod), BTreeSet::from([control]), "{path}");
    }
}
