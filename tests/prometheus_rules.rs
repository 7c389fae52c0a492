use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::alert_settings::{Alerts, alerts_of, assert_same, missing_from_kube_prometheus};
use crate::rules::{BASE, alerts, shipped};
use crate::support::document::{commands, read, root, yaml};
use crate::support::helm::released;
use crate::support::manifest::{Manifest, list, text};
use crate::support::tool::{is_there, pipe, stdout};

const DIRECTORY: &str = "manifests/prometheus-rules";
const DOCUMENT: &str = "docs/alerts.md";
/// Where the document's examples have their runbooks.
const WIKI: &str = "https://wiki.example.com/disk-usage";

#[test]
fn rules_are_what_their_script_writes() {
    if !is_there("python3", &["-c", "import yaml"]) {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    let path = |name: &str| copy.path().join(name);
    std::fs::create_dir(path("made")).unwrap();
    symlink(root().join("manifests/rules"), path("rules")).unwrap();
    std::fs::copy(root().join(DIRECTORY).join("make.py"), path("made/make.py")).unwrap();
    stdout("python3", &[path("made/make.py").to_str().unwrap()], "");
    let is_current = read(path("made/rules.yaml")) == read(format!("{DIRECTORY}/rules.yaml"));
    assert!(is_current, "run {DIRECTORY}/make.py: it writes other rules");
}

/// Groups without their names, as alerts and recording rules.
fn contents(groups: &[Value]) -> (Vec<&Value>, Vec<&Value>) {
    let rules = groups.iter().flat_map(|group| list(&group["rules"]));
    let (mut alerts, mut records): (Vec<_>, Vec<_>) = rules.partition(|rule| rule["alert"].is_string());
    alerts.sort_by_key(|rule| text(&rule["alert"]));
    records.sort_by_key(|rule| text(&rule["record"]));
    (alerts, records)
}

#[test]
fn every_alert_is_an_object_of_its_name() {
    let objects = Manifest::parse(&read(format!("{DIRECTORY}/rules.yaml")));
    let groups: Vec<Value> =
        objects.0.iter().flat_map(|object| list(&object["spec"]["groups"]).to_vec()).collect();
    let files: Vec<Value> = shipped().iter().flat_map(|file| list(&yaml(file)["groups"]).to_vec()).collect();
    assert_eq!(contents(&groups), contents(&files));
    for object in &objects.0 {
        let alert = &object["spec"]["groups"][0]["rules"][0]["alert"];
        let name = text(&object["metadata"]["name"]);
        if alert.is_string() {
            assert_eq!(list(&object["spec"]["groups"][0]["rules"]).len(), 1, "{name}");
            assert_eq!(name.replace('-', ""), text(alert).to_lowercase());
        }
    }
}

/// The YAML of the document that has this in it.
fn example(part: &str) -> String {
    let text = read(DOCUMENT);
    let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("yaml\n"));
    let blocks: Vec<&str> = blocks.filter(|block| block.contains(part)).collect();
    let [block] = blocks[..] else { panic!("{} examples with {part}", blocks.len()) };
    block.to_owned()
}

/// A directory with the manifests and this kustomization.
fn overlay(kustomization: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    symlink(root().join("manifests"), directory.path().join("manifests")).unwrap();
    std::fs::write(directory.path().join("kustomization.yaml"), kustomization).unwrap();
    directory
}

/// Its objects; `None` where there is no `kubectl`.
fn kustomized(kustomization: &str) -> Option<Manifest> {
    Manifest::kustomized(overlay(kustomization).path().to_str().unwrap())
}

fn set(alerts: &mut Alerts, name: &str, pointer: &str, value: &str) {
    *alerts.get_mut(name).unwrap().pointer_mut(pointer).unwrap() = json!(value);
}

