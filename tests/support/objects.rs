//! Kubernetes objects, as `kubectl get -o json` prints them.

use serde_json::{Map, Value, json};

use super::namespace::{Node, PODS};

/// The name of the tests' node.
pub(crate) const NODE: &str = "node-1";

/// Labels of a `PersistentVolume`, and of a claim.
const LABELS: usize = 5;

/// A `PersistentVolume` with this source, its claim, and the pod that uses it.
pub(crate) fn bound_volume(pv_name: &str, source: Value, claim: &str, pod_uid: &str) -> [Value; 3] {
    let Value::Object(mut spec) = source else { panic!("{source}") };
    spec.insert("claimRef".into(), json!({"namespace": "shop", "name": claim}));
    [
        json!({"kind": "PersistentVolume", "metadata": {"name": pv_name, "labels": labels("pv")}, "spec": spec}),
        json!({"kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "shop", "name": claim, "labels": labels("pvc")},
            "spec": {"resources": {"requests": {"storage": "64Mi"}}}}),
        json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": format!("pod-of-{claim}"), "uid": pod_uid},
            "spec": {}}),
    ]
}

/// `--objects` with a file of volumes that are bound to these claims, in the first pod.
pub(crate) fn objects_flag<T: AsRef<str>>(node: &Node, volumes: &[(T, T)]) -> String {
    let objects = volumes.iter().flat_map(|(pv_name, claim)| {
        bound_volume(pv_name.as_ref(), nfs(pv_name.as_ref()), claim.as_ref(), PODS[0])
    });
    let path = node.path().join("objects.json");
    std::fs::write(&path, json!({"items": objects.collect::<Vec<_>>()}).to_string()).unwrap();
    format!("--objects={}", path.display())
}

/// A source.
pub(crate) fn nfs(pv_name: &str) -> Value {
    json!({"nfs": {"server": "nas", "path": format!("/{pv_name}")}})
}

fn labels(kind: &str) -> Map<String, Value> {
    (0..LABELS).map(|i| (format!("example.com/{kind}-{i}"), format!("value-{i}").into())).collect()
}

/// The name of a volume's claim.
pub(crate) fn claim_of(pv_name: &str) -> String {
    format!("{pv_name}-claim")
}

/// A volume and its claim, both with the label `tier`.
pub(crate) fn bound(pv_name: &str, tier: &str) -> [Value; 2] {
    [pv(pv_name, &claim_of(pv_name), tier), claim(&claim_of(pv_name), tier)]
}

pub(crate) fn pv(name: &str, claim: &str, tier: &str) -> Value {
    let [mut object, ..] = bound_volume(name, nfs(name), claim, "");
    object["metadata"]["labels"] = json!({"tier": tier});
    object
}

pub(crate) fn claim(name: &str, tier: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim", "spec": {},
        "metadata": {"namespace": "shop", "name": name, "labels": {"tier": tier}}})
}

/// A pod of this node that uses the claims of these volumes.
pub(crate) fn pod(uid: &str, pv_names: &[&str]) -> Value {
    let volume = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim_of(name)}});
    let volumes: Vec<Value> = pv_names.iter().map(volume).collect();
    json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": format!("name-of-{uid}"), "uid": uid},
        "spec": {"nodeName": NODE, "containers": [], "volumes": volumes}})
}

/// `pv-0` and so on.
pub(crate) fn pv_names(count: usize) -> Vec<&'static str> {
    (0..count).map(|number| &*format!("pv-{number}").leak()).collect()
}
