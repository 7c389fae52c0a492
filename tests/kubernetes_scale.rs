use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, requests};
use crate::support::exporter::Exporter;
use crate::support::fixture::POD;
use crate::support::objects::{NODE, bound, pod, pv_names};

/// The most memory that a process had, in KiB.
fn peak(exporter: &Exporter) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Starts on a node with 100 volumes of a cluster with so many volumes and half as many pods, and scrapes; returns the bytes
/// of the responses to each kind of request, and the peak of memory.
fn start(in_cluster: usize) -> (BTreeMap<String, usize>, u64) {
    let names = pv_names(in_cluster);
    let cluster = Cluster::of(&names[..100]);
    cluster.server.put((0..in_cluster / 2).map(|number| {
        let mut pod = pod(&format!("uid-{number}"), &[]);
        // Some are on this node, whatever the cluster's size.
        pod["spec"]["nodeName"] =
            if number < 10 { json!(NODE) } else { json!(format!("node-{}", 2 + number % 500)) };
        pod
    }));
    cluster.server.put(names[100..].iter().flat_map(|name| bound(name, "first")));
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    cluster.server.wait_for_open_watch();
    assert_eq!(exporter.scrape().label("pv_disk_usage_up", "pvc_name").len(), 100);
    let requests = cluster.server.requests();
    let responses: BTreeMap<_, _> = requests.iter().map(|request| (request.brief(), request.sent)).collect();
    // One for each volume and each claim, and a watch.
    assert_eq!((requests.len(), responses.len()), (201, 201));
    (responses, peak(&exporter))
}

#[test]
fn requests_and_memory_do_not_depend_on_the_clusters_size() {
    let ((small, small_peak), (large, large_peak)) = (start(100), start(20_000));
    println!("{} bytes, {small_peak} KiB and {large_peak} KiB", small.values().sum::<usize>());
    assert_eq!(small, large);
    // An allocator does not do the same in each run.
    assert!(large_peak < small_peak + small_peak / 4, "{large_peak} KiB, not {small_peak}");
}

/// A pod with so many bytes that are not used.
fn large_pod(number: usize, bytes: usize) -> Value {
    let mut pod = pod(&format!("uid-{number}"), &[]);
    let field = "x".repeat(bytes / 4);
    pod["metadata"]["managedFields"] = json!([{"manager": "kubelet", "fieldsV1": {"f:status": field}}]);
    pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": field});
    pod["spec"]["containers"] = json!([{"name": "c", "env": [{"name": "X", "value": field}]}]);
    pod["status"] = json!({"phase": "Running", "conditions": [{"message": field}]});
    pod
}

#[test]
fn large_pods_take_no_memory() {
    let peak_with = |bytes: usize| {
        let cluster = Cluster::of(&["pv-1"]);
        cluster.server.put((0..250).map(|number| large_pod(number, bytes)));
        let exporter = cluster.start(&[]);
        exporter.wait_until_ready();
        cluster.server.wait_for_open_watch();
        // The same again as events.
        cluster.server.put((0..250).map(|number| large_pod(number, bytes)));
        let mut renamed = pod(POD, &["pv-1"]);
        cluster.server.remove([renamed.clone()]);
        renamed["metadata"]["name"] = json!("renamed");
        cluster.server.put([renamed]);
        let scrape = exporter.scrape_until("all events are read", |scrape| {
            scrape.label("pv_disk_usage_mount_info", "pod_name") == ["renamed"]
        });
        assert_eq!(requests(&scrape, "pods", "watch", "200"), 1.0);
        let requests = cluster.server.requests();
        let sent = requests.iter().find(|request| request.verb == "watch").unwrap().sent;
        let peak = peak(&exporter);
        println!("250 pods of {bytes} bytes: events of {sent} bytes, {peak} KiB");
        (sent, peak)
    };
    let (small, large) = (peak_with(100), peak_with(20_000));
    assert!(large.0 > 250 * 20_000);
    // One event at a time.
    assert!(large.1 < small.1 + 2500, "{} KiB, not {}", large.1, small.1);
}
