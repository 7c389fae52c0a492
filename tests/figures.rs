use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::real_mounts::exporter;
use crate::support::exporter::{Exporter, run};
use crate::support::fuse::{Behaviour, Figures, Fuse, Opcode};
use crate::support::kubelet::{Kubelet, summary as measured_now};
use crate::support::namespace::{Needs, PODS, in_namespace};
use crate::support::objects::objects_flag;
use crate::support::subject::{Subject, healthy};

/// Unknown, as coreutils have it.
const UNKNOWN: u64 = u64::MAX;
/// The most that is not negative.
const MOST: u64 = u64::MAX >> 1;

const fn negative(figure: u64) -> u64 {
    figure.wrapping_neg()
}

/// A volume; what its server answers (blocks, free, available; inodes, free; bytes of a block, of a fragment); and the
/// series with the values that are true: the public contract, written once more.
type Case = (&'static str, [u64; 3], [u64; 2], [u32; 2], &'static str);

const SERIES: [&str; 8] = [
    "bytes_total",
    "bytes_used",
    "bytes_available",
    "percent_used",
    "inodes",
    "inodes_used",
    "inodes_available",
    "inodes_percent_used",
];
const CASES: [Case; 18] = [
    ("available-unknown", [100, 50, UNKNOWN], [UNKNOWN, 5], [4096; 2], "409600 204800 - - - - - -"),
    ("blocks-unknown", [UNKNOWN; 3], [UNKNOWN; 2], [4096; 2], ""),
    // As Mountpoint for Amazon S3 answers.
    ("bucket", [0; 3], [0; 2], [512; 2], ""),
    ("ceph", [5120, 4995, 4995], [33_289, UNKNOWN], [4096; 2], "20971520 512000 20459520 2.44140625 - - - -"),
    ("free-unknown", [1024, UNKNOWN, 512], [UNKNOWN, 5], [4096; 2], "4194304 - 2097152 - - - - -"),
    ("more-free-than-there-is", [100, 200, 300], [10, 20], [4096; 2], "409600 0 409600 0 - - - -"),
    ("neither-used-nor-available", [1, 1, 0], [10, 10], [4096; 2], "4096 0 0 - 10 0 10 0"),
    ("no-block-size", [100, 50, 50], [0, 0], [0, 512], "51200 25600 25600 50 - - - -"),
    ("no-blocks", [0, 50, 50], [10, 5], [4096; 2], ""),
    ("no-fragment-size", [100, 50, 50], [0, 0], [512, 0], "51200 25600 25600 50 - - - -"),
    ("no-inodes", [100, 50, 50], [0, 5], [4096; 2], "409600 204800 204800 50 - - - -"),
    ("no-size-at-all", [100, 50, 50], [10, 5], [0, 0], ""),
    ("nothing", [0; 3], [0; 2], [0; 2], ""),
    ("quota", [1024, negative(512), negative(512)], [10, 10], [4096; 2], "4194304 6291456 0 100 10 0 10 0"),
    (
        "reserve",
        [214_724_159, 5_000_000, negative(5_736_207)],
        [1000, 900],
        [4096; 2],
        "879510155264 859030155264 0 100 1000 100 900 10",
    ),
    (
        "the-most-empty",
        [MOST; 3],
        [MOST; 2],
        [u32::MAX; 2],
        "3.9614081247908797e28 0 3.9614081247908797e28 0 9223372036854775807 0 9223372036854775807 0",
    ),
    (
        "the-most-full",
        [MOST, 0, 0],
        [MOST, 0],
        [u32::MAX; 2],
        "3.9614081247908797e28 3.9614081247908797e28 0 100 9223372036854775807 9223372036854775807 0 100",
    ),
    ("whole", [1000, 400, 300], [50, 20], [4096; 2], "4096000 2457600 1228800 66.66666666666667 50 30 20 60"),
];

/// What the kubelet says of claims: bytes available and used, inodes, free and used; in all 1000 bytes.
const COUNTED: [u64; 3] = [50, 20, 30];
const SUMMARY: [(&str, [u64; 2], [u64; 3]); 7] = [
    ("of-ceph", [900, 100], [33_289, UNKNOWN, 33_290]),
    ("of-quota", [0, 1], COUNTED),
    ("of-free-unknown", [900, 100], COUNTED),
    ("of-bucket", [900, 100], COUNTED),
    ("of-whole", [1, 1], [9, 9, 0]),
    // Not mounted here.
    ("its-ceph", [900, 100], [33_289, UNKNOWN, 33_290]),
    ("its-quota", [negative(500), 1500], [0; 3]),
];
const KUBELET_SERIES: [&str; 6] =
    ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"];