#[test]
fn documented_patches_do_what_the_documented_values_do() {
    let Some(patched) = kustomized(&example("patches:")) else { return };
    let mut expected = alerts();
    expected.remove("ClaimOverPromised").unwrap();
    set(&mut expected, "DiskUsageExporterDown", "/labels/severity", "critical");
    set(&mut expected, "DiskUsageExporterDown", "/for", "30m");
    for (alert, threshold) in [("VolumeNearlyFull", "> 90"), ("VolumeFillingUp", "> 80")] {
        let expr = text(&expected[alert]["expr"]).replace("> 97", threshold).replace("> 85", threshold);
        set(&mut expected, alert, "/expr", &expr.replace("<= 97", "<= 90"));
    }
    assert_same(&alerts_of(&patched), &expected, "patches");
    assert!(
        patched.0.iter().all(|object| object["metadata"]["labels"]["release"] == "kube-prometheus-stack")
    );
    let values: Value = serde_saphyr::from_str(&example("prometheusRule:")).unwrap();
    for release in released(&[values]).into_iter().flatten() {
        assert_same(&alerts_of(&release.manifest), &expected, "values");
    }
}

const RESOURCES: &str = "resources: [manifests/prometheus-rules]\n";

#[test]
fn component_keeps_what_the_stock_alerts_lack() {
    let Some(kept) = kustomized(&format!("{RESOURCES}{}", example("components:"))) else { return };
    assert_same(&alerts_of(&kept), &missing_from_kube_prometheus(), "component");
}

#[test]
fn every_alert_can_be_deleted_by_its_name_and_no_other() {
    if !is_there("kubectl", &["kustomize", "--help"]) {
        return;
    }
    let delete = example("patches:");
    let start = delete.find("  - patch: |\n      $patch: delete").unwrap();
    let patch = &delete[start..delete.find("  - target:").unwrap()];
    let objects = Manifest::parse(&read(format!("{DIRECTORY}/rules.yaml")));
    let names = objects.0.iter().map(|object| text(&object["metadata"]["name"]));
    let names = names.filter(|name| !name.ends_with("-records"));
    let patches: String = names.map(|name| patch.replace("claim-over-promised", name)).collect();
    let rest = kustomized(&format!("{RESOURCES}patches:\n{patches}")).unwrap();
    assert_eq!((alerts_of(&rest), rest.0.len()), (Alerts::new(), 2));
    let unknown = patch.replace("claim-over-promised", "claim-over-promise");
    let directory = overlay(&format!("{RESOURCES}patches:\n{unknown}"));
    let output = pipe("kubectl", &["kustomize", directory.path().to_str().unwrap()], "");
    assert!(String::from_utf8(output.stderr).unwrap().contains("claim-over-promise"), "{:?}", output.status);
}

/// What is shipped, with the runbooks of the examples.
fn moved() -> Alerts {
    let mut alerts = alerts();
    for alert in alerts.values_mut() {
        let runbook =
            text(&alert["annotations"]["runbook_url"]).replace(&format!("{BASE}docs/runbooks.md"), WIKI);
        assert!(runbook.starts_with(&format!("{WIKI}#")), "{runbook}");
        alert["annotations"]["runbook_url"] = json!(runbook);
    }
    alerts
}

#[test]
fn documented_replacement_moves_all_runbooks() {
    let Some(replaced) = kustomized(&format!("{RESOURCES}{}", example("replacements:"))) else { return };
    assert_same(&alerts_of(&replaced), &moved(), "replacement");
    assert_eq!(replaced.all("ConfigMap").count(), 0);
}

#[test]
fn documented_command_moves_all_runbooks_of_rule_files() {
    let command = commands(DOCUMENT).into_iter().find(|command| command.starts_with("sed ")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("manifests/rules");
    std::fs::create_dir_all(&rules).unwrap();
    for file in shipped() {
        std::fs::copy(root().join(&file), directory.path().join(file)).unwrap();
    }
    assert!(Command::new("bash").args(["-c", &command]).current_dir(&directory).status().unwrap().success());
    let specs = shipped().into_iter().map(|file| {
        let groups: Value = serde_saphyr::from_str(&read(directory.path().join(file))).unwrap();
        json!({"kind": "PrometheusRule", "spec": groups})
    });
    assert_same(&alerts_of(&Manifest(specs.collect())), &moved(), "command");
}
