use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::apiserver::ApiServer;
use crate::support::exporter::command;
use crate::support::exposition::{Exposition, Labels};
use crate::support::objects::{NODE, pod};

/// On a node of a real cluster, as root, with `KUBECONFIG` and `NODE_NAME` set and `kubectl` at hand.
#[test]
#[ignore = "it needs a real cluster, on one of its nodes: KUBECONFIG, NODE_NAME, kubectl"]
fn labels_are_those_of_the_objects_that_kubectl_prints() {
    let var = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let rootfs = std::env::var("DISK_USAGE_EXPORTER_ROOTFS").unwrap_or("/".into());
    let printed = Command::new("kubectl").args(["get", "pv,pvc,pods", "-A", "-o", "json"]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), printed.stdout).unwrap();
    let node = [format!("--rootfs={rootfs}"), format!("--node-name={}", var("NODE_NAME"))];
    let [by_api, by_file] =
        by_api_and_file(&node, &format!("--kubeconfig={}", var("KUBECONFIG")), file.path());
    assert_eq!(by_api, by_file);
    let volumes = by_api["pv_disk_usage_up"].len();
    assert!(volumes > 0, "no volume is mounted here: nothing was checked");
    println!("{volumes} volumes are as kubectl prints them");
}

#[test]
fn api_and_file_of_the_same_objects_give_the_same_series() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes/csi");
    let text = std::fs::read_to_string(fixture.join("objects.json")).unwrap();
    let mut objects: Value = serde_json::from_str(&text).unwrap();
    // Its pods are those of a moment before the mount table's: one was made again meanwhile.
    let mut again = pod("e33700e9-99eb-4394-b27f-2ddda8ce417d", &[]);
    again["metadata"]["name"] = json!("web-1");
    objects["items"].as_array_mut().unwrap().push(again);
    let server = ApiServer::start();
    server.put(objects["items"].as_array().unwrap().clone());
    let file = server.write("objects.json", &objects.to_string());
    let kubeconfig = server.kubeconfig(&json!({"token": "good"}));
    let table = format!("--mount-table={}", fixture.join("mountinfo").display());
    let node = ["--rootfs=/".into(), table, format!("--node-name={NODE}")];
    let [by_api, by_file] = by_api_and_file(&node, &kubeconfig, &file);
    assert_eq!(by_api, by_file);
    assert_eq!(by_api["pv_disk_usage_up"].len(), 3);
}

/// The label sets of all series of volumes, with the objects of an API server and with those of a file.
fn by_api_and_file(node: &[String], kubeconfig: &str, file: &Path) -> [BTreeMap<String, Vec<Labels>>; 2] {
    let objects = format!("--objects={}", file.display());
    [&[kubeconfig, "--kubernetes=required", "metrics"][..], &[&objects, "metrics"]].map(|more| {
        let output = command(more).args(node).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let exposition = Exposition::parse(std::str::from_utf8(&output.stdout).unwrap());
        let codes = exposition.label("disk_usage_exporter_kubernetes_requests_total", "code");
        assert!(codes.iter().all(|code| ["200", "404"].contains(code)), "{codes:?}");
        let mut series: BTreeMap<String, Vec<Labels>> = BTreeMap::new();
        for (name, labels, _) in exposition.samples {
            if name.starts_with("pv_disk_usage_") {
                series.entry(name).or_default().push(labels);
            }
        }
        series
    })
}
