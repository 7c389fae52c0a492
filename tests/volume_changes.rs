use std::sync::Arc;

use disk_usage_exporter::volume::VolumeMount;
use nix::mount::{MsFlags, mount as system_mount};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::apiserver::{ApiServer, Fault, PVS, Server};
use crate::support::cluster::{Cluster, volumes};
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fixture::answering;
use crate::support::namespace::{Needs, PODS, in_namespace};
use crate::support::objects::{NODE, bound, bound_volume, claim, claim_of, nfs, pod, pv};
use crate::support::virtual_node::{MINUTE, REFRESH, SECOND, VirtualNode, mount, of_version, pass};

const REQUESTED: &str = "pv_disk_usage_claim_requested_bytes";

/// The kubelet of the node could not unmount the first volume of the name, and mounts the second.
#[tokio::test(start_paused = true)]
async fn pod_that_hangs_in_the_unmount_of_an_earlier_volume_has_no_labels_of_the_new_one() {
    for has_pods in [true, false] {
        let server = Server::new();
        server.put([
            pv("pv", &claim_of("alpha"), "alpha"),
            claim(&claim_of("alpha"), "alpha"),
            pod("a", &["alpha"]),
        ]);
        let mut node = VirtualNode::start_as(has_pods.then_some(NODE), &server, &[("pv", "a")]);
        pass(2 * SECOND).await;
        server.remove([pv("pv", "", "")]);
        server.put([
            of_version(pv("pv", &claim_of("beta"), "beta"), "uid-b", 0),
            claim(&claim_of("beta"), "beta"),
            pod("b", &["beta"]),
        ]);
        pass(SECOND).await;
        for _ in 0..3 {
            node.mount(&[("pv", "a"), ("pv", "b")]);
            pass(MINUTE).await;
            assert_eq!((node.tiers("pv", "b").as_str(), node.tiers("pv", "a").as_str()), ("beta beta", "?"));
        }
        let requests = node.gets().len();
        pass(10 * MINUTE).await;
        assert_eq!(node.gets().len(), requests, "it does not have the volume be asked about again and again");
        // A third pod that uses the new volume is no earlier one.
        server.put([pod("c", &["beta"])]);
        pass(SECOND).await;
        node.mount(&[("pv", "a"), ("pv", "b"), ("pv", "c")]);
        pass(2 * SECOND).await;
        assert_eq!(node.tiers("pv", "c"), "beta beta");
    }
}

/// A claim of the same name was made again, and the first pod hangs: nothing but the handle tells.
#[tokio::test(start_paused = true)]
async fn mount_that_contradicts_cached_metadata_triggers_a_confirmed_lookup() {
    let of_handle = |handle: &str, tier: &str| {
        let mut object = pv("pv", &claim_of("data"), tier);
        object["spec"]["nfs"]["path"] = json!(handle);
        object
    };
    // The server's cache may lag behind.
    for lags in [false, true] {
        let server = Server::new();
        server.put([of_handle("/pv", "old"), claim(&claim_of("data"), "old")]);
        let old = of_version(of_handle("/pv", "old"), "uid-of-pv", 1);
        let mut node = VirtualNode::start_as(None, &server, &[("pv", "a")]);
        let mut renewed = mount("pv", "b");
        renewed.device = "nas:/renewed".into();
        pass(2 * SECOND).await;
        server.remove([pv("pv", "", "")]);
        server.put([of_version(of_handle("/renewed", "new"), "uid-b", 0)]);
        if lags {
            server.fault(PVS, Fault::Body(old.to_string()), 1);
        }
        let mounts = [Arc::new(mount("pv", "a")), Arc::new(renewed)];
        node.handle.update(&mounts);
        pass(2 * SECOND).await;
        let metadata = node.handle.metadata();
        let tier = |mount: &VolumeMount| {
            let pv = metadata.volume(mount)?.pv.found()?.clone();
            Some((pv.labels["tier"].clone(), metadata.contradicts(&pv, mount)))
        };
        assert_eq!(tier(&mounts[1]), Some(("new".into(), false)), "{lags}");
        assert!(metadata.is_of_earlier_volume(&mounts[0]));
    }
}

/// A claim that asks for so many bytes and has so many.
fn sized(name: &str, requested: &str, capacity: &str) -> Value {
    let mut object = claim(name, "first");
    object["spec"] = json!({"resources": {"requests": {"storage": requested}}});
    object["status"] = json!({"capacity": {"storage": capacity}});
    object
}

