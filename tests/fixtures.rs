use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{stderr, stdout};
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

/// The recorded nodes.
pub(crate) fn nodes() -> [PathBuf; 3] {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes");
    ["csi", "gke", "mixed"].map(|name| directory.join(name))
}

fn exposition(node: &Path) -> String {
    let output = run(&["metrics", "--stat-timeout=500ms", &format!("--fixture={}", node.display())]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
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
    let unsorted = lines.iter().position(|line| line.starts_with(UNSORTED)).unwrap();
    let series = lines[unsorted..].partition_point(|line| line.starts_with(UNSORTED));
    // The lines of one histogram stay in order.
    lines[unsorted..unsorted + series].sort_by_key(|line| {
        line.split_once("volume_type=").map(|(_, rest)| rest.split('"').nth(1).map(str::to_owned))
    });
    lines.concat()
}

#[test]
fn expositions_are_valid_and_the_golden_ones() {
    let directories = fs::read_dir(nodes()[0].parent().unwrap()).unwrap();
    assert_eq!(directories.count(), nodes().len());
    let has_promtool = is_there("promtool", &["--version"]);
    for node in nodes() {
        let golden = node.join("expected.prom");
        let actual = stable(&exposition(&node));
        if std::env::var_os(RENEW).is_some() {
            fs::write(&golden, &actual).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        let difference = only_in("-", &expected, &actual) + &only_in("+", &actual, &expected);
        assert!(difference.is_empty(), "{} (renew by {RENEW}=1):\n{difference}", golden.display());
        assert_eq!(expected, actual, "the order of {}", golden.display());
        assert!(!Exposition::parse(&expected).samples.is_empty(), "{}", golden.display());
        if has_promtool {
            assert_promtool_agrees(&expected);
        }
    }
}

/// Lines that only the first has.
fn only_in(sign: &str, first: &str, second: &str) -> String {
    let lines = first.lines().filter(|line| !second.lines().any(|other| other == *line));
    lines.flat_map(|line| [sign, line, "\n"]).collect()
}

/// The case that the Python exporter was made for.
#[test]
fn of_a_gke_nodes_table_only_persistent_disks_of_pods_are_volumes() {
    let [_, node, _] = nodes();
    let table = fs::read_to_string(node.join("mounts")).unwrap();
    let mountpoints = table.lines().filter_map(|row| row.split(' ').nth(1)?.strip_prefix("/rootfs"));
    let of_pods = mountpoints.filter(|path| {
        path.starts_with("/var/lib/kubelet/pods/") && path.contains("/volumes/kubernetes.io~gce-pd/")
    });
    let mut expected: Vec<&str> = of_pods.collect();
    expected.sort_unstable();
    let exposition = Exposition::parse(&exposition(&node));
    let mut actual = exposition.label("pv_disk_usage_mount_info", "mountpoint");
    actual.sort_unstable();
    assert_eq!(actual, expected);
    for part in ["/home/kubernetes/containerized_mounter/", "plugins/kubernetes.io/gce-pd/mounts/"] {
        assert!(table.contains(part), "the table must have mounts that are no volumes: {part}");
    }
}
