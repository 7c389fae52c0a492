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

const FIGURES: &str = include_str!("figures.txt");
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
const KUBELET_SERIES: [&str; 6] =
    ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"];

/// The rows of a table, without its comments.
fn rows<const N: usize>(table: &'static str) -> Vec<[&'static str; N]> {
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let cells = |row: &'static str| row.split('|').map(str::trim).collect::<Vec<_>>().try_into().unwrap();
    rows.map(cells).collect()
}

/// Numbers, of which negative ones are as the kernel has them.
fn numbers<const N: usize>(cell: &str) -> [u64; N] {
    let number = |text: &str| text.parse::<i64>().unwrap().cast_unsigned();
    cell.split(' ').map(number).collect::<Vec<_>>().try_into().unwrap()
}

/// The series of this prefix with these values, of which `-` is none.
fn series(prefix: &str, names: &[&str], values: &str) -> BTreeMap<String, f64> {
    let values = values.split_whitespace().map(|value| value.parse().ok());
    let series = names.iter().zip(values);
    series.filter_map(|(name, value)| Some((format!("{prefix}{name}"), value?))).collect()
}

/// What the kubelet says of a claim, if it does.
fn reported(claim: &str, cell: &str) -> Option<Value> {
    let [available, used, inodes, free, inodes_used] = (!cell.is_empty()).then(|| numbers(cell))?;
    Some(json!({
        "pvcRef": {"namespace": "shop", "name": claim},
        "capacityBytes": 1000, "availableBytes": available, "usedBytes": used,
        "inodes": inodes, "inodesFree": free, "inodesUsed": inodes_used,
    }))
}

/// The public contract, written once more.
#[test]
fn impossible_and_unknown_figures_are_never_shown() {
    in_namespace(Needs::Fuse, |node| {
        let (volumes, claims) = FIGURES.split_once("\n\n").unwrap();
        let (volumes, claims) = (rows::<5>(volumes), rows::<3>(claims));
        let claims = claims.iter().map(|[claim, ..]| claim.split(',').next().unwrap()).zip(&claims);
        let behaviours = volumes.iter().map(|[name, blocks, inodes, bytes, _]| {
            let bytes = numbers(bytes).map(|bytes| u32::try_from(bytes).unwrap());
            let figures = Figures { blocks: numbers(blocks), inodes: numbers(inodes), bytes };
            ((*name).to_owned(), Behaviour::Answers(figures))
        });
        let bound: Vec<_> =
            volumes.iter().map(|[name, ..]| ((*name).to_owned(), format!("of-{name}"))).collect();
        let (objects, kubelet) = (objects_flag(node, &bound), Kubelet::start());
        let pod = json!({"name": "web-0", "namespace": "shop", "uid": "web"});
        let reported: Vec<_> =
            claims.clone().filter_map(|(claim, [_, cell, _])| reported(claim, cell)).collect();
        let summary = json!({"pods": [{"podRef": pod, "volume": reported}]});
        kubelet.set_summary(&measured_now(&summary.to_string()));
        let args = ["--sources=mounts,kubelet", &objects, &kubelet.endpoint()];
        let node = Subject::start(node, &behaviours.collect::<Vec<_>>(), &args);
        let scrape = node.exporter.scrape();
        for (name, labels, value) in &scrape.samples {
            assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?} {value}");
        }
        for [name, .., values] in &volumes {
            let shown = scrape.volume(name).into_iter().map(|(name, value)| (name.to_owned(), value));
            let mut expected = series("pv_disk_usage_", &SERIES, values);
            let up = if values.is_empty() { "0" } else { "1 0 0" };
            expected.extend(series("pv_disk_usage_", &["up", "readonly", "filesystem_readonly"], up));
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), expected, "{name}");
        }
        let failing: BTreeSet<_> = scrape.label("pv_disk_usage_error", "pv_name").into_iter().collect();
        let without = volumes.iter().filter(|[.., values]| values.is_empty()).map(|[name, ..]| *name);
        assert_eq!(failing, without.collect());
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["no_figures"; 5]);
        for (claim, [why, _, values]) in claims {
            let label = ("persistentvolumeclaim".to_owned(), claim.to_owned());
            let of_claim = scrape.samples.iter().filter(|(_, labels, _)| labels.contains(&label));
            let shown = of_claim.map(|(name, _, value)| (name.clone(), *value));
            let expected = series("kubelet_volume_stats_", &KUBELET_SERIES, values);
            assert_eq!(shown.collect::<BTreeMap<_, _>>(), expected, "{why}");
        }
        let df = |output| run(&["--rootfs=/", "df", output]);
        let table = df("-o=volume,used%,used,size,available,inodes-used%,inodes");
        assert_eq!(String::from_utf8(table.stdout).unwrap(), include_str!("figures-df.txt"));
        let rows: Vec<Value> = serde_json::from_slice(&df("-o=json").stdout).unwrap();
        let row = rows.iter().find(|row| row["volume"] == "free-unknown").unwrap();
        let keys = ["used_bytes", "used_percent", "inodes", "inodes_used", "size_bytes", "available_bytes"];
        assert_eq!(keys.map(|key| row[key].as_u64()), [None, None, None, None, Some(4 << 20), Some(2 << 20)]);
        let page = node.exporter.get("/").text();
        assert_eq!(page.matches("<b>100.0%</b>").count(), 4, "{page}");
        assert_eq!(
            page.matches("inodes</small>").count(),
            1,
            "only where they are known and tighter: {page}"
        );
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
        let exporter = Exporter::start(&["--rootfs=/", &table, "--stat-timeout=500ms"]);
        let scrape = exporter.scrape();
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
