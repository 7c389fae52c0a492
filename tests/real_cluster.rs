use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, NODE, objects_of, pod};
use crate::support::exporter::command;
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::POD;

/// On a node of a real cluster, as root, with `KUBECONFIG` and `NODE_NAME` set and `kubectl` at hand.
#[test]
#[ignore = "it needs a real cluster, on one of its nodes: KUBECONFIG, NODE_NAME, kubectl"]
fn labels_are_those_that_kubectl_prints() {
    let var = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let rootfs = std::env::var("DISK_USAGE_EXPORTER_ROOTFS").unwrap_or("/".into());
    let checked =
        check(&var("KUBECONFIG"), &var("NODE_NAME"), Path::new("kubectl"), &[&format!("--rootfs={rootfs}")]);
    assert!(checked > 0, "no volume is mounted here: nothing was checked");
    println!("{checked} volumes are as kubectl prints them");
}

#[test]
fn the_check_against_a_real_cluster_works() {
    let mut cluster = Cluster::of(&["pv-1", "pv-2"]);
    cluster.mount("no-object");
    let (script, kubeconfig, args) = (kubectl(&cluster, "app"), kubeconfig(&cluster), cluster.node_args());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(check(&kubeconfig, NODE, &script, &args), 3);
    let script = kubectl(&cluster, "another name");
    let wrong = std::panic::catch_unwind(|| check(&kubeconfig, NODE, &script, &args));
    assert!(wrong.is_err(), "it notices a difference");
}

/// In place of `kubectl`: prints the objects, with another name of the pod.
fn kubectl(cluster: &Cluster, pod_name: &str) -> std::path::PathBuf {
    let items = ["pv-1", "pv-2"].map(objects_of).concat();
    let items = [items, vec![pod(pod_name, POD, NODE)]].concat();
    let file = cluster.server.write("printed.json", &json!({"kind": "List", "items": items}).to_string());
    let script =
        format!("#!/bin/sh\n[ \"$*\" = 'get pv,pvc,pods -A -o json' ] && cat '{}'\n", file.display());
    let script = cluster.server.write("kubectl", &script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    script
}

fn kubeconfig(cluster: &Cluster) -> String {
    let flag = cluster.server.kubeconfig(&json!({"token": "good"}));
    flag.strip_prefix("--kubeconfig=").unwrap().to_owned()
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
    let objects = Objects::new(&printed);
    let mut command = command(&[args, &["--kubernetes=required", "metrics"]].concat());
    let output = command.env("KUBECONFIG", kubeconfig).env("NODE_NAME", node_name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let scrape = Exposition::parse(std::str::from_utf8(&output.stdout).unwrap());
    let volumes = scrape.all("pv_disk_usage_up", &[]);
    for (labels, _) in &volumes {
        objects.check_volume(labels);
    }
    for (labels, _) in scrape.all("pv_disk_usage_mount_info", &[]) {
        objects.check_pod(labels);
    }
    let asked: BTreeSet<(String, String)> = scrape
        .all("disk_usage_exporter_kubernetes_requests_total", &[])
        .into_iter()
        .map(|(labels, _)| (value(labels, "resource").unwrap().into(), value(labels, "code").unwrap().into()))
        .collect();
    assert!(asked.iter().all(|(_, code)| code == "200" || code == "404"), "{asked:?}");
    volumes.len()
}

fn value<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Objects by kind, and namespace and name or uid.
struct Objects<'a>(BTreeMap<(&'a str, String), &'a Value>);

impl<'a> Objects<'a> {
    fn new(list: &'a Value) -> Self {
        let mut objects = BTreeMap::new();
        for item in list["items"].as_array().unwrap() {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
            let kind = item["kind"].as_str().unwrap();
            let mut keys = vec![[text("namespace"), "/", text("name")].concat()];
            if kind == "Pod" {
                let annotation = &item["metadata"]["annotations"]["kubernetes.io/config.hash"];
                keys = vec![text("uid").to_owned(), annotation.as_str().unwrap_or_default().to_owned()];
            }
            objects.extend(keys.into_iter().map(|key| ((kind, key), item)));
        }
        Self(objects)
    }

    fn check_volume(&self, labels: &Labels) {
        let pv_name = value(labels, "pv_name").unwrap();
        let Some(pv) = self.0.get(&("PersistentVolume", format!("/{pv_name}"))) else {
            assert_eq!(value(labels, "pvc_name"), None, "{pv_name} has no object");
            return;
        };
        let reference = &pv["spec"]["claimRef"];
        assert_eq!(value(labels, "pvc_name"), reference["name"].as_str(), "{pv_name}");
        assert_eq!(value(labels, "pvc_namespace"), reference["namespace"].as_str(), "{pv_name}");
        check_labels(labels, "pv_", pv);
        let claim = [reference["namespace"].as_str(), Some("/"), reference["name"].as_str()];
        let claim = claim.into_iter().flatten().collect::<String>();
        let claim = self.0.get(&("PersistentVolumeClaim", claim));
        // The one that has its name may be another one by now.
        let is_it = |claim: &&Value| {
            let (wanted, found) = (reference["uid"].as_str(), claim["metadata"]["uid"].as_str());
            wanted.is_none() || found.is_none() || wanted == found
        };
        if let Some(claim) = claim.copied().filter(is_it) {
            check_labels(labels, "pvc_", claim);
        }
    }

    fn check_pod(&self, labels: &Labels) {
        let uid = value(labels, "pod_uid").unwrap_or_default();
        let pod = self.0.get(&("Pod", uid.to_owned()));
        let name = pod.and_then(|pod| pod["metadata"]["name"].as_str());
        assert_eq!(value(labels, "pod_name"), name, "{uid}");
    }
}

/// Each of an object's labels is there by its name, or by that of a conflict.
fn check_labels(labels: &Labels, prefix: &str, object: &Value) {
    for (key, expected) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let sanitized = key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let name = format!("{prefix}{sanitized}");
        let found = labels
            .iter()
            .any(|(own, value)| own.starts_with(&name) && value.as_str() == expected.as_str().unwrap());
        assert!(found, "{name}={expected} is not in {labels:?}");
    }
}
