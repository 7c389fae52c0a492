//! Kubernetes objects, as `kubectl get -o json` prints them.

use serde_json::{Map, Value, json};

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

/// A source.
pub(crate) fn nfs(pv_name: &str) -> Value {
    json!({"nfs": {"server": "nas", "path": format!("/{pv_name}")}})
}

fn labels(kind: &str) -> Map<String, Value> {
    (0..LABELS).map(|i| (format!("example.com/{kind}-{i}"), format!("value-{i}").into())).collect()
}
