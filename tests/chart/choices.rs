use serde_json::{Value, json};

use super::{plain, with};
use crate::support::helm::{RELEASE, is_helm_there};
use crate::support::manifest::{list, text};

#[test]
fn pods_have_the_priority_that_is_asked_for() {
    if !is_helm_there() {
        return;
    }
    let of = |class: Value| {
        let manifest = with(json!({"priorityClass": class}));
        let made = manifest.0.iter().find(|object| object["kind"] == "PriorityClass");
        let name = |object: &Value| text(&object["metadata"]["name"]).to_owned();
        (made.map(name), manifest.template()["spec"]["priorityClassName"].clone())
    };
    assert_eq!(of(json!({})), (Some(RELEASE.into()), json!(RELEASE)));
    assert_eq!(of(json!({"name": "high"})), (Some("high".into()), json!("high")));
    assert_eq!(of(json!({"create": false, "name": "high"})), (None, json!("high")));
    assert_eq!(of(json!({"create": false})), (None, Value::Null));
}

#[test]
fn what_the_kubelet_has_elsewhere_is_mounted_in_its_place() {
    if !is_helm_there() {
        return;
    }
    let root = "/var/lib/k0s/kubelet";
    let hardened = with(json!({"mode": "hardened", "kubelet": {"root": root}}));
    assert_eq!(hardened.args()[..2], ["--rootfs=/rootfs", &format!("--kubelet-root={root}")]);
    assert_eq!(hardened.container()["volumeMounts"][0]["mountPath"], format!("/rootfs{root}"));
    assert_eq!(hardened.template()["spec"]["volumes"][0]["hostPath"]["path"], root);

    let ca = json!({"configMap": "authority", "key": "bundle.pem"});
    let only = with(json!({"mode": "kubeletOnly", "kubelet": {"ca": ca, "root": root}}));
    let mount = &list(&only.container()["volumeMounts"])[1];
    assert!(only.args().contains(&&*format!("--kubelet-ca-file={}/bundle.pem", text(&mount["mountPath"]))));
    let volume = json!({"name": mount["name"], "configMap": {"name": "authority"}});
    assert_eq!(list(&only.template()["spec"]["volumes"])[1], volume);
    let unasked = with(json!({"kubelet": {"ca": ca, "serverName": "node"}}));
    assert_eq!(plain(&unasked), plain(&with(json!({}))));
}
