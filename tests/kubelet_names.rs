use std::collections::BTreeMap;

use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fuse::Behaviour;
use crate::support::kubelet::{Kubelet, Summary};
use crate::support::namespace::{Needs, Node, PODS, bind, in_namespace};
use crate::support::objects::{bound_volume, nfs};
use crate::support::subject::{Subject, healthy};

const CAPACITY: &str = "kubelet_volume_stats_capacity_bytes";
const ALL: &str = "--kubelet-volume-stats=all";

/// A file of objects: volumes that are bound to claims, by their names.
fn objects(node: &Node, volumes: &[(&str, &str, &str)]) -> String {
    let objects =
        volumes.iter().flat_map(|(pv_name, claim, pod)| bound_volume(pv_name, nfs(pv_name), claim, pod));
    let list = json!({"kind": "List", "items": objects.collect::<Vec<Value>>()});
    let path = node.path().join("objects.json");
    std::fs::write(&path, list.to_string()).unwrap();
    format!("--objects={}", path.display())
}

/// The labels and the value of each series.
fn series(scrape: &Exposition, family: &str) -> Vec<(String, f64)> {
    let all = scrape.all(family, &[]).into_iter();
    let text = |labels: &[(String, String)]| {
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    all.map(|(labels, value)| (text(labels), value)).collect()
}

fn capacities(scrape: &Exposition) -> BTreeMap<String, f64> {
    let claim = |labels: &[(String, String)]| {
        labels.iter().find(|(key, _)| key == "persistentvolumeclaim").unwrap().1.clone()
    };
    scrape.all(CAPACITY, &[]).into_iter().map(|(labels, value)| (claim(labels), value)).collect()
}

#[test]
fn measured_claims_have_the_kubelets_names_and_its_arithmetic() {
    in_namespace(Needs::Mounts, |node| {
        let path = node.tmpfs_volume("pv-1", "size=8m,nr_inodes=100");
        std::fs::write(path.join("file"), vec![0; 3 << 20]).unwrap();
        // A second pod with the same claim, a volume of no claim, and one of another.
        bind(&path, &node.volume(PODS[1], "nfs", "pv-1"));
        node.tmpfs_volume("pv-2", "size=1m");
        node.tmpfs_volume("pv-3", "size=2m,nr_inodes=0");
        let objects = objects(node, &[("pv-1", "data", PODS[0]), ("pv-3", "other", PODS[0])]);
        let exporter = Exporter::start(&["--rootfs=/", &objects, ALL]);
        let scrape = exporter.scrape();
        let stat = statvfs(&path).unwrap();
        let bytes = |blocks: u64| (blocks * stat.fragment_size()) as f64;
        let data = "namespace=shop persistentvolumeclaim=data".to_owned();
        let other = "namespace=shop persistentvolumeclaim=other".to_owned();
        let expected = [
            ("capacity_bytes", bytes(stat.blocks()), f64::from(2 << 20)),
            ("available_bytes", bytes(stat.blocks_available()), f64::from(2 << 20)),
            ("used_bytes", f64::from(3 << 20), 0.0),
            ("inodes", 100.0, 0.0),
            ("inodes_free", 98.0, 0.0),
            ("inodes_used", 2.0, 0.0),
        ];
        for (family, of_data, of_other) in expected {
            let found = series(&scrape, &format!("kubelet_volume_stats_{family}"));
            assert_eq!(found, [(data.clone(), of_data), (other.clone(), of_other)], "{family}");
        }
        for family in ["scrape_errors_total", "last_scrape_timestamp_seconds", "health_status_abnormal"] {
            assert_eq!(series(&scrape, &format!("kubelet_volume_stats_{family}")), [], "no kubelet is asked");
        }
        let sources = scrape.label("disk_usage_exporter_source_success", "source");
        assert_eq!(sources, ["mounts", "objects"]);
        // A pod that is not known has no series; the pods are named after their claims here.
        let exporter = Exporter::start(&["--rootfs=/", &objects, ALL, "--kubelet-volume-stats-labels=pod"]);
        let scrape = exporter.scrape();
        let found: Vec<_> = series(&scrape, CAPACITY).into_iter().map(|(labels, _)| labels).collect();
        // Of two pods with one uid the file's last counts.
        assert_eq!(found, [format!("{data} pod=pod-of-other"), format!("{other} pod=pod-of-other")]);
        // By default there are none.
        let exporter = Exporter::start(&["--rootfs=/", &objects]);
        assert!(exporter.scrape().samples.iter().all(|(name, ..)| !name.starts_with("kubelet_")));
    });
}

#[test]
fn mounts_win_and_what_they_cannot_measure_is_not_filled_from_the_kubelet() {
    in_namespace(Needs::Fuse, |node| {
        let kubelet = Kubelet::start();
        let figures = |capacity: u64| json!({"capacityBytes": capacity, "usedBytes": 1, "availableBytes": 1});
        let summary = Summary::recorded().with("well", "a", &figures(7)).with("ill", "b", &figures(8));
        kubelet.tell(&summary);
        let volumes = [("pv-well".to_owned(), healthy()), ("pv-ill".to_owned(), Behaviour::Silent)];
        let claims = objects(node, &[("pv-well", "well", PODS[0]), ("pv-ill", "ill", PODS[0])]);
        let endpoint = kubelet.endpoint();
        let args =
            ["--sources=mounts,kubelet", &endpoint, &claims, "--stat-timeout=500ms", "--scrape-interval=1ns"];
        let it = Subject::start(node, &volumes, &args);
        let scrape = it.exporter.scrape();
        let measured = scrape.value("pv_disk_usage_bytes_total", &[("pv_name", "pv-well")]).unwrap();
        let recorded =
            [("csi-block", 12_630_487_040.0), ("csi-fs", 270_553_174_016.0), ("local-claim", 190_770_176.0)];
        let mut expected: BTreeMap<String, f64> =
            recorded.into_iter().map(|(claim, value)| (claim.to_owned(), value)).collect();
        expected.insert("well".into(), measured);
        assert_eq!(capacities(&scrape), expected);
        // It hangs, and is filled as soon as it answers: by its own figures.
        it.fuse.set("pv-ill", healthy());
        let scrape = it.exporter.scrape_until("it answers", |scrape| capacities(scrape).contains_key("ill"));
        assert_eq!(capacities(&scrape)["ill"], measured);
        // Who is unmounted is known to the kubelet alone, as long as it still says so.
        let other = scrape.value("disk_usage_exporter_source_success", &[("source", "kubelet")]);
        assert_eq!(other, Some(1.0));
    });
}

#[test]
fn of_a_pod_whose_mount_hangs_and_is_of_an_unknown_claim_nothing_is_filled() {
    in_namespace(Needs::Fuse, |node| {
        let kubelet = Kubelet::start();
        // The recorded pod pg-0 has the uid of the first pod, and the claim local-claim.
        let volumes = [("pv-ill".to_owned(), Behaviour::Silent)];
        let endpoint = kubelet.endpoint();
        let args = ["--sources=mounts,kubelet", &endpoint, "--stat-timeout=500ms", "--scrape-interval=1ns"];
        let it = Subject::start(node, &volumes, &args);
        let claims: Vec<_> = capacities(&it.exporter.scrape()).into_keys().collect();
        assert_eq!(claims, ["csi-block", "csi-fs"]);
        it.fuse.set("pv-ill", healthy());
        it.exporter.scrape_until("it answers", |scrape| capacities(scrape).contains_key("local-claim"));
    });
}
