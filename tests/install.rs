use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::document::{commands, documents, root};
use crate::support::helm::{RELEASE, released};
use crate::support::kubectl::Store;
use crate::support::manifest::{Manifest, text};

/// Every command of this program in the documents.
fn all(program: &str) -> BTreeSet<String> {
    let lines = documents().into_iter().flat_map(|document| commands(&document));
    lines.filter(|line| line.starts_with(program)).collect()
}

/// A cluster that keeps what it is given, and a directory with all that a reader has: the source and a release's file.
fn cluster() -> Store {
    let store = Store::start();
    symlink(root().join("manifests"), store.directory.path().join("manifests")).unwrap();
    succeed(&store, "kubectl kustomize manifests > install.yaml");
    store
}

fn succeed(store: &Store, line: &str) {
    let output = store.run(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pod as the controller of the `DaemonSet` would make it.
fn pod_of(template: &Value, namespace: &str) -> Value {
    let metadata = json!({"name": "x7k2p", "namespace": namespace, "labels": template["metadata"]["labels"]});
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status})
}

#[test]
fn documented_kubectl_commands_work() {
    let Some(base) = Manifest::kustomized("manifests") else { return };
    let mut kinds = BTreeSet::new();
    for line in all("kubectl ") {
        let store = cluster();
        let words: Vec<&str> = line.split(' ').collect();
        let kind = match words[..] {
            [_, "apply", option, from] => {
                succeed(&store, &line);
                let applied = if from == "install.yaml" { "manifests" } else { from };
                assert_eq!(store.names(), Manifest::kustomized(applied).unwrap().names(), "{line}");
                option
            }
            [_, "-n", namespace, command, "daemonset/disk-usage-exporter", ref rest @ ..] => {
                let request = match (command, rest) {
                    ("exec", ["--", words @ ..]) => {
                        let words = words.iter().map(|word| format!("command={}&", word.replace('/', "%2F")));
                        format!("exec?{}container=disk-usage-exporter&", words.collect::<String>())
                    }
                    ("port-forward", [port]) if base.port().1.to_string() == **port => "portforward".into(),
                    _ => panic!("no test runs `{line}`"),
                };
                succeed(&store, "kubectl apply -f install.yaml");
                let pods = format!("/api/v1/namespaces/{namespace}/pods");
                store.put(&pods, &pod_of(base.template(), namespace));
                // The server answers that there is no such pod: `.ci/image` runs the command in the real container.
                let output = store.run(&line);
                let is_sent = |sent: &String| sent.contains(&format!("{pods}/x7k2p/{request}"));
                assert!(store.requests().iter().any(is_sent), "{line}: {:#?} {output:?}", store.requests());
                command
            }
            // The former one, of the Python exporter.
            [_, "delete", "daemonset", name] => {
                let former =
                    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}});
                store.put("/apis/apps/v1/namespaces/default/daemonsets", &former);
                succeed(&store, &line);
                assert_eq!(store.names(), BTreeSet::new());
                "delete"
            }
            _ => panic!("no test runs `{line}`"),
        };
        kinds.insert(kind.to_owned());
    }
    assert_eq!(kinds, ["-f", "-k", "delete", "exec", "port-forward"].map(str::to_owned).into());
}

/// `image.repository=x` as values of the chart.
fn set(setting: &str) -> Value {
    let (path, value) = setting.split_once('=').unwrap();
    path.rsplit('.').fold(json!(value), |value, key| json!({key: value}))
}

#[test]
fn documented_helm_commands_work() {
    let version = env!("CARGO_PKG_VERSION");
    // The file of a release is packed from the directory: `.ci/release`.
    let install = format!(
        "^helm install {RELEASE} (?:manifests/chart|{RELEASE}-{version}.tgz) -n {RELEASE} --create-namespace(?: --set (\\S+))?$"
    );
    let install = Regex::new(&install).unwrap();
    let mut values = Vec::new();
    for line in all("helm ") {
        // The other exporter's.
        if line == "helm uninstall kubelet-volume-stats -n kubelet-volume-stats" {
            continue;
        }
        let words = install.captures(&line).unwrap_or_else(|| panic!("no test runs `{line}`"));
        values.push(words.get(1).map_or(json!({}), |setting| set(setting.as_str())));
    }
    let Some(released) = released(&values) else { return };
    let images: BTreeSet<_> =
        released.iter().map(|release| text(&release.manifest.container()["image"])).collect();
    let images_expected =
        ["", "registry.example.com/"].map(|registry| format!("{registry}disk-usage-exporter:{version}"));
    assert_eq!(images, images_expected.iter().map(String::as_str).collect());
}
