use super::*;
use serde_json::json;

fn pod(value: &Value) -> (Vec<String>, volume::Pod) {
    let pod: Pod = serde_json::from_str(&value.to_string()).unwrap();
    pod.into_domain()
}

fn inline(volumes: &Value) -> Vec<(String, String)> {
    let value = json!({"metadata": {"name": "p"}, "spec": {"volumes": volumes}});
    let mut inline: Vec<_> = pod(&value).1.inline_volumes.into_iter().collect();
    inline.sort_unstable();
    inline
}

#[test]
fn a_static_pod_is_found_by_its_hash_too() {
    const HASH: &str = "kubernetes.io/config.hash";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let cases = [
        (json!({HASH: "h", MIRROR: "m", "kubernetes.io/config.source": "file"}), vec!["u", "h", "m"]),
        (json!({MIRROR: "m"}), vec!["u", "m"]),
        (json!({HASH: "h", MIRROR: null}), vec!["u", "h"]),
        (json!({"other": "x"}), vec!["u"]),
        (json!({}), vec!["u"]),
        (json!(null), vec!["u"]),
    ];
    for (annotations, expected) in cases {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "annotations": annotations});
        let (uids, pod) = pod(&json!({"metadata": metadata, "spec": {}}));
        assert_eq!(uids, expected, "{annotations}");
        assert_eq!((&*pod.namespace, &*pod.name), ("n", "p"));
    }
    assert_eq!(pod(&json!({"metadata": {"name": "p"}, "spec": {}})).0, [""; 0]);
}

#[test]
fn of_a_pods_volumes_those_count_that_could_be_a_pvs() {
    let claim = json!({"claimName": "data"});
    let volumes = json!([
        {"name": "data", "persistentVolumeClaim": claim},
        {"name": "the-same", "persistentVolumeClaim": claim},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"nfs": {}}}}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "files", "nfs": {"server": "s", "path": "/p"}},
        {"gcePersistentDisk": {"pdName": "d"}, "name": "disk"},
        {"name": "secrets", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
        {"name": "flex", "flexVolume": {"driver": "v/d"}},
        {"name": "nothing"},
        {"name": "null", "nfs": null},
    ]);
    let expected = [("csi", "secrets"), ("gce-pd", "disk"), ("nfs", "files"), ("v/d", "flex")];
    assert_eq!(inline(&volumes), expected.map(|(plugin, name)| (plugin.into(), name.into())));
    assert_eq!(inline(&json!(null)), []);
    assert_eq!(inline(&json!([])), []);
}

/// What is read only to be thrown away is not even understood: it can be large, and of any form.
#[test]
fn what_is_not_used_is_skipped() {
    let any = json!({"a": [1, {"b": null}]});
    let metadata = json!({"name": "p", "labels": any, "managedFields": any, "ownerReferences": 1,
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": any, "other": 5}});
    let volumes = json!([{"name": "v", "configMap": 7, "persistentVolumeClaim": "text"}]);
    let spec = json!({"containers": 1, "nodeName": any, "volumes": volumes});
    let (uids, pod) = pod(&json!({"metadata": metadata, "spec": spec, "status": 3}));
    assert_eq!((uids.len(), pod.name.as_str(), pod.inline_volumes.len()), (0, "p", 0));
    let pv =
        json!({"metadata": {"name": "pv", "annotations": 4, "managedFields": 5}, "spec": {}, "status": 6});
    let pv: PersistentVolume = serde_json::from_str(&pv.to_string()).unwrap();
    assert_eq!(pv.metadata.name, "pv");
}

#[test]
fn a_pods_volume_without_a_name_is_an_error() {
    let volumes =
        |volume: Value| json!({"metadata": {"name": "p"}, "spec": {"volumes": [volume]}}).to_string();
    for (volume, message) in [
        (json!({"nfs": {}}), "missing field `name`"),
        (json!({"name": 1}), "invalid type: integer `1`, expected a string"),
        (json!("text"), "expected a pod's volume"),
    ] {
        let error = serde_json::from_str::<Pod>(&volumes(volume)).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}