/// The kubelet's series of claims.
const OF_CLAIMS: [(&str, &str, &str); 8] = [
    ("of-ceph", "20971520 20459520 512000 0 0 0", "no limit of inodes"),
    ("of-reserve", "879510155264 0 859030155264 1000 900 100", "less than nothing is available"),
    ("of-quota", "4194304 0 6291456 10 10 0", "more is used than there is"),
    ("of-free-unknown", "4194304 2097152 - 50 20 30", "the driver counts inodes"),
    ("of-bucket", "1000 900 100 50 20 30", "the driver knows a capacity"),
    ("of-whole", "4096000 1228800 2457600 50 20 30", "what is measured wins"),
    ("its-ceph", "1000 900 100 0 0 0", ""),
    ("its-quota", "1000 0 1500 0 0 0", ""),
];

/// The series of this prefix with these values, of which `-` is none.
fn series(prefix: &str, names: &[&str], values: &str) -> BTreeMap<String, f64> {
    let values = values.split_whitespace().map(|value| value.parse().ok());
    let series = names.iter().zip(values);
    series.filter_map(|(name, value)| Some((format!("{prefix}{name}"), value?))).collect()
}

fn summary() -> Value {
    let volumes = SUMMARY.map(|(claim, [available, used], [inodes, free, inodes_used])| {
        json!({
            "pvcRef": {"namespace": "shop", "name": claim},
            "capacityBytes": 1000, "availableBytes": available, "usedBytes": used,
            "inodes": inodes, "inodesFree": free, "inodesUsed": inodes_used,
        })
    });
    let pod = json!({"name": "web-0", "namespace": "shop", "uid": "web"});
    measured_now(&json!({"pods": [{"podRef": pod, "volume": volumes}]}).to_string())
}

#[test]
fn impossible_and_unknown_figures_are_never_shown() {
    in_namespace(Needs::Fuse, |node| {
        let figures = |(name, blocks, inodes, bytes, _): Case| {
            (name.to_owned(), Behaviour::Answers(Figures { blocks, inodes, bytes }))
        };
        let claims = CASES.map(|(name, ..)| (name.to_owned(), format!("of-{name}")));
        let (objects, kubelet) = (objects_flag(node, &claims), Kubelet::start());
        kubelet.set_summary(&summary());
        let args = ["--sources=mounts,kubelet", &objects, &kubelet.endpoint()];
        let exporter = Subject::start(node, &CASES.map(figures), &args);
        let scrape = exporter.exporter.scrape();
        for (name, labels, value) in &scrape.samples {
            assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?} {value}");
        }
        for (name, .., values) in CASES {
            let shown = scrape.volume(name).into_iter().map(|(name, value)| (name.to_owned(), value));
            let mut expected = series("pv_disk_usage_", &SERIES, values);
            let up = if values.is_empty() { "0" } else { "1 0 0" };
            expected.extend(series("pv_disk_usage_", &["up", "readonly", "filesystem_readonly"], up));
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), expected, "{name}");
        }
        let failing: BTreeSet<_> = scrape.label("pv_disk_usage_error", "pv_name").into_iter().collect();
        let without = CASES.iter().filter(|case| case.4.is_empty()).map(|case| case.0);
        assert_eq!(failing, without.collect());
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["no_figures"; 5]);
        for (claim, values, why) in OF_CLAIMS {
            let label = ("persistentvolumeclaim".to_owned(), claim.to_owned());
            let of_claim = scrape.samples.iter().filter(|(_, labels, _)| labels.contains(&label));
            let shown = of_claim.map(|(name, _, value)| (name.clone(), *value));
            let expected = series("kubelet_volume_stats_", &KUBELET_SERIES, values);
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), expected, "{claim}: {why}");
        }
        let df = |output| run(&["--rootfs=/", "df", output]);
        let table = df("-o=volume,used%,used,size,available,inodes-used%,inodes");
        assert_eq!(String::from_utf8(table.stdout).unwrap(), include_str!("golden/figures.txt"));
        let rows: Vec<Value> = serde_json::from_slice(&df("-o=json").stdout).unwrap();
        let row = rows.iter().find(|row| row["volume"] == "free-unknown").unwrap();
        let known = ["used_bytes", "used_percent", "inodes", "inodes_used", "size_bytes", "available_bytes"];
        assert_eq!(
            known.map(|key| row[key].as_u64()),
            [None, None, None, None, Some(4 << 20), Some(2 << 20)]
        );
        let page = exporter.exporter.get("/").text();
        assert_eq!(page.matches("<b>100.0%</b>").count(), 3, "{page}");
    });
}

