use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::alertmanager::{self, Alertmanager};
use crate::support::exporter::Exporter;
use crate::support::families::families;
use crate::support::namespace::{Needs, Node, PODS, bind, in_namespace, tmpfs};
use crate::support::objects::{bound_volume, nfs};
use crate::support::prometheus::{Prometheus, job};
use crate::support::promql::assert_known;
use crate::support::tool::is_there;

const FILES: [&str; 3] = ["pv-disk-usage", "kubelet-volume-stats", "exporter"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn path(file: &str) -> PathBuf {
    root().join(format!("manifests/rules/{file}.yaml"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// All rules of all files.
fn rules() -> Vec<Value> {
    let groups = FILES.iter().flat_map(|file| {
        let rules: Value = serde_saphyr::from_str(&read(path(file))).unwrap();
        rules["groups"].as_array().unwrap().clone()
    });
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> BTreeMap<String, Value> {
    let alerts = rules().into_iter().filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule)));
    let alerts: Vec<_> = alerts.collect();
    let count = alerts.len();
    let by_name: BTreeMap<_, _> = alerts.into_iter().collect();
    assert_eq!(by_name.len(), count, "two alerts of one name");
    by_name
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_shipped_rules_pass_their_unit_tests() {
    if is_there("promtool", &["--version"]) {
        let found = std::fs::read_dir(root().join("manifests/rules")).unwrap().count();
        assert_eq!(found, FILES.len());
        for file in FILES {
            promtool(&["check", "rules", "--lint-fatal", &path(file).to_string_lossy()]);
            promtool(&["test", "rules", &format!("tests/rules/{file}.test.yml")]);
        }
    }
}

/// Some servers show a recorded series one evaluation late: as Prometheus does where rules stand before those that they read.
#[test]
fn replaced_exporter_resolves_no_alert_where_recorded_series_are_late() {
    if is_there("promtool", &["--version"]) {
        let directory = tempfile::tempdir().unwrap();
        let file: Value = serde_saphyr::from_str(&read(path("pv-disk-usage"))).unwrap();
        let groups = file["groups"].as_array().unwrap().iter();
        let mut rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        rules.reverse();
        let late = json!({"groups": [{"name": "late", "rules": rules}]});
        std::fs::write(directory.path().join("late.json"), late.to_string()).unwrap();
        let test = directory.path().join("late.test.yml");
        std::fs::copy(root().join("tests/rules/late.test.yml"), &test).unwrap();
        promtool(&["test", "rules", &test.to_string_lossy()]);
    }
}

#[test]
fn every_alert_is_shown_firing_and_not_firing() {
    let mut fires = BTreeSet::new();
    let mut is_silent = BTreeSet::new();
    for file in FILES {
        let tests: Value = serde_saphyr::from_str(&read(format!("tests/rules/{file}.test.yml"))).unwrap();
        let tests = tests["tests"].as_array().unwrap().iter();
        for case in tests.flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten()) {
            let name = case["alertname"].as_str().unwrap().to_owned();
            let expected = case["exp_alerts"].as_array().unwrap();
            let shown = if expected.is_empty() { &mut is_silent } else { &mut fires };
            shown.insert(name);
        }
    }
    let alerts: BTreeSet<_> = alerts().into_keys().collect();
    assert_eq!(fires, alerts);
    assert_eq!(is_silent, alerts);
}

/// The expressions in an annotation's template: what it prints and then queries.
fn queries(template: &str) -> Vec<String> {
    template.split('`').skip(1).step_by(2).map(|query| query.replace("%q", "\"\"")).collect()
}

#[test]
fn rules_ask_for_what_there_is() {
    let rules = rules();
    let recorded = rules.iter().filter_map(|rule| Some(rule["record"].as_str()?.to_owned())).collect();
    for rule in &rules {
        assert_known(rule["expr"].as_str().unwrap(), &recorded);
        for query in queries(rule["annotations"]["description"].as_str().unwrap_or_default()) {
            assert_known(&query, &recorded);
        }
    }
}

/// What follows each `word (` in a query.
fn lists<'a>(query: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    query.split(word).skip(1).map(|rest| rest.split(')').next().unwrap())
}

#[test]
fn no_rule_mixes_clusters() {
    for rule in rules() {
        let expr = rule["expr"].as_str().unwrap();
        let queries = queries(rule["annotations"]["description"].as_str().unwrap_or_default());
        let joined = queries.iter().flat_map(|query| lists(query, " on ("));
        for labels in lists(expr, " by (").chain(lists(expr, " on (")).chain(joined) {
            // `on ()` asks whether there is anything at all.
            assert!(labels.is_empty() || labels.starts_with("cluster, "), "{labels}: {rule:#}");
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_a_runbook() {
    let runbooks = read("docs/runbooks.md");
    let sections: BTreeSet<_> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = alerts();
    assert_eq!(sections, alerts.keys().map(String::as_str).collect());
    for (name, alert) in &alerts {
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        let annotations = &alert["annotations"];
        // As GitHub makes anchors of headings.
        assert_eq!(annotations["runbook"], format!("docs/runbooks.md#{}", name.to_lowercase()));
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
    }
}

#[test]
fn runbooks_name_metrics_that_there_are() {
    let rules = rules();
    let recorded: BTreeSet<_> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let runbooks = read("docs/runbooks.md");
    let words = runbooks.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
    let prefixes = ["pv_disk_usage_", "disk_usage_exporter_", "kubelet_volume_", "subject:", "claim:"];
    let named: BTreeSet<_> = words
        .filter(|word| prefixes.iter().any(|prefix| word.len() > prefix.len() && word.starts_with(prefix)))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let is_known = recorded.contains(name) || families().contains_key(name);
        assert!(is_known, "{name}");
    }
}

#[test]
fn the_readmes_alerts_are_the_rules() {
    let readme = read("README.md");
    let section = readme.split("\n## Alerts and dashboards\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ["));
    let documented: BTreeMap<String, String> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let name = cells[1].split('`').nth(1).unwrap().to_owned();
            assert_eq!(cells[1], format!("[`{name}`](docs/runbooks.md#{})", name.to_lowercase()));
            (name, cells[2].to_owned())
        })
        .collect();
    let severity = |alert: &Value| alert["labels"]["severity"].as_str().unwrap().to_owned();
    let shipped: BTreeMap<_, _> =
        alerts().iter().map(|(name, alert)| (name.clone(), severity(alert))).collect();
    assert_eq!(documented, shipped);
}

