use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::support::apiserver::{ApiServer, Server};
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::namespace::{Needs, PODS, in_namespace};
use crate::support::objects::{NODE, bound, bound_volume, claim, claim_of, nfs, pod};
use crate::support::virtual_node::{MINUTE, REFRESH, SECOND, VirtualNode, pass};

const REQUESTED: &str = "pv_disk_usage_claim_requested_bytes";

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
async fn a_claim_is_read_again_at_once_when_its_volume_is_resized() {
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
async fn a_claim_that_asks_for_more_than_it_has_is_read_every_five_minutes() {
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
fn the_request_of_an_enlarged_volume_is_shown_at_once() {
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
        mount(None::<&str>, &path, None::<&str>, MsFlags::MS_REMOUNT, Some("size=16m")).unwrap();
        exporter.scrape_until("what it asks for now", of(16 << 20));
    });
}
