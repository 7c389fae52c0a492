use std::collections::BTreeSet;

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

/// Everything in backticks in a column of the tables below these headings.
fn column(headings: &[&str], column: usize, pattern: &str) -> BTreeSet<String> {
    let rows = headings.iter().flat_map(|heading| table(MIGRATION, &format!("### {heading}")));
    rows.flat_map(|row| matches(pattern, &row[column])).collect()
}

/// Values of the chart here that the table of the Go exporter's leads to.
pub(crate) fn chart_values() -> BTreeSet<String> {
    let value = r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)*)(?:: [^`]+)?`";
    let values = column(&["The Go exporter's chart values"], 1, value);
    &values - &names("kubeletOnly runAsGroup honorLabels")
}

/// The values for a chart that is like the Go exporter's.
pub(crate) fn compatible_values() -> Value {
    let text = read(MIGRATION);
    let block = text.split("\n```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    serde_saphyr::from_str(block).unwrap()
}

fn names(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_flag_value_and_metric_of_the_other_exporters_has_a_row() {
    for (headings, expected) in [
        (
            &["The Go exporter's flags"][..],
            "--kubelet-endpoint --metrics-port --scrape-interval --token-path --insecure-skip-tls-verify --debug",
        ),
        (
            &["The Python exporter's flags"],
            "--listen-host --listen-port --log-level --log-human --export-all-mounts PATH",
        ),
        (
            &["The Go exporter's chart values"],
            "image.repository image.tag image.pullPolicy imagePullSecrets nameOverride fullnameOverride
            serviceAccount.create serviceAccount.annotations serviceAccount.name rbac.create
            config.kubeletEndpoint config.metricsPort config.scrapeInterval config.insecureSkipTLSVerify
            config.tokenPath config.debug
            daemonset.updateStrategy daemonset.podAnnotations daemonset.podLabels daemonset.hostNetwork
            daemonset.hostPID daemonset.priorityClassName
            securityContext podSecurityContext livenessProbe readinessProbe resources nodeSelector tolerations affinity
            service.type service.port service.annotations service.headless
            serviceMonitor.enabled serviceMonitor.namespace serviceMonitor.labels serviceMonitor.annotations
            serviceMonitor.interval serviceMonitor.scrapeTimeout serviceMonitor.metricRelabelings
            serviceMonitor.relabelings serviceMonitor.targetLabels serviceMonitor.selector
            volumes.token.expirationSeconds",
        ),
        (
            &["The Go exporter's metrics", "The Python exporter's metrics"],
            "kubelet_volume_stats_capacity_bytes kubelet_volume_stats_available_bytes kubelet_volume_stats_used_bytes
            kubelet_volume_stats_inodes kubelet_volume_stats_inodes_free kubelet_volume_stats_inodes_used
            kubelet_volume_stats_scrape_errors_total kubelet_volume_stats_last_scrape_timestamp_seconds
            pv_disk_usage_bytes_total pv_disk_usage_bytes_used pv_disk_usage_bytes_available pv_disk_usage_percent_used
            pv_disk_usage_timing_collect_seconds pv_disk_usage_timing_total_seconds",
        ),
    ] {
        assert_eq!(column(headings, 0, "`([^`]+)`"), names(expected), "{headings:?}");
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
