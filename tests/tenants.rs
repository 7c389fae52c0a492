use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

use serde_json::{Map, Value, json};

use crate::support::apiserver::{ApiServer, Fault};
use crate::support::cluster::{Cluster, with};
use crate::support::exposition::Exposition;
use crate::support::fixture::{POD, answering};
use crate::support::http::{self, Response};
use crate::support::memory_limit::MemoryLimit;
use crate::support::namespace::{Needs, Node, in_namespace, tmpfs};
use crate::support::objects::{NODE, claim, claim_of, pod, pv, pv_names};
use crate::support::{PATIENCE, ask_until};

/// How many labels fit into an object that etcd stores.
pub(crate) const MOST_LABELS: usize = 20_000;
/// Volumes of a node, of which a part loses labels.
const VOLUMES: usize = 500;

/// The event of a pod with so many inline volumes.
pub(crate) fn pod_event(number: usize, volumes: usize) -> String {
    let volume = |volume| format!(r#"{{"name":"v{volume}","csi":{{"driver":"d"}}}}"#);
    let metadata = json!({"namespace": "evil", "name": format!("p-{number}"), "uid": format!("uid-{number}"),
        "resourceVersion": number.to_string()});
    let spec = json!({"nodeName": NODE, "volumes": "LIST"});
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}).to_string();
    let list = (0..volumes).map(volume).collect::<Vec<_>>().join(",");
    let pod = pod.replace("\"LIST\"", &format!("[{list}]"));
    format!("{{\"type\":\"ADDED\",\"object\":{pod}}}\n")
}

#[test]
fn a_hundred_pods_of_fifty_thousand_inline_volumes_do_not_end_the_program() {
    let mut cluster = Cluster::of(&["pv-1"]);
    // A volume of such a pod, which may be one of those that are not kept.
    cluster.table.mount_by("v40000", "uid-7", answering());
    cluster.table.write();
    let limit = MemoryLimit::shipped();
    let exporter = limit.start(&with(&cluster.args(), &[]));
    exporter.wait_until_ready();
    cluster.server.wait_for_open_watch();
    for number in 0..100 {
        let event = pod_event(number, 50_000);
        assert!((1_800_000..2_000_000).contains(&event.len()), "{} bytes", event.len());
        cluster.server.send_to_watches(event);
        if number % 10 == 9 {
            let renamed = format!("after-{number}");
            let mut pod = pod(POD, &["pv-1"]);
            pod["metadata"]["name"] = json!(renamed);
            cluster.server.put([pod]);
            exporter.scrape_until("the events are read", |scrape| {
                scrape.label("pv_disk_usage_mount_info", "pod_name").iter().any(|name| **name == renamed)
            });
        }
    }
    let scrape = exporter.scrape();
    limit.assert_kept("a hundred pods of 1.9 MB", &exporter);
    assert_eq!(scrape.label("pv_disk_usage_up", "pv_name"), ["pv-1"]);
    assert_eq!(scrape.value("disk_usage_exporter_ambiguous_volumes", &[]), Some(1.0));
}

pub(crate) fn labels(count: usize) -> Map<String, Value> {
    (0..count).map(|number| (format!("label-{number:05}"), "v".repeat(63).into())).collect()
}

/// All that can be asked for, raw.
fn requests() -> Vec<String> {
    let openmetrics = "application/openmetrics-text;version=1.0.0";
    let request = |path: &str, accept: &str, packed: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAccept: {accept}\r\nAccept-Encoding: {packed}\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n"
        )
    };
    let of_coding = |packed| {
        [("/metrics", "text/plain"), ("/metrics", openmetrics), ("/", "text/html")]
            .map(|(path, accept)| request(path, accept, packed))
    };
    ["identity", "gzip"].map(of_coding).concat()
}

