use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::document::{commands, documents, root};
use crate::support::helm::{RELEASE, is_helm_there, released};
use crate::support::kubectl::Store;
use crate::support::manifest::{Manifest, text};
use crate::support::tool::stdout;

/// Every command of this program in the documents.
fn all(program: &str) -> BTreeSet<String> {
    let lines = documents().into_iter().flat_map(|document| commands(&document));
    lines.filter(|line| line.starts_with(program)).collect()
}

/// A cluster that keeps what it is given, and a directory with all that a reader has: the source and a release's file.
fn cluster() -> Store {
    let store = Store::start();
    let source = root().join("manifests");
    let file = stdout("kubectl", &["kustomize", source.to_str().unwrap()], "");
    std::fs::write(store.directory().join("install.yaml"), file).unwrap();
    symlink(source, store.directory().join("manifests")).unwrap();
    store
}

fn succeed(store: &Store, line: &str) {
    let output = store.run(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
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
            [_, "-n", namespace, "exec", daemonset, "--", ref command @ ..] => {
                let command = command.iter().map(|word| format!("command={}&", word.replace('/', "%2F")));
                let command = command.collect::<String>();
                let exec = format!("exec?{command}container=disk-usage-exporter&");
                assert_reaches_pod(&store, &base, &line, namespace, daemonset, &exec);
                "exec"
            }
            [_, "-n", namespace, "port-forward", daemonset, port] => {
                assert_eq!(base.port().1.to_string(), port);
                assert_reaches_pod(&store, &base, &line, namespace, daemonset, "portforward");
                "port-forward"
            }
            // The former one, of the Python exporter.
            [_, "delete", "daemonset", name] => {
                let former =
                    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}});
                store.put("/apis/apps/v1/namespaces/default/daemonsets", former);
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

/// The command makes a request of this kind for the pod of the `DaemonSet`. The server answers that there is none:
/// `.ci/image` runs the command in the real container.
fn assert_reaches_pod(
    store: &Store,
    base: &Manifest,
    line: &str,
    namespace: &str,
    daemonset: &str,
    request: &str,
) {
    succeed(store, "kubectl apply -f install.yaml");
    assert_eq!(daemonset.strip_prefix("daemonset/"), Some(text(&base.the("DaemonSet")["metadata"]["name"])));
    let template = base.template();
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    // As the DaemonSet's controller would make it.
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x7k2p", "namespace": namespace, "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    store.put(&pods, pod);
    let output = store.run(line);
    let requests = store.requests();
    let is_sent = requests.iter().any(|sent| sent.contains(&format!("{pods}/x7k2p/{request}")));
    assert!(is_sent, "{line}: {requests:#?} {}", String::from_utf8_lossy(&output.stderr));
}

/// `image.repository=x` as values of the chart.
fn set(setting: &str) -> Value {
    let (path, value) = setting.split_once('=').unwrap();
    path.rsplit('.').fold(json!(value), |value, key| json!({key: value}))
}

#[test]
fn documented_helm_commands_work() {
    if !is_helm_there() {
        return;
    }
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
    let released = released(&values);
    let images: BTreeSet<_> = released.iter().map(|manifest| text(&manifest.container()["image"])).collect();
    let images_expected =
        ["", "registry.example.com/"].map(|registry| format!("{registry}disk-usage-exporter:{version}"));
    assert_eq!(images, images_expected.iter().map(String::as_str).collect());
}
