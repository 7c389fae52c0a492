use std::fs;
use std::path::{Path, PathBuf};

use crate::support::exporter::run;
use crate::support::exposition::Exposition;
use crate::support::tool::{assert_promtool_agrees, is_there};

/// Set to renew the golden files: `RENEW_FIXTURES=1 cargo test fixtures`.
const RENEW: &str = "RENEW_FIXTURES";

/// What differs from run to run, and is written as 0.
const VOLATILE: [&str; 7] = [
    "process_",
    "pv_disk_usage_timing_",
    "disk_usage_exporter_metadata_age_seconds",
    // The counts of observations are compared.
    "disk_usage_exporter_collection_duration_seconds_bucket",
    "disk_usage_exporter_collection_duration_seconds_sum",
    "disk_usage_exporter_probe_duration_seconds_bucket",
    "disk_usage_exporter_probe_duration_seconds_sum",
];
/// The registry does not sort its series.
const UNSORTED: &str = "disk_usage_exporter_probe_duration_seconds_";

fn nodes() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes");
    let mut nodes: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    nodes.sort();
    nodes
}

fn exposition(node: &Path) -> String {
    let fixture = format!("--fixture={}", node.display());
    let output = run(&["metrics", "--stat-timeout=500ms", &fixture]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn stable(exposition: &str) -> String {
    let lines = exposition.lines().map(|line| {
        if VOLATILE.iter().any(|name| line.starts_with(name)) {
            format!("{} 0\n", line.rsplit_once(' ').unwrap().0)
        } else if line.starts_with("disk_usage_exporter_build_info{") {
            "disk_usage_exporter_build_info{version=\"0\",revision=\"0\"} 1\n".to_owned()
        } else {
            format!("{line}\n")
        }
    });
    let mut lines: Vec<String> = lines.collect();
    let is_unsorted = |line: &String| line.starts_with(UNSORTED);
    let unsorted = lines.iter().position(is_unsorted).unwrap();
    let count = lines.iter().filter(|line| is_unsorted(line)).count();
    // By volume type; the lines of one histogram stay in order.
    let volume_type = |line: &String| {
        line.split_once("volume_type=").map(|(_, rest)| rest.split('"').nth(1).map(str::to_owned))
    };
    lines[unsorted..unsorted + count].sort_by_key(volume_type);
    lines.concat()
}

#[test]
fn expositions_are_the_golden_ones() {
    let names: Vec<_> = nodes().iter().map(|node| node.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["csi", "gke", "mixed"]);
    for node in nodes() {
        let golden = node.join("expected.prom");
        let found = stable(&exposition(&node));
        if std::env::var_os(RENEW).is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        let difference = difference(&expected, &found);
        assert!(difference.is_empty(), "{} (renew by {RENEW}=1):\n{difference}", golden.display());
        assert_eq!(expected, found, "the order of {}", golden.display());
    }
}

/// Lines that only one side has.
fn difference(expected: &str, found: &str) -> String {
    let only = |sign: &str, these: &str, others: &str| -> String {
        let lines = these.lines().filter(|line| !others.lines().any(|other| other == *line));
        lines.flat_map(|line| [sign, line, "\n"]).collect()
    };
    only("-", expected, found) + &only("+", found, expected)
}

#[test]
fn golden_expositions_are_valid() {
    for node in nodes() {
        let golden = fs::read_to_string(node.join("expected.prom")).unwrap();
        assert!(!Exposition::parse(&golden).samples.is_empty(), "{}", node.display());
    }
    if is_there("promtool", &["--version"]) {
        for node in nodes() {
            assert_promtool_agrees(&fs::read_to_string(node.join("expected.prom")).unwrap());
        }
    }
}

/// The case that the Python exporter was made for: of a GKE node's table only the pods' own mounts are volumes.
#[test]
fn of_a_gke_nodes_table_only_pods_persistent_disks_are_volumes() {
    let node = nodes().into_iter().find(|node| node.ends_with("gke")).unwrap();
    let table = fs::read_to_string(node.join("mounts")).unwrap();
    let mut expected: Vec<&str> = table
        .lines()
        .filter_map(|row| row.split(' ').nth(1)?.strip_prefix("/rootfs"))
        .filter(|path| {
            path.starts_with("/var/lib/kubelet/pods/") && path.contains("/volumes/kubernetes.io~gce-pd/")
        })
        .collect();
    expected.sort_unstable();
    let exposition = Exposition::parse(&exposition(&node));
    let mut found = exposition.label("pv_disk_usage_mount_info", "mountpoint");
    found.sort_unstable();
    assert_eq!(found, expected);
    for part in ["/home/kubernetes/containerized_mounter/", "plugins/kubernetes.io/gce-pd/mounts/"] {
        assert!(table.contains(part), "the table must have mounts that are no volumes: {part}");
    }
}
