use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::apiserver::{Recorded, Resource, Verb};
use crate::support::cluster::{Cluster, NODE, claim_of, pod, pod_of, pv, requests, volumes};
use crate::support::exporter::Exporter;
use crate::support::fixture::POD;

/// Volumes on this node.
const HERE: usize = 100;

/// What a start on this node costs.
struct Cost {
    /// Bytes of the answers to each kind of request, sorted.
    answers: BTreeMap<String, Vec<usize>>,
    peak: u64,
}

/// The most memory that a process had, in KiB.
fn peak(exporter: &Exporter) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Starts on a node of a cluster with so many volumes and half as many pods, and scrapes.
fn start(in_cluster: usize) -> Cost {
    let mut cluster = Cluster::new();
    cluster.server.generate(Box::new(move |resource, name| {
        let number: usize = name.trim_end_matches("-claim").strip_prefix("pv-")?.parse().ok()?;
        (number < in_cluster).then(|| object(resource, &format!("pv-{number}")))
    }));
    cluster.server.generate_pods(in_cluster / 2, |number| {
        // Some are on this node, whatever the cluster's size.
        let node = if number < 10 { NODE.to_owned() } else { format!("node-{}", 2 + number % 500) };
        pod(&format!("pod-{number}"), &format!("uid-{number}"), &node)
    });
    let names: Vec<String> = (0..HERE).map(|number| format!("pv-{number}")).collect();
    cluster.mount_only(&names.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.server.put(pod_of("app", POD, &names.iter().map(|name| claim_of(name)).collect::<Vec<_>>()));
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "pvc_name").len(), HERE);
    let mut answers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for request in cluster.server.requests() {
        answers.entry(request.brief()).or_default().push(request.sent);
    }
    Cost { answers, peak: peak(&exporter) }
}

fn object(resource: Resource, pv_name: &str) -> Value {
    match resource {
        Resource::PersistentVolumes => pv(pv_name),
        _ => json!({"kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "shop", "name": claim_of(pv_name), "labels": {"app": "shop"}}, "spec": {}}),
    }
}

#[test]
fn a_clusters_size_costs_a_node_nothing() {
    let (small, large) = (start(HERE), start(100_000));
    let bytes = |cost: &Cost| cost.answers.values().flatten().sum::<usize>();
    for (cost, size) in [(&small, HERE), (&large, 100_000)] {
        let (requests, bytes) = (cost.answers.len(), bytes(cost));
        println!("{size} volumes in the cluster: {requests} requests, {bytes} bytes, {} KiB", cost.peak);
    }
    // One a volume and one a claim, and a watch.
    assert_eq!(small.answers.len(), 2 * HERE + 1);
    assert_eq!(small.answers.keys().collect::<Vec<_>>(), large.answers.keys().collect::<Vec<_>>());
    // A lookup that begins before the first pods have come is made again when they have: at most the four in flight.
    let first = |cost: &Cost| -> Vec<usize> { cost.answers.values().map(|answers| answers[0]).collect() };
    let repeated = |cost: &Cost| cost.answers.values().map(|answers| answers.len() - 1).sum::<usize>();
    assert_eq!(first(&small), first(&large));
    assert!(repeated(&small) <= 4 && repeated(&large) <= 4, "{} and {}", repeated(&small), repeated(&large));
    // The same but for what an allocator does differently from run to run.
    assert!(large.peak < small.peak + small.peak / 4, "{} KiB, not {}", large.peak, small.peak);
}

/// A pod with so many bytes that are not used.
fn large_pod(number: usize, bytes: usize) -> Value {
    let mut pod = pod(&format!("pod-{number}"), &format!("uid-{number}"), NODE);
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
        cluster.server.put_all((0..250).map(|number| large_pod(number, bytes)));
        let exporter = cluster.start(&[]);
        exporter.wait_until_ready();
        cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
        // The same again as events.
        cluster.server.put_all((0..250).map(|number| large_pod(number, bytes)));
        cluster.server.remove(Resource::Pods, "shop", "app");
        cluster.server.put(pod("renamed", POD, NODE));
        let scrape = exporter.scrape_until("all events are read", |scrape| {
            scrape.label("pv_disk_usage_mount_info", "pod_name") == ["renamed"]
        });
        assert_eq!(requests(&scrape, Resource::Pods, "watch", "200"), 1.0);
        let watched = cluster.server.requests();
        let watched = watched.iter().find(|request| request.verb == Verb::Watch).unwrap().sent;
        let peak = peak(&exporter);
        println!("250 pods of {bytes} bytes: events of {watched} bytes, {peak} KiB");
        (watched, peak)
    };
    let (small, large) = (peak_with(100), peak_with(20_000));
    assert!(large.0 > 250 * 20_000);
    // One event at a time.
    assert!(large.1 < small.1 + 2500, "{} KiB, not {}", large.1, small.1);
}

#[test]
fn a_thousand_volumes_of_which_a_tenth_is_new() {
    let mut cluster = Cluster::new();
    let names: Vec<String> = (0..1100).map(|number| format!("pv-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        cluster.put(name);
    }
    cluster.mount_by_many(&names[..1000]);
    let exporter = cluster.start(&[]);
    exporter.scrape();
    // Where the pods come late, some are asked for twice.
    let gets = |requests: &[Recorded]| {
        let gets = requests.iter().filter(|request| request.verb == Verb::Get);
        gets.map(Recorded::brief).collect::<BTreeSet<_>>().len()
    };
    cluster.server.wait_for("all answers", |requests| gets(requests) == 2000);
    exporter.scrape_until("all labels", |scrape| scrape.label("pv_disk_usage_up", "pvc_name").len() == 1000);
    cluster.mount_by_many(&names[100..]);
    let scrape = exporter.scrape();
    assert_eq!((scrape.all("pv_disk_usage_up", &[]).len(), volumes(&scrape, "pending")), (900, 100.0));
    let scrape = exporter.scrape_until("the new ones", |scrape| volumes(scrape, "pending") == 0.0);
    assert_eq!(scrape.label("pv_disk_usage_up", "pvc_name").len(), 1000);
    assert_eq!(gets(&cluster.server.requests()), 2200, "nothing else is asked");
    println!("1,000 volumes: {} KiB", peak(&exporter));
}
