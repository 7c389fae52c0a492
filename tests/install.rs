use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::document::{commands, documents};
use crate::support::helm::{RELEASE, released};
use crate::support::manifest::{Manifest, name, text};

/// Every command of this program in the documents.
fn all(program: &str) -> BTreeSet<String> {
    let lines = documents().into_iter().flat_map(|document| commands(&document));
    lines.filter(|line| line.starts_with(program)).collect()
}

/// `kubectl` knows the options: it parses them before it shows its help.
fn assert_parsed(line: &str) {
    let output = Command::new("kubectl").args(line.split(' ').skip(1)).arg("--help").output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn documented_kubectl_commands_work() {
    let Some(base) = Manifest::kustomized("manifests") else { return };
    let [_, namespace, name] = name(base.the("DaemonSet"));
    let (daemonset, port) = (format!("daemonset/{name}"), base.port().1.to_string());
    let mut kinds = BTreeSet::new();
    for line in all("kubectl ") {
        let words: Vec<&str> = line.split(' ').collect();
        let (command, options) = match words[..] {
            // The file of a release is made from the directory: `.ci/release`.
            [_, "apply", "-f", "install.yaml"] => ("-f", &words[..]),
            [_, "apply", "-k", directory] => {
                assert!(Manifest::kustomized(directory).unwrap().all("DaemonSet").count() > 0, "{line}");
                ("-k", &words[..])
            }
            // `.ci/image` runs what follows in the real container.
            [_, "-n", of, command @ "exec", of_set, "--", ..] if of == namespace && of_set == daemonset => {
                (command, &words[..5])
            }
            [_, "-n", of, command @ "port-forward", of_set, to]
                if of == namespace && of_set == daemonset && to == port =>
            {
                (command, &words[..])
            }
            // The former one, of the Python exporter.
            [_, command @ "delete", "daemonset", _] => (command, &words[..]),
            _ => panic!("no test runs `{line}`"),
        };
        assert_parsed(&options.join(" "));
        kinds.insert(command.to_owned());
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
