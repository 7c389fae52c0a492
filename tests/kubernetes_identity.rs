use std::time::Duration;

use disk_usage_exporter::volume::Lookup;
use serde_json::json;

use crate::support::apiserver::{Fault, Resource, Server, Verb, of};
use crate::support::cluster::NODE;
use crate::support::virtual_node::{
    MINUTE, REFRESH, SECOND, VirtualNode, bound, claim, claim_of, fail_all, of_version, pass, pod, pv,
    settings,
};

const PVS: Resource = Resource::PersistentVolumes;
const CLAIMS: Resource = Resource::PersistentVolumeClaims;

#[tokio::test(start_paused = true)]
async fn a_claim_is_told_by_its_uid_not_by_its_name() {
    let bound_to = |name: &str, uid: &str| {
        let mut object = pv(name, "data", "first");
        object["spec"]["claimRef"]["uid"] = json!(uid);
        object
    };
    let claim_of_uid = |uid: &str| of_version(claim("data", uid), uid, 1);
    let server = Server::in_process();
    server.put_all([
        bound_to("old", "uid-1"),
        bound_to("new", "uid-2"),
        claim_of_uid("uid-1"),
        pod("app", &["data"]),
    ]);
    let mut node = VirtualNode::start(&server);
    node.mount(&[("old", "app")]);
    pass(SECOND).await;
    assert_eq!(node.tiers("old", "app"), "first uid-1");
    // The claim is made again for a new volume while the old one is still mounted.
    server.remove(CLAIMS, "shop", "data");
    server.put(claim_of_uid("uid-2"));
    node.mount(&[("old", "app"), ("new", "app")]);
    pass(REFRESH.mul_f64(1.21)).await;
    assert_eq!(
        (node.tiers("old", "app"), node.tiers("new", "app")),
        ("first uid-1".into(), "first uid-2".into())
    );
    // Who comes to know only the second one does not take it for the first.
    let mut node = VirtualNode::start(&server);
    node.mount(&[("old", "app")]);
    pass(SECOND).await;
    assert_eq!(node.volume("old", "app").unwrap().claim, Some(Lookup::Absent));
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_mounted_again_is_looked_up_again_at_once() {
    let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.mount(&[]);
    pass(MINUTE).await;
    // The same claim was made again meanwhile.
    node.server.remove(CLAIMS, "shop", &claim_of("pv-1"));
    node.server.put_all(bound("pv-1", "second"));
    node.server.put(pod("next", &[claim_of("pv-1")]));
    pass(SECOND).await;
    node.mount(&[("pv-1", "next")]);
    assert_eq!(node.tiers("pv-1", "next"), "first first", "until the answer, for its pod uses the claim");
    pass(SECOND).await;
    assert_eq!(node.tiers("pv-1", "next"), "second second");
    // A second pod beside the first one mounts the same volume: nothing has to be asked.
    let before = node.gets().len();
    node.server.put(pod("more", &[claim_of("pv-1")]));
    pass(SECOND).await;
    node.mount(&[("pv-1", "next"), ("pv-1", "more")]);
    pass(SECOND).await;
    assert_eq!((node.tiers("pv-1", "more").as_str(), node.gets().len()), ("second second", before));
}

#[tokio::test(start_paused = true)]
async fn labels_survive_a_remount_while_the_server_refuses() {
    for fault in [Fault::Close, Fault::Hang, Fault::Status(403, None), Fault::Status(503, Some(30))] {
        let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
        node.server.put(pod("next", &[claim_of("pv-1")]));
        pass(SECOND).await;
        fail_all(&node.server, &fault);
        node.mount(&[]);
        pass(5 * MINUTE).await;
        for _ in 0..60 {
            node.mount(&[("pv-1", "next")]);
            assert_eq!(node.tiers("pv-1", "next"), "first first", "{fault:?}");
            pass(MINUTE).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reused_name_is_never_shown_with_the_labels_of_the_volume_before() {
    // Whether the exporter sees it unmounted between, whether it watches pods, and whether the server's cache lags behind.
    for case in 0..8 {
        let [is_seen, has_pods, lags] = [case & 1 != 0, case & 2 != 0, case & 4 != 0];
        let server = Server::in_process();
        server.put_all([pv("pv", "alpha", "alpha"), claim("alpha", "alpha"), pod("a", &["alpha"])]);
        let mut node = VirtualNode::start_with(&server, settings(has_pods.then_some(NODE)));
        node.mount(&[("pv", "a")]);
        pass(2 * SECOND).await;
        assert_eq!(node.tiers("pv", "a"), "alpha alpha");
        let old = of_version(pv("pv", "alpha", "alpha"), "uid-of-persistentvolumes-pv", 1);
        server.remove(PVS, "", "pv");
        server.remove(CLAIMS, "shop", "alpha");
        server.remove(Resource::Pods, "shop", "a");
        if is_seen {
            node.mount(&[]);
            pass(SECOND).await;
        }
        server.put_all([
            of_version(pv("pv", "beta", "beta"), "uid-b", 0),
            claim("beta", "beta"),
            pod("b", &["beta"]),
        ]);
        if lags && has_pods {
            server.fault(of(Verb::Get, PVS), Fault::Body(old.to_string()), 1);
        }
        for _ in 0..300 {
            node.mount(&[("pv", "b")]);
            let tiers = node.tiers("pv", "b");
            assert!(["?", "beta -", "beta beta"].contains(&&*tiers), "{tiers}, case {case}");
            pass(Duration::from_millis(10)).await;
        }
        assert_eq!(node.tiers("pv", "b"), "beta beta", "case {case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_uses_another_claim_makes_the_volume_be_asked_about_and_what_the_server_says_is_believed()
{
    let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.server.put(pod("odd", &["another"]));
    pass(SECOND).await;
    let before = node.gets().len();
    node.mount(&[("pv-1", "app"), ("pv-1", "odd")]);
    assert_eq!(node.tiers("pv-1", "odd"), "?");
    pass(SECOND).await;
    assert_eq!(
        (node.tiers("pv-1", "odd"), node.tiers("pv-1", "app")),
        ("first first".into(), "first first".into())
    );
    let versions: Vec<_> =
        node.gets()[before..].iter().map(|get| get.query("resourceVersion").is_some()).collect();
    assert_eq!(versions, [true, false, true], "the volume is confirmed");
    pass(MINUTE).await;
    assert_eq!(node.gets().len(), before + 3, "once");
}