async fn node_with(requested: &str, capacity: &str) -> VirtualNode {
    let server = Server::new();
    server.put(bound("pv", "first"));
    server.put([sized(&claim_of("pv"), requested, capacity), pod("app", &["pv"])]);
    let node = VirtualNode::start(&server, &[("pv", "app")]);
    pass(3 * SECOND).await;
    node
}

fn requested(node: &VirtualNode) -> Option<u128> {
    node.volume("pv", "app")?.claim?.found()?.requested_bytes
}

#[tokio::test(start_paused = true)]
async fn claim_is_read_again_at_once_when_its_volume_is_resized() {
    let node = node_with("1", "1").await;
    for size in ["2", "3"] {
        node.server.put([sized(&claim_of("pv"), size, size)]);
        pass(MINUTE).await;
        assert_ne!(requested(&node), size.parse().ok());
        node.handle.report_resize("pv");
        node.handle.report_resize("unknown");
        pass(2 * SECOND).await;
        assert_eq!(requested(&node), size.parse().ok());
    }
    // A file system whose size changes all the time costs one lookup a refresh.
    let before = node.gets().len();
    for _ in 0..30 {
        node.handle.report_resize("pv");
        pass(MINUTE).await;
    }
    assert_eq!(node.gets().len(), before + 2, "the volume and its claim");
}

#[tokio::test(start_paused = true)]
async fn claim_that_requests_more_than_it_has_is_read_every_five_minutes() {
    let node = node_with("2", "1").await;
    node.server.put([sized(&claim_of("pv"), "3", "1")]);
    pass(6 * MINUTE).await;
    assert_eq!(requested(&node), Some(3));
    // Enlarged, it is read as rarely as others.
    node.server.put([sized(&claim_of("pv"), "3", "3")]);
    pass(6 * MINUTE).await;
    let before = node.gets().len();
    pass(REFRESH / 2).await;
    assert_eq!(node.gets().len(), before);
}

#[test]
fn request_of_an_enlarged_volume_is_shown_at_once() {
    in_namespace(Needs::Mounts, |node| {
        let server = ApiServer::start();
        let objects = |requested: &str| {
            let [volume, mut claim, _] = bound_volume("pv", nfs("pv"), &claim_of("pv"), PODS[0]);
            claim["spec"]["resources"]["requests"]["storage"] = json!(requested);
            [volume, claim, pod(PODS[0], &["pv"])]
        };
        server.put(objects("8Mi"));
        let path = node.tmpfs_volume("pv", "size=8m");
        let kubeconfig = server.kubeconfig(&json!({"token": "good"}));
        let exporter = Exporter::start(&["--rootfs=/", &kubeconfig, &format!("--node-name={NODE}")]);
        let of = |bytes: u32| move |scrape: &Exposition| scrape.value(REQUESTED, &[]) == Some(bytes.into());
        exporter.scrape_until("the claim", of(8 << 20));
        server.put(objects("16Mi"));
        for _ in 0..5 {
            assert!(of(8 << 20)(&exporter.scrape()), "the volume is not enlarged yet");
        }
        system_mount(None::<&str>, &path, None::<&str>, MsFlags::MS_REMOUNT, Some("size=16m")).unwrap();
        exporter.scrape_until("what it asks for now", of(16 << 20));
    });
}

/// New volumes are held back for 10 s each: if readiness waited for them, a busy node would never be ready.
#[test]
fn volumes_that_came_after_the_first_collection_do_not_delay_readiness() {
    let mut cluster = Cluster::of(&["pv-0"]);
    let answer = Arc::new(Notify::new());
    cluster.server.fault("persistentvolumes pv-0", Fault::Wait(Arc::clone(&answer)), 1);
    cluster.server.fault("persistentvolumes pv-1", Fault::Hang, usize::MAX);
    let exporter = cluster.start(&[]);
    exporter.scrape();
    cluster.table.mount("pv-1", answering());
    exporter.scrape_until("two volumes", |scrape| volumes(scrape, "pending") == 2.0);
    assert_eq!(exporter.get("/readyz").status, 503, "the first volume is waited for");
    answer.notify_one();
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "pv_name"), ["pv-0"]);
    assert_eq!(volumes(&scrape, "pending"), 1.0, "and not the last one");
}