/// A Prometheus with the shipped job and all shipped rules, which wait for no minute here, that tells this Alertmanager.
fn watching(node: &Node, exporter: &Exporter, alertmanager: &Alertmanager) -> Prometheus {
    let files = FILES.map(|file| {
        let text = read(path(file));
        let copy = node.path().join(format!("{file}.yaml"));
        std::fs::write(&copy, text.replace("for: 1m\n", "for: 2s\n")).unwrap();
        format!("'{}'", copy.display())
    });
    let jobs = job("manifests/prometheus-scrape.yaml", exporter.address);
    let alerting =
        format!("{{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}", alertmanager.address);
    Prometheus::start(&format!("{jobs}rule_files: [{}]\nalerting: {alerting}\n", files.join(", ")))
}

/// Name and subject of alerts.
fn subjects(alerts: &[Value]) -> Vec<String> {
    let mut found: Vec<_> = alerts
        .iter()
        .map(|alert| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            let claim = [label("namespace"), label("persistentvolumeclaim")].join("/");
            let filesystem = [label("node"), label("filesystem")].join(" ");
            format!("{} {}", label("alertname"), if claim == "/" { filesystem } else { claim })
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_volume_that_fills_up_reaches_the_alertmanager_once() {
    if !is_there("prometheus", &["--version"]) || !is_there(alertmanager::PROGRAM, &["--version"]) {
        return;
    }
    in_namespace(Needs::Mounts, |node| {
        const SIZE: usize = 4 << 20;
        // One volume in two pods, and two that are directories of one file system.
        let own = node.tmpfs_volume("pv-1", &format!("size={SIZE}"));
        bind(&own, &node.volume(PODS[1], "nfs", "pv-1"));
        let disk = node.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        tmpfs(&disk, &format!("size={SIZE}"));
        for pv_name in ["pv-2", "pv-3"] {
            std::fs::create_dir(disk.join(pv_name)).unwrap();
            bind(&disk.join(pv_name), &node.volume(PODS[0], "nfs", pv_name));
        }
        let objects: Vec<Value> = [("pv-1", "data"), ("pv-2", "a"), ("pv-3", "b")]
            .iter()
            .flat_map(|(pv_name, claim)| bound_volume(pv_name, nfs(pv_name), claim, PODS[0]))
            .collect();
        let file = node.path().join("objects.json");
        std::fs::write(&file, json!({"kind": "List", "items": objects}).to_string()).unwrap();
        let objects = format!("--objects={}", file.display());
        let exporter = Exporter::start(&["--rootfs=/", &objects, "--kubelet-volume-stats=all"]);
        let alertmanager = Alertmanager::start();
        let prometheus = watching(node, &exporter, &alertmanager);
        prometheus.wait_for("count(subject:pv_disk_usage_percent_used:max) == 2");
        assert_eq!(alertmanager.alerts(), Vec::<Value>::new());

        std::fs::write(own.join("file"), vec![0; SIZE - SIZE / 100]).unwrap();
        let full = alertmanager.wait_until(|alerts| !alerts.is_empty());
        assert_eq!(subjects(&full), ["VolumeNearlyFull shop/data"]);
        assert_eq!(full[0]["annotations"]["description"], "pv-1 on n has 40kiB left. ");
        std::fs::write(disk.join("pv-2/file"), vec![0; SIZE - SIZE / 100]).unwrap();
        let scrape = exporter.scrape();
        let shared = scrape.label("pv_disk_usage_filesystem_volumes", "filesystem")[1];
        let both = [format!("VolumeNearlyFull n {shared}"), "VolumeNearlyFull shop/data".into()];
        alertmanager.wait_until(|alerts| subjects(alerts) == both);
        std::fs::remove_file(own.join("file")).unwrap();
        alertmanager.wait_until(|alerts| subjects(alerts) == both[..1]);
        std::fs::remove_file(disk.join("pv-2/file")).unwrap();
        alertmanager.wait_until(<[Value]>::is_empty);
        // Never twice for one cause, at no moment.
        let most = prometheus.query("max_over_time(count(ALERTS{alertstate='firing'})[5m:1s])");
        assert_eq!(most[0]["value"][1], "2", "{most:?}");
    });
}