/// Everything at one time, by four clients each. Some are disconnected, to make room for others.
fn ask_for_everything(address: SocketAddr) {
    let clients: Vec<_> = std::iter::repeat_n(requests(), 4)
        .flatten()
        .map(|request| thread::spawn(move || drop(http::raw(address, request.as_bytes()))))
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

/// Volumes that are mounted, a hundred by each pod, with their claims in a cluster.
fn mount_volumes(node: &Node, server: &ApiServer, count: usize) {
    for first in (0..count).step_by(100) {
        let uid = format!("00000000-0000-4000-8000-{first:012}");
        let names: Vec<String> = (first..first + 100).map(|number| format!("pv-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        server.put([pod(&uid, &names)]);
        for name in &names {
            tmpfs(&node.volume(&uid, "nfs", name), "size=1m");
        }
        server.put(names.iter().enumerate().flat_map(|(number, name)| {
            let objects = [pv(name, &claim_of(name), ""), claim(&claim_of(name), "")];
            objects.map(|mut object| {
                let count = if first + number < 5 { MOST_LABELS } else { 64 };
                object["metadata"]["labels"] = labels(count).into();
                object
            })
        }));
    }
}

#[test]
fn labels_without_end_end_neither_the_program_nor_a_scrape() {
    in_namespace(Needs::Mounts, |node| {
        let server = ApiServer::start();
        mount_volumes(node, &server, VOLUMES);
        let limit = MemoryLimit::shipped();
        let kubelet_root = format!("--kubelet-root={}", node.kubelet().display());
        let args = [
            &server.kubeconfig(&json!({"token": "good"})),
            "--node-name=node-1",
            "--rootfs=/",
            &kubelet_root,
        ];
        let exporter = limit.start(&args);
        server.wait_for("a PersistentVolume and a claim for each", |requests| {
            requests.iter().filter(|request| request.verb == "get").count() >= 2 * VOLUMES
        });
        // A debug build on a busy machine takes longer than a scrape may by default.
        let has_claims = |scrape: &Exposition| scrape.label("pv_disk_usage_up", "pvc_name").len() == VOLUMES;
        let scrape = ask_until(PATIENCE, "all labels", || exporter.scrape_within(60.0), has_claims);
        // Clients that do not read: each holds the response of a collection of its own, and another behind it.
        let unread: Vec<_> = (0..4).map(|_| http::connect(exporter.address)).collect();
        for mut stream in &unread {
            stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2)).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 1);
            assert_eq!(exporter.get("/healthz").status, 200);
        }
        ask_for_everything(exporter.address);
        // One after the other, all are answered.
        let answers = requests().into_iter().map(|request| http::raw(exporter.address, request.as_bytes()));
        let answers: Vec<_> = answers.map(|answer| Response::parse(&answer)).collect();
        for answer in &answers {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert!(answers[0].body.len() > 15 << 20, "{} bytes", answers[0].body.len());
        limit.assert_kept("volumes with the largest label sets", &exporter);
        // Volumes that keep their labels have 64 of each kind.
        let kept = scrape.label("pv_disk_usage_up", "volume_label_00063").len();
        assert!((100..200).contains(&kept), "{kept} sets");
        assert_eq!(scrape.label("pv_disk_usage_up", "pvc_label_00064"), [""; 0]);
        let dropped = scrape.value("disk_usage_exporter_dropped_labels", &[]).unwrap();
        assert!(dropped >= (5 * 2 * (MOST_LABELS - 64)) as f64, "{dropped}");
        let logged = exporter.logged("labels_dropped");
        let mut named: Vec<_> = logged.iter().map(|line| line["pv_name"].as_str().unwrap()).collect();
        named.sort_unstable();
        let lines = named.len();
        named.dedup();
        assert_eq!(lines, named.len(), "each is named once");
        assert!(named.contains(&"pv-0") && lines >= VOLUMES - kept, "{lines} lines");
    });
}

#[test]
fn huge_objects_end_in_an_error_or_in_few_labels() {
    let names = pv_names(6);
    let cluster = Cluster::of(&names);
    // Just within the limit, and beyond; in the smallest pieces.
    let object = |name: &str, labels: usize| {
        let labels: Vec<String> = (0..labels).map(|number| format!("\"{number:06}\":\"\"")).collect();
        format!(
            r#"{{"kind":"PersistentVolume","apiVersion":"v1","metadata":{{"name":"{name}","labels":{{{}}}}}}}"#,
            labels.join(",")
        )
    };
    // As many as are requested at one time.
    for name in &names[..4] {
        let object = object(name, 340_000);
        assert!((4_000_000..4 << 20).contains(&object.len()), "{} bytes", object.len());
        cluster.server.fault(&format!("persistentvolumes {name}"), Fault::Body(object), 4);
    }
    let too_large = Fault::Body(object(names[4], 400_000));
    cluster.server.fault(&format!("persistentvolumes {}", names[4]), too_large, 4);
    let limit = MemoryLimit::shipped();
    let exporter = limit.start(&with(&cluster.args(), &[]));
    // Scrapes would take processor time from the objects.
    exporter.wait_for_log("kubernetes_request_failed");
    exporter.scrape_until("labels, and the failure", |scrape| {
        scrape.label("pv_disk_usage_up", "pv_000063").len() == 4
            && scrape.label("pv_disk_usage_up", "pvc_name") == ["pv-5-claim"]
            && exporter.logged("kubernetes_request_failed").len() == 1
    });
    limit.assert_kept("objects of 4 MiB", &exporter);
}
