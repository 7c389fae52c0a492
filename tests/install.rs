use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::document::{commands, documents};
use crate::support::helm::{RELEASE, chart, is_helm_there, released};
use crate::support::kubectl::Store;
use crate::support::manifest::{Manifest, kustomized, list, text};

/// Every command of this program in the documents, with its document.
fn all(program: &str) -> Vec<(String, String)> {
    let of = |document: String| commands(&document).into_iter().map(move |line| (document.clone(), line));
    let found: Vec<_> =
        documents().into_iter().flat_map(of).filter(|(_, line)| line.starts_with(program)).collect();
    assert!(!found.is_empty());
    found
}

fn names(manifest: &Manifest) -> BTreeSet<[String; 3]> {
    manifest.names().into_iter().map(|name| name.map(str::to_owned)).collect()
}

/// A cluster that keeps what it is given, and a directory with all that a reader has: the source, and the file of a release.
fn cluster() -> Store {
    let store = Store::start();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let file = Command::new("kubectl").arg("kustomize").arg(&source).output().unwrap();
    std::fs::write(store.directory().join("install.yaml"), file.stdout).unwrap();
    symlink(source, store.directory().join("manifests")).unwrap();
    store
}

/// A pod of this `DaemonSet`, as its controller would make it.
fn pod_of(manifest: &Manifest) -> Value {
    let (of, template) = (&manifest.the("DaemonSet")["metadata"], manifest.template());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "disk-usage-exporter-x7k2p",
            "namespace": of["namespace"],
            "labels": template["metadata"]["labels"],
        },
        "spec": template["spec"],
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[test]
fn kubectl_does_what_the_documents_say() {
    let Some(base) = kustomized("manifests") else { return };
    let mut met = BTreeSet::new();
    for (document, line) in all("kubectl ") {
        let store = cluster();
        let words: Vec<&str> = line.split(' ').collect();
        let what = match words[..] {
            [_, "apply", "-f", "install.yaml"] => {
                applied(&store, &line, &base);
                "apply -f"
            }
            [_, "apply", "-k", directory] => {
                applied(&store, &line, &kustomized(directory).unwrap());
                "apply -k"
            }
            [_, "-n", namespace, "exec", of, "--", ..] => {
                let asked = reached(&store, &base, &line, namespace, of, "exec");
                let words = words[6..].iter().map(|word| ["command=", &word.replace('/', "%2F")].concat());
                let command = words.collect::<Vec<_>>().join("&");
                assert!(asked.contains(&format!("?{command}&container=disk-usage-exporter")), "{asked}");
                "exec"
            }
            [_, "-n", namespace, "port-forward", of, port] => {
                reached(&store, &base, &line, namespace, of, "portforward");
                assert!(
                    base.ports()
                        .values()
                        .any(|known| known.map(|port| port.to_string()) == Some(port.into()))
                );
                "port-forward"
            }
            // The former one, of the Python exporter.
            [_, "delete", "daemonset", former] => {
                store.put(json!({
                    "apiVersion": "apps/v1", "kind": "DaemonSet",
                    "metadata": {"name": former, "namespace": "default"},
                }));
                let output = store.run(&line);
                assert!(output.status.success() && store.names().is_empty(), "{output:?}");
                "delete"
            }
            _ => panic!("{document}: nobody runs `{line}`"),
        };
        met.insert(what);
    }
    assert_eq!(met, ["apply -f", "apply -k", "delete", "exec", "port-forward"].into());
}

fn applied(store: &Store, line: &str, wanted: &Manifest) {
    let output = store.run(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(store.names(), names(wanted), "{line}");
}

/// What was asked of the pod's `part`, which no pod here has. `.ci/image` runs the command in the real container.
fn reached(store: &Store, base: &Manifest, line: &str, namespace: &str, of: &str, part: &str) -> String {
    for object in base.0.iter().cloned().chain([pod_of(base)]) {
        store.put(object);
    }
    assert_eq!(of.strip_prefix("daemonset/"), Some(text(&base.the("DaemonSet")["metadata"]["name"])));
    let output = store.run(line);
    let path = format!("/api/v1/namespaces/{namespace}/pods/disk-usage-exporter-x7k2p/{part}");
    let asked = store.requests(&path);
    assert!(!asked.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    asked[0].clone()
}

/// `image.repository=x` as values of the chart.
fn set(path: &str, value: &str) -> Value {
    path.rsplit('.').fold(json!(value), |value, key| json!({key: value}))
}

#[test]
fn helm_does_what_the_documents_say() {
    if !is_helm_there() {
        return;
    }
    let mut images = BTreeSet::new();
    for (document, line) in all("helm ") {
        let words: Vec<&str> = line.split(' ').collect();
        let values = match words[..] {
            // The file of a release is packed from the directory: `.ci/release`.
            [_, "install", RELEASE, from, "-n", RELEASE, "--create-namespace", ref rest @ ..] => {
                let packed = concat!("disk-usage-exporter-", env!("CARGO_PKG_VERSION"), ".tgz");
                assert!(["manifests/chart", packed].contains(&from), "{from}");
                match rest {
                    [] => json!({}),
                    ["--set", setting] => {
                        setting.split_once('=').map(|(path, value)| set(path, value)).unwrap()
                    }
                    _ => panic!("{document}: nobody knows {rest:?}"),
                }
            }
            // The other exporter's.
            [_, "uninstall", "kubelet-volume-stats", "-n", "kubelet-volume-stats"] => continue,
            _ => panic!("{document}: nobody runs `{line}`"),
        };
        let manifest = released(&chart(), &[values]).remove(0).unwrap();
        images.insert(
            list(&manifest.template()["spec"]["containers"])[0]["image"].as_str().unwrap().to_owned(),
        );
    }
    let wanted = ["", "registry.example.com/"]
        .map(|registry| format!("{registry}disk-usage-exporter:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(images, wanted.into());
}
