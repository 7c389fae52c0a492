use serde_json::{Value, json};

use crate::support::exporter::run;
use crate::support::exposition::Exposition;

const VOLUMES: &str =
    "/var/lib/kubelet/pods/6ad83273-bbc5-4a23-9e8c-d796d288e15a/volumes/kubernetes.io~local-volume";

/// How many volumes are on the file system of each, for volumes of one device with these records.
fn counts(records: &[Value]) -> Vec<Option<f64>> {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..records.len()).map(|at| format!("{VOLUMES}/pv-{at}")).collect();
    let row = |(at, path): (usize, &String)| format!("{} 1 8:16 /{at} {path} rw - xfs /dev/sdb rw", 100 + at);
    let rows: Vec<_> = paths.iter().enumerate().map(row).collect();
    let figures: serde_json::Map<_, _> = paths.iter().cloned().zip(records.iter().cloned()).collect();
    std::fs::write(directory.path().join("mountinfo"), rows.join("\n")).unwrap();
    std::fs::write(directory.path().join("statvfs.json"), Value::from(figures).to_string()).unwrap();
    let fixture = format!("--fixture={}", directory.path().display());
    let output = run(&[&fixture, "--kubernetes=off", "metrics"]);
    let scrape = Exposition::parse(&String::from_utf8(output.stdout).unwrap());
    let value = |at| scrape.value("pv_disk_usage_filesystem_volumes", &[("pv_name", &format!("pv-{at}"))]);
    (0..records.len()).map(value).collect()
}

fn figures(blocks: u64, free: u64) -> Value {
    json!({"statvfs": {"frsize": 4096, "blocks": blocks, "bfree": free, "bavail": free, "files": 9, "ffree": 9}})
}

#[test]
fn directories_with_equal_quotas_are_file_systems_of_their_own() {
    let quotas = [26_214, 2_359_296, 2_097_152].map(|free| figures(2_621_440, free));
    assert_eq!(counts(&quotas), [Some(1.0); 3]);
}

#[test]
fn volumes_of_one_file_system_are_counted_whatever_moves_or_fails() {
    let moving = [figures(1_000_000, 10_000), figures(1_000_008, 10_007), json!({"error": "EAGAIN"})];
    assert_eq!(counts(&moving), [Some(3.0), Some(3.0), None]);
}