#[test]
fn object_store_is_unsupported_and_a_mount_that_root_may_not_see_is_a_failure() {
    in_namespace(Needs::Root, |node| {
        let fuse = Fuse::start();
        let [bucket, private] = ["bucket", "private"].map(|name| node.volume(PODS[0], "nfs", name));
        let store = Figures { blocks: [0; 3], inodes: [0; 2], bytes: [512; 2] };
        fuse.mount("bucket", &bucket, Behaviour::Answers(store));
        // To root its statvfs is all zeros, as the store's is, whatever the server says.
        fuse.mount_for_nobody("private", &private, healthy());
        let zeros = nix::sys::statvfs::statvfs(&private).unwrap();
        assert_eq!((zeros.blocks(), zeros.fragment_size()), (0, 0));
        let exporter = exporter();
        let scrape = exporter.scrape();
        for (name, reason) in [("bucket", "no_figures"), ("private", "permission")] {
            assert_eq!(scrape.volume(name), BTreeMap::from([("pv_disk_usage_up", 0.0)]), "{name}");
            let labels = [("pv_name", name), ("reason", reason)];
            assert_eq!(scrape.value("pv_disk_usage_error", &labels), Some(1.0), "{name}");
        }
        let state = |state| scrape.value("disk_usage_exporter_volumes", &[("state", state)]);
        assert_eq!((state("unsupported"), state("failed")), (Some(1.0), Some(1.0)));
        let failed = exporter.wait_for_log("volume_failed");
        assert_eq!((&failed["pv_name"], &failed["reason"]), (&"private".into(), &"permission".into()));
        assert_eq!(exporter.logged("volume_failed").len(), 1, "a store does not fail");
    });
}

/// There is no `CephFS` here: FUSE file systems stand in for it, in a table that gives them its type, and count requests.
#[test]
fn extended_attribute_is_read_before_statvfs_and_only_of_cephfs() {
    in_namespace(Needs::Fuse, |node| {
        let fuse = Fuse::start();
        let volumes = [("ceph", healthy()), ("ceph-silent", Behaviour::Silent), ("other", healthy())];
        for (name, behaviour) in volumes {
            fuse.mount(name, &node.volume(PODS[0], "nfs", name), behaviour);
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let file = node.path().join("mountinfo");
        fs::write(&file, table.replace(" - fuse ceph", " - ceph ceph")).unwrap();
        let table = format!("--mount-table={}", file.display());
        let scrape = Exporter::start(&["--rootfs=/", &table, "--stat-timeout=500ms"]).scrape();
        assert_eq!(scrape.label("pv_disk_usage_mount_info", "fstype"), ["ceph", "ceph", "fuse"]);
        let requests = fuse.asked();
        // The program may have probed twice: at its start, and for the scrape.
        let kinds = |name: &str| requests[name].keys().copied().collect::<Vec<_>>();
        assert_eq!(kinds("ceph"), [Opcode::STATFS, Opcode::GETXATTR, Opcode::INIT]);
        assert_eq!(kinds("other"), [Opcode::STATFS, Opcode::INIT]);
        let expected = BTreeMap::from([(Opcode::GETXATTR, 1), (Opcode::INIT, 1)]);
        assert_eq!(requests["ceph-silent"], expected, "the attribute comes first");
        let up = |name: &str| scrape.volume(name)["pv_disk_usage_up"];
        assert_eq!([up("ceph"), up("other")], [1.0, 1.0]);
        // Frees the thread that waits for it.
        drop(fuse);
    });
}
