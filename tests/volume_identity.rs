use std::sync::Arc;
use std::time::Duration;

use disk_usage_exporter::volume::VolumeMount;
use serde_json::json;

use crate::support::apiserver::{Fault, PVS, Server};
use crate::support::objects::{NODE, claim, claim_of, pod, pv};
use crate::support::virtual_node::{MINUTE, SECOND, VirtualNode, mount, of_version, pass};

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
        pass(Duration::from_secs(2)).await;
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
