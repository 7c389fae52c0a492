use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::{Value, json};

use crate::support::document::{files, read, table, yaml};
use crate::support::families::families;
use crate::support::manifest::{list, text};
use crate::support::promql::assert_known;
use crate::support::tool::{is_there, stdout};

/// The shipped files.
pub(crate) fn shipped() -> Vec<String> {
    files("manifests/rules", "yaml")
}

/// Where the shipped alerts say that the project's documents are.
pub(crate) const BASE: &str = "https://disk-usage-exporter.example/";

/// The file with the tests of a shipped file.
fn tests_of(rules: &str) -> String {
    rules.replace("manifests/", "tests/").replace(".yaml", ".test.yml")
}

/// All rules of all files.
pub(crate) fn rules() -> Vec<Value> {
    let groups = shipped().into_iter().flat_map(|file| list(&yaml(&file)["groups"]).to_vec());
    groups.flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

fn recorded() -> BTreeSet<String> {
    rules().iter().filter_map(|rule| Some(rule["record"].as_str()?.to_owned())).collect()
}

/// The shipped alerts by their names.
pub(crate) fn alerts() -> BTreeMap<String, Value> {
    let mut alerts = BTreeMap::new();
    for rule in rules().into_iter().filter(|rule| rule["alert"].is_string()) {
        let former = alerts.insert(text(&rule["alert"]).to_owned(), rule);
        assert_eq!(former, None, "two alerts of one name");
    }
    alerts
}

#[test]
fn rules_pass_their_unit_tests() {
    if is_there("promtool", &["--version"]) {
        let shipped = shipped();
        for file in &shipped {
            stdout("promtool", &["check", "rules", "--lint-fatal", file], "");
        }
        for tests in shipped.iter().map(|file| tests_of(file)).chain(["tests/rules/claims.test.yml".into()]) {
            stdout("promtool", &["test", "rules", &tests], "");
        }
    }
}

/// Some servers show a recorded series one evaluation late: as Prometheus does where rules stand before those that they read.
#[test]
fn nobody_who_is_away_for_a_moment_resolves_an_alert_where_recorded_series_are_late() {
    if is_there("promtool", &["--version"]) {
        let directory = tempfile::tempdir().unwrap();
        let mut rules = rules();
        rules.reverse();
        let late = json!({"groups": [{"name": "late", "rules": rules}]});
        std::fs::write(directory.path().join("late.json"), late.to_string()).unwrap();
        let test = directory.path().join("late.test.yml");
        std::fs::write(&test, read("tests/rules/late.test.yml")).unwrap();
        stdout("promtool", &["test", "rules", test.to_str().unwrap()], "");
    }
}

#[test]
fn every_alert_is_shown_firing_and_not_firing() {
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in shipped() {
        let tests = yaml(&tests_of(&file));
        for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
            let expected = case["exp_alerts"].as_array().unwrap();
            let shown = if expected.is_empty() { &mut silent } else { &mut firing };
            shown.insert(text(&case["alertname"]).to_owned());
        }
    }
    let alerts: BTreeSet<_> = alerts().into_keys().collect();
    assert_eq!((&firing, &silent), (&alerts, &alerts));
}

/// What follows each `word (` in a query.
fn lists<'a>(query: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    query.split(word).skip(1).map(|rest| rest.split(')').next().unwrap())
}

#[test]
fn queries_name_existing_metrics_and_keep_clusters_apart() {
    let recorded = recorded();
    let label = Regex::new(r"%(\[\d\])?q").unwrap();
    for rule in rules() {
        let expr = text(&rule["expr"]);
        // An annotation's template queries what it has in backticks.
        let description = text(&rule["annotations"]["description"]).split('`').skip(1).step_by(2);
        let queries: Vec<_> =
            description.map(|query| label.replace_all(query, "\"\"").into_owned()).collect();
        for query in queries.iter().map(String::as_str).chain([expr]) {
            assert_known(query, &recorded);
        }
        let joined = queries.iter().flat_map(|query| lists(query, " on ("));
        for labels in lists(expr, " by (").chain(lists(expr, " on (")).chain(joined) {
            // `on ()` asks whether there is anything at all.
            assert!(labels.is_empty() || labels.starts_with("cluster, "), "{labels}: {rule:#}");
        }
    }
}

/// One series too many on that side of a join makes a rule fail for all volumes.
#[test]
fn volumes_are_joined_with_what_is_one_of_many() {
    let join = Regex::new(r"group_left \([^)]*\)\s+([\w:]+)").unwrap();
    let mut joined = BTreeSet::new();
    for rule in rules() {
        let names = join.captures_iter(text(&rule["expr"])).map(|name| name[1].to_owned());
        joined.extend(names.filter(|name| name != "topk"));
    }
    assert_eq!(joined.len(), 2, "{joined:?}");
    for rule in
        rules().iter().filter(|rule| rule["record"].as_str().is_some_and(|name| joined.contains(name)))
    {
        assert!(text(&rule["expr"]).contains("topk by (cluster, "), "{rule:#}");
    }
}

#[test]
fn every_alert_has_a_severity_a_runbook_and_a_row_in_the_readme() {
    let alerts = alerts();
    let mut rows = BTreeSet::new();
    for (name, alert) in &alerts {
        let (severity, annotations) = (text(&alert["labels"]["severity"]), &alert["annotations"]);
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        // As GitHub makes anchors of headings.
        let runbook = format!("docs/runbooks.md#{}", name.to_lowercase());
        assert_eq!(annotations["runbook_url"], format!("{BASE}{runbook}"));
        rows.insert(vec![format!("[`{name}`]({runbook})"), severity.to_owned()]);
    }
    let documented = table("README.md", "## Alerts and dashboards");
    assert_eq!(documented.into_iter().map(|row| row[..2].to_vec()).collect::<BTreeSet<_>>(), rows);
    let runbooks = read("docs/runbooks.md");
    let sections: BTreeSet<_> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts.keys().map(String::as_str).collect());
}

#[test]
fn runbooks_name_existing_metrics() {
    let recorded = recorded();
    let runbooks = read("docs/runbooks.md");
    let words = runbooks.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
    let prefixes = ["pv_disk_usage_", "disk_usage_exporter_", "kubelet_volume_", "subject:", "claim:"];
    let is_metric = |word: &str| prefixes.iter().any(|prefix| word != *prefix && word.starts_with(prefix));
    let named: BTreeSet<_> = words.filter(|word| is_metric(word)).collect();
    assert!(named.len() > 20, "{named:?}");
    let unknown = named.iter().filter(|name| !recorded.contains(**name) && !families().contains_key(**name));
    assert_eq!(unknown.collect::<Vec<_>>(), [&""; 0]);
}
