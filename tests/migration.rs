use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use regex::Regex;
use serde_json::Value;

use crate::support::document::{read, table};
use crate::support::families::families;

const MIGRATION: &str = "MIGRATION.md";

fn matches(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// What a pattern finds in a column of the table below a heading.
fn column(heading: &str, column: usize, pattern: &str) -> BTreeSet<String> {
    let rows = table(MIGRATION, &format!("### {heading}"));
    rows.iter().flat_map(|row| matches(pattern, &row[column])).collect()
}

/// Values of the chart here that the table of the Go exporter's leads to.
pub(crate) fn chart_values() -> BTreeSet<String> {
    let value = r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)*)(?:: [^`]+)?`";
    let not_values = ["kubeletOnly", "runAsGroup", "honorLabels"].map(str::to_owned);
    &column("The Go exporter's chart values", 1, value) - &not_values.into()
}

/// The values for a chart that is like the Go exporter's.
pub(crate) fn compatible_values() -> Value {
    let text = read(MIGRATION);
    let block = text.split("\n```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    serde_saphyr::from_str(block).unwrap()
}

#[test]
fn every_flag_value_and_metric_of_the_other_exporters_has_a_row() {
    let expected: BTreeMap<String, BTreeSet<String>> =
        serde_saphyr::from_str(&read("tests/migration.yaml")).unwrap();
    for (heading, expected) in expected {
        assert_eq!(column(&heading, 0, "`([^`]+)`"), expected, "{heading}");
    }
}

#[test]
fn flags_and_metrics_that_it_leads_to_exist() {
    let text = read(MIGRATION);
    let command = Args::command();
    let names =
        command.get_arguments().flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default());
    let known: BTreeSet<String> = names.map(|name| format!("--{name}")).collect();
    // The first column is the other exporter's.
    let first_column = Regex::new(r"(?m)^\| `.*? \| ").unwrap();
    let flags = matches("(--[a-z][a-z-]*)", &first_column.replace_all(&text, ""));
    assert!(flags.len() > 5, "{flags:?}");
    assert_eq!(&flags - &known, BTreeSet::new());
    let metrics = matches(r"`((?:kubelet_volume_stats|pv_disk_usage|disk_usage_exporter)_\w+)`", &text);
    assert!(metrics.iter().all(|name| families().contains_key(name.as_str())), "{metrics:?}");
}
