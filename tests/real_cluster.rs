use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::exporter::command;
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::POD;
use crate::support::objects::{NODE, bound, pod};

/// On a node of a real cluster, as root, with `KUBECONFIG` and `NODE_NAME` set and `kubectl` at hand.
#[test]
#[ignore = "it needs a real cluster, on one of its nodes: KUBECONFIG, NODE_NAME, kubectl"]
fn labels_are_those_that_kubectl_prints() {
    let var = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let rootfs = std::env::var("DISK_USAGE_EXPORTER_ROOTFS").unwrap_or("/".into());
    let args = [&*format!("--rootfs={rootfs}")];
    let checked = check(&var("KUBECONFIG"), &var("NODE_NAME"), Path::new("kubectl"), &args);
    assert!(checked > 0, "no volume is mounted here: nothing was checked");
    println!("{checked} volumes are as kubectl prints them");
}

#[test]
fn the_check_against_a_real_cluster_works() {
    let mut cluster = Cluster::of(&["pv-1", "pv-2"]);
    cluster.mount_only(&["pv-1", "pv-2", "no-object"].map(|name| (name, POD)));
    let args = cluster.args();
    let kubeconfig = args.iter().find_map(|arg| arg.strip_prefix("--kubeconfig=")).unwrap();
    let args = cluster.node_args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // In place of `kubectl`: prints the objects.
    let check_with = |pod: Value| {
        let items = [&bound("pv-1", "first")[..], &bound("pv-2", "first"), &[pod]].concat();
        let file = cluster.server.write("printed.json", &json!({"items": items}).to_string());
        let script =
            format!("#!/bin/sh\n[ \"$*\" = 'get pv,pvc,pods -A -o json' ] && cat '{}'\n", file.display());
        let kubectl = cluster.server.write("kubectl", &script);
        std::fs::set_permissions(&kubectl, PermissionsExt::from_mode(0o755)).unwrap();
        check(kubeconfig, NODE, &kubectl, &args)
    };
    assert_eq!(check_with(pod(POD, &[])), 3);
    let mut renamed = pod(POD, &[]);
    renamed["metadata"]["name"] = json!("another name");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_with(renamed)));
    assert!(result.is_err(), "it notices a difference");
}

/// Compares what the program shows of this node with what `kubectl` prints; how many volumes were compared.
fn check(kubeconfig: &str, node_name: &str, kubectl: &Path, args: &[&str]) -> usize {
    let printed = Command::new(kubectl)
        .args(["get", "pv,pvc,pods", "-A", "-o", "json"])
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let objects = by_name(&printed);
    let mut command = command(&[args, &["--kubernetes=required", "metrics"]].concat());
    let output = command.env("KUBECONFIG", kubeconfig).env("NODE_NAME", node_name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let scrape = Exposition::parse(std::str::from_utf8(&output.stdout).unwrap());
    let volumes = scrape.all("pv_disk_usage_up", &[]);
    for (labels, _) in &volumes {
        check_volume(labels, &objects);
    }
    for (labels, _) in scrape.all("pv_disk_usage_mount_info", &[]) {
        let uid = value(labels, "pod_uid").unwrap_or_default();
        let pod = objects.get(&format!("Pod {uid}"));
        let name = pod.and_then(|pod| pod["metadata"]["name"].as_str());
        assert_eq!(value(labels, "pod_name"), name, "{uid}");
    }
    let codes = scrape.label("disk_usage_exporter_kubernetes_requests_total", "code");
    assert!(codes.iter().all(|code| ["200", "404"].contains(code)), "{codes:?}");
    volumes.len()
}

fn value<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Objects by kind, and by namespace and name, or by the uids of pods.
fn by_name(list: &Value) -> BTreeMap<String, &Value> {
    let mut objects = BTreeMap::new();
    for item in list["items"].as_array().unwrap() {
        let metadata = &item["metadata"];
        let hash = &metadata["annotations"]["kubernetes.io/config.hash"];
        let [namespace, name, uid, hash] =
            [&metadata["namespace"], &metadata["name"], &metadata["uid"], hash]
                .map(|text| text.as_str().unwrap_or_default());
        let kind = item["kind"].as_str().unwrap();
        if kind == "Pod" {
            objects.extend([uid, hash].map(|uid| (format!("{kind} {uid}"), item)));
        } else {
            objects.insert(format!("{kind} {namespace}/{name}"), item);
        }
    }
    objects
}

fn check_volume(labels: &Labels, objects: &BTreeMap<String, &Value>) {
    let pv_name = value(labels, "pv_name").unwrap();
    let Some(pv) = objects.get(&format!("PersistentVolume /{pv_name}")) else {
        assert_eq!(value(labels, "pvc_name"), None, "{pv_name} has no object");
        return;
    };
    let reference = &pv["spec"]["claimRef"];
    let [namespace, name, uid] = ["namespace", "name", "uid"].map(|field| reference[field].as_str());
    let shown = ["pvc_namespace", "pvc_name"].map(|name| value(labels, name));
    assert_eq!(shown, [namespace, name], "{pv_name}");
    check_labels(labels, "pv_", pv);
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    if let Some(claim) = objects.get(&format!("PersistentVolumeClaim {namespace}/{name}")) {
        // The one that has its name may be another one by now.
        let claim_uid = claim["metadata"]["uid"].as_str();
        if uid.is_none() || claim_uid.is_none() || uid == claim_uid {
            check_labels(labels, "pvc_", claim);
        }
    }
}

/// Each label of the object is shown, under its name or that of a conflict.
fn check_labels(labels: &Labels, prefix: &str, object: &Value) {
    for (key, expected) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{}", key.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let is_shown = labels.iter().any(|(shown, value)| shown.starts_with(&name) && value == expected);
        assert!(is_shown, "{name}={expected} is not in {labels:?}");
    }
}
