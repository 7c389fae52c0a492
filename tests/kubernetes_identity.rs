use std::time::{Duration, SystemTime};

use disk_usage_exporter::volume::Lookup;
use serde_json::{Value, json};

use crate::support::apiserver::{Fault, PVS, Server};
use crate::support::objects::{NODE, bound, claim, claim_of, pod, pv};
use crate::support::virtual_node::{MINUTE, REFRESH, SECOND, VirtualNode, fail_all, of_version, pass};

#[tokio::test(start_paused = true)]
async fn claim_is_identified_by_its_uid() {
    let bound_to = |name: &str, uid: &str| {
        let mut object = pv(name, &claim_of("data"), "first");
        object["spec"]["claimRef"]["uid"] = json!(uid);
        object
    };
    let claim_of_uid = |uid: &str| of_version(claim(&claim_of("data"), uid), uid, 1);
    let server = Server::new();
    server.put([
        bound_to("old", "uid-1"),
        bound_to("new", "uid-2"),
        claim_of_uid("uid-1"),
        pod("app", &["data"]),
    ]);
    let mut node = VirtualNode::start(&server, &[("old", "app")]);
    pass(SECOND).await;
    assert_eq!(node.tiers("old", "app"), "first uid-1");
    // The claim is made again for a new volume while the old one is still mounted.
    server.remove([claim_of_uid("uid-1")]);
    server.put([claim_of_uid("uid-2")]);
    node.mount(&[("old", "app"), ("new", "app")]);
    // It is not necessary to wait for a refresh.
    pass(3 * SECOND).await;
    assert_eq!(["old", "new"].map(|name| node.tiers(name, "app")), ["first uid-1", "first uid-2"]);
    let claims = ["old", "new"].map(|name| node.volume(name, "app").unwrap().claim);
    assert!(matches!(claims, [Some(Lookup::Gone(_)), Some(Lookup::Found(_))]), "{claims:?}");
    // A node that sees only the second claim does not take it for the first.
    let node = VirtualNode::start(&server, &[("old", "app")]);
    pass(SECOND).await;
    assert_eq!(node.volume("old", "app").unwrap().claim, Some(Lookup::Absent));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_claim_is_gone_confirms_what_was_known_of_it() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.server.remove([claim(&claim_of("pv-1"), "first")]);
    pass(5 * REFRESH).await;
    assert_eq!(node.tiers("pv-1", "app"), "first first");
    let age = SystemTime::now().duration_since(node.handle.metadata().oldest.unwrap()).unwrap();
    assert!(age < 2 * REFRESH, "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn remounted_volume_is_looked_up_again_at_once() {
    let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.mount(&[]);
    pass(MINUTE).await;
    // The same claim was made again meanwhile.
    node.server.remove([claim(&claim_of("pv-1"), "first")]);
    node.server.put(bound("pv-1", "second"));
    node.server.put([pod("next", &["pv-1"])]);
    pass(SECOND).await;
    node.mount(&[("pv-1", "next")]);
    assert_eq!(node.tiers("pv-1", "next"), "first first", "until the answer, because its pod uses the claim");
    pass(SECOND).await;
    assert_eq!(node.tiers("pv-1", "next"), "second second");
    // A second pod beside the first one mounts the same volume: no request is necessary.
    let before = node.gets().len();
    node.server.put([pod("more", &["pv-1"])]);
    pass(SECOND).await;
    node.mount(&[("pv-1", "next"), ("pv-1", "more")]);
    pass(SECOND).await;
    assert_eq!((node.tiers("pv-1", "more").as_str(), node.gets().len()), ("second second", before));
}

#[tokio::test(start_paused = true)]
async fn labels_survive_a_remount_while_the_server_fails() {
    for fault in [Fault::Close, Fault::Hang, Fault::Status(403), Fault::RetryAfter(503, "30")] {
        let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
        node.server.put([pod("next", &["pv-1"])]);
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
async fn reused_name_never_has_the_labels_of_the_earlier_volume() {
    /// A volume, its claim and the pod that uses it.
    fn objects(owner: &str, uid: &str) -> [Value; 3] {
        let volume = of_version(pv("pv", &claim_of(owner), owner), uid, 0);
        [volume, claim(&claim_of(owner), owner), pod(owner, &[owner])]
    }
    // Whether the exporter sees it unmounted between, whether it watches pods, and whether the server's cache lags behind.
    for case in 0..8 {
        let [is_seen, has_pods, lags] = [case & 1 != 0, case & 2 != 0, case & 4 != 0];
        let server = Server::new();
        server.put(objects("alpha", "uid-a"));
        let mut node = VirtualNode::start_as(has_pods.then_some(NODE), &server, &[("pv", "alpha")]);
        pass(2 * SECOND).await;
        assert_eq!(node.tiers("pv", "alpha"), "alpha alpha");
        server.remove(objects("alpha", "uid-a"));
        if is_seen {
            node.mount(&[]);
            pass(SECOND).await;
        }
        server.put(objects("beta", "uid-b"));
        if lags && has_pods {
            let old = of_version(pv("pv", &claim_of("alpha"), "alpha"), "uid-a", 1);
            server.fault(PVS, Fault::Body(old.to_string()), 1);
        }
        for _ in 0..300 {
            node.mount(&[("pv", "beta")]);
            let tiers = node.tiers("pv", "beta");
            assert!(["?", "beta -", "beta beta"].contains(&&*tiers), "{tiers}, case {case}");
            pass(Duration::from_millis(10)).await;
        }
        assert_eq!(node.tiers("pv", "beta"), "beta beta", "case {case}");
    }
}

#[tokio::test(start_paused = true)]
async fn pod_that_uses_another_claim_makes_the_volume_be_confirmed_once() {
    let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.server.put([pod("odd", &["another"])]);
    pass(SECOND).await;
    let before = node.gets().len();
    node.mount(&[("pv-1", "app"), ("pv-1", "odd")]);
    assert_eq!(node.tiers("pv-1", "odd"), "?");
    pass(SECOND).await;
    assert_eq!(["odd", "app"].map(|uid| node.tiers("pv-1", uid)), ["first first", "first first"]);
    pass(MINUTE).await;
    let gets = &node.gets()[before..];
    let from_cache: Vec<_> = gets.iter().map(|get| get.query("resourceVersion").is_some()).collect();
    assert_eq!(
        from_cache,
        [true, false, true],
        "the volume from the cache and from the store, then its claim"
    );
}
