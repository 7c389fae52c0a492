use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use crate::support::apiserver::{CLAIMS, Fault, PODS, PVS, Recorded, Server};
use crate::support::objects::{NODE, bound, claim, claim_of, pod, pv, pv_names};
use crate::support::virtual_node::{
    MAX_REFRESH, MINUTE, REFRESH, SECOND, VirtualNode, mounted_by_app, of_version, pass,
};

fn briefs(requests: &[Recorded]) -> BTreeSet<String> {
    requests.iter().map(Recorded::brief).collect()
}

#[tokio::test(start_paused = true)]
async fn mounted_volume_causes_exactly_three_requests() {
    let server = Server::new();
    server.put(["pv-1", "not-mounted"].iter().flat_map(|name| bound(name, "first")));
    server.put([pod("app", &["pv-1"])]);
    let node = VirtualNode::start(&server, &[("pv-1", "app")]);
    pass(10 * SECOND).await;
    let requests = server.requests();
    let expected = ["get persistentvolumeclaims pv-1-claim", "get persistentvolumes pv-1", "watch pods"];
    assert_eq!((requests.len(), briefs(&requests)), (3, expected.map(Into::into).into()));
    for request in requests {
        let names: Vec<&str> = request.query.keys().map(String::as_str).collect();
        assert_eq!(request.query("resourceVersion"), Some("0"), "from the server's cache");
        if request.verb == "get" {
            assert_eq!(names, ["resourceVersion"]);
            continue;
        }
        assert_eq!(
            names,
            ["allowWatchBookmarks", "fieldSelector", "resourceVersion", "timeoutSeconds", "watch"]
        );
        let selector = format!("spec.nodeName={NODE},status.phase!=Failed,status.phase!=Succeeded");
        assert_eq!(request.query("fieldSelector"), Some(&*selector));
        let seconds: u64 = request.query("timeoutSeconds").unwrap().parse().unwrap();
        assert!((240..=290).contains(&seconds), "{seconds}");
    }
    let counts = ["persistentvolumeclaims get 200", "persistentvolumes get 200", "pods watch 200"];
    assert_eq!(node.counts(), counts.map(|series| (series.into(), 1)).into());
    assert_eq!([PODS, PVS, CLAIMS].map(|resource| node.success(resource)), [Some(true); 3]);
    assert_eq!(node.tiers("pv-1", "app"), "first first");
}

#[tokio::test(start_paused = true)]
async fn object_missing_from_the_servers_cache_is_read_from_its_store() {
    let earlier = of_version(claim(&claim_of("pv-1"), "old"), "uid-1", 1);
    // The faults of the first responses; what is known then, and the requests about the volume and its claim.
    let cases = [
        ("no fault", None, "first first", [1, 1_usize]),
        ("no volume in the cache", Some((PVS, Fault::NotInCache, 1)), "first first", [2, 1]),
        ("no claim in the cache", Some((CLAIMS, Fault::NotInCache, 1)), "first first", [1, 2]),
        ("earlier claim in it", Some((CLAIMS, Fault::Body(earlier.to_string()), 1)), "first first", [1, 2]),
        ("no volume at all", Some((PVS, Fault::Status(404), 2)), "- -", [2, 0]),
    ];
    for (what, fault, tiers, requests) in cases {
        let server = Server::new();
        let mut volume = pv("pv-1", &claim_of("pv-1"), "first");
        volume["spec"]["claimRef"]["uid"] = json!("uid-2");
        server.put([
            volume,
            of_version(claim(&claim_of("pv-1"), "first"), "uid-2", 2),
            pod("app", &["pv-1"]),
        ]);
        if let Some((resource, fault, times)) = fault {
            server.fault(resource, fault, times);
        }
        let node = VirtualNode::start(&server, &[("pv-1", "app")]);
        pass(SECOND).await;
        assert_eq!(node.tiers("pv-1", "app"), tiers, "{what}");
        for (resource, count) in [PVS, CLAIMS].into_iter().zip(requests) {
            let gets: Vec<_> = node.gets().into_iter().filter(|get| get.resource == resource).collect();
            let versions: Vec<_> = gets.iter().map(|get| get.query("resourceVersion")).collect();
            assert_eq!(versions, [Some("0"), None][..count], "{what}: {resource}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_volumes_are_looked_up_once_with_four_requests_in_flight() {
    let names = pv_names(1100);
    let server = Server::new();
    let go = Arc::new(Notify::new());
    server.fault(PVS, Fault::Wait(Arc::clone(&go)), 4);
    server.put(names.iter().flat_map(|name| bound(name, "first")));
    // A hundred by each pod.
    server.put(names.chunks(100).map(|names| pod(names[0], names)));
    let mounts: Vec<_> = names.iter().enumerate().map(|(at, name)| (*name, names[at / 100 * 100])).collect();
    let mut node = VirtualNode::start(&server, &mounts[..1000]);
    pass(SECOND).await;
    assert_eq!((node.gets().len(), server.lock().open("get")), (4, 4));
    go.notify_waiters();
    pass(SECOND).await;
    assert!(mounts[..1000].iter().all(|(name, uid)| node.tiers(name, uid) == "first first"));
    assert_eq!(node.gets().len(), 2000);
    // A tenth of them is replaced.
    node.mount(&mounts[100..]);
    assert!(mounts[100..1000].iter().all(|(name, uid)| node.tiers(name, uid) == "first first"));
    pass(SECOND).await;
    assert!(mounts[100..].iter().all(|(name, uid)| node.tiers(name, uid) == "first first"));
    assert_eq!((node.gets().len(), briefs(&node.gets()).len()), (2200, 2200), "nothing else is requested");
    assert_eq!(node.gets().iter().map(|get| get.in_flight).max(), Some(4));
}

#[tokio::test(start_paused = true)]
async fn refreshes_are_spread_and_at_most_two_requests_a_second() {
    let node = VirtualNode::with_volumes(&pv_names(300)).await;
    let first = node.gets().len();
    assert_eq!(first, 600);
    pass(REFRESH.mul_f64(0.79)).await;
    assert_eq!(node.gets().len(), first, "no refresh is that early");
    pass(REFRESH.mul_f64(0.21)).await;
    let halfway = (node.gets().len() - first) / 2;
    assert!((75..225).contains(&halfway), "spread by jitter: {halfway} of 300 halfway");
    pass(REFRESH.mul_f64(0.5)).await;
    let refreshes = &node.gets()[first..];
    assert_eq!(briefs(refreshes).len(), 600, "every object is refreshed");
    for window in refreshes.windows(3) {
        assert!(window[2].at - window[0].at >= SECOND.mul_f64(0.9), "three requests within a second");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_change_within_one_refresh_and_survive_deletion() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.server.put(bound("pv-1", "second"));
    let before = node.handle.metadata();
    pass(MAX_REFRESH).await;
    assert_eq!(node.tiers("pv-1", "app"), "second second");
    assert!(!node.handle.metadata().has_same_objects(&before));
    let before = node.handle.metadata();
    pass(2 * REFRESH).await;
    assert!(node.handle.metadata().has_same_objects(&before), "nothing changed");
    node.server.remove(bound("pv-1", "second"));
    pass(MAX_REFRESH).await;
    assert!(node.count(PVS, "404") >= 2 && node.count(CLAIMS, "404") >= 2, "requested twice");
    assert_eq!(node.tiers("pv-1", "app"), "second second");
}

/// The longest interval may hold two of the shortest.
async fn pass_one_refresh(node: &VirtualNode) {
    let before = node.gets().len();
    let refreshed = async {
        while node.gets().len() == before {
            pass(SECOND).await;
        }
    };
    tokio::time::timeout(MAX_REFRESH, refreshed).await.expect("a refresh");
    pass(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn older_response_from_the_cache_is_ignored_unless_the_store_confirms_it() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    // A server that lags behind responds from its cache with an earlier state, or an object that had the name before.
    for (uid, gets) in [("uid-of-pv-1", 2 + 3), ("uid-of-another", 2 + 3 + 3)] {
        let old = of_version(pv("pv-1", &claim_of("pv-1"), "old"), uid, 0);
        node.server.fault(PVS, Fault::Body(old.to_string()), 1);
        pass_one_refresh(&node).await;
        assert_eq!((node.tiers("pv-1", "app").as_str(), node.gets().len()), ("first first", gets), "{uid}");
    }
    // etcd was restored from a backup: the objects have smaller versions.
    for (target, object) in [PVS, CLAIMS].into_iter().zip(bound("pv-1", "restored")) {
        let uid = format!("uid-of-{}", object["metadata"]["name"].as_str().unwrap());
        let restored = of_version(object, &uid, 0);
        node.server.fault(target, Fault::Body(restored.to_string()), usize::MAX);
    }
    let before = node.gets().len();
    pass_one_refresh(&node).await;
    assert_eq!(node.tiers("pv-1", "app"), "restored restored");
    let gets = &node.gets()[before..];
    let from_cache: Vec<_> = gets.iter().map(|get| get.query("resourceVersion").is_some()).collect();
    assert_eq!(from_cache, [true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn lookups_of_absent_and_forbidden_objects_back_off() {
    for code in [404, 403] {
        let server = Server::new();
        server.fault(PVS, Fault::Status(code), usize::MAX);
        server.put([pod("app", &["pv-1"])]);
        let node = VirtualNode::start(&server, &[("pv-1", "app")]);
        pass(4 * REFRESH).await;
        assert_eq!(node.tiers("pv-1", "app"), "- -", "an answer");
        assert_eq!(node.success(PVS), Some(code == 404));
        // An absent object is requested from the store, too.
        let times: Vec<_> =
            node.gets().iter().step_by(if code == 404 { 2 } else { 1 }).map(|get| get.at).collect();
        let pauses: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        for (pause, minutes) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            assert!((minutes * 48..=minutes * 72).contains(pause), "{code}: {pauses:?}");
        }
        assert!(pauses.len() >= 7, "{pauses:?}");
        server.lock().faults.clear();
        server.put(bound("pv-1", "first"));
        pass(MAX_REFRESH).await;
        assert_eq!(node.tiers("pv-1", "app"), "first first", "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_names_and_inline_volumes_cause_no_requests() {
    let server = Server::new();
    let mut owner = pod("app", &["ok-1.example"]);
    owner["spec"]["volumes"] = json!([{"name": "own", "nfs": {"server": "nas", "path": "/"}}]);
    let mut evil = pv("evil", "../../secrets", "first");
    evil["spec"]["claimRef"]["namespace"] = json!("..");
    server.put(bound("ok-1.example", "first"));
    server.put([owner, evil]);
    let names = ["../pods", "a/b", "A", "", "-a", "a..b", "%2e%2e", "a?b", "own", "ok-1.example", "evil"];
    let mut node = VirtualNode::start(&server, &mounted_by_app(&names));
    pass(REFRESH / 2).await;
    let expected = [
        "get persistentvolumeclaims ok-1.example-claim",
        "get persistentvolumes evil",
        "get persistentvolumes ok-1.example",
    ];
    assert_eq!(briefs(&node.gets()), expected.map(Into::into).into());
    // Another pod's volume of that name may be a PersistentVolume.
    node.mount(&[("own", "app"), ("own", "other")]);
    pass(2 * SECOND).await;
    assert_eq!(node.gets().last().unwrap().brief(), "get persistentvolumes own");
}

#[tokio::test(start_paused = true)]
async fn unmounted_volume_is_kept_for_ten_minutes_and_not_refreshed() {
    let mut node = VirtualNode::with_volumes(&["pv-1", "pv-2"]).await;
    let before = node.gets().len();
    node.mount(&[("pv-2", "app")]);
    pass(9 * MINUTE).await;
    assert!(node.handle.metadata().volumes.contains_key("pv-1"));
    pass(2 * MINUTE).await;
    assert!(!node.handle.metadata().volumes.contains_key("pv-1"));
    pass(2 * REFRESH).await;
    let expected = ["get persistentvolumes pv-2", "get persistentvolumeclaims pv-2-claim"];
    assert_eq!(briefs(&node.gets()[before..]), expected.map(Into::into).into());
}

#[tokio::test(start_paused = true)]
async fn object_that_always_fails_affects_no_other() {
    let (good, bad) =
        (["pv-1", "pv-2", "pv-3"], ["json", "name", "length", "status-1", "status-2", "status-3"]);
    let server = Server::new();
    server.put(good.iter().chain(&bad).chain(&["new"]).flat_map(|name| bound(name, "first")));
    for name in bad {
        let fault = match name {
            "json" => Fault::Body("{".into()),
            "name" => Fault::Body(pv("pv-1", "c", "x").to_string()),
            "length" => Fault::Endless,
            _ => Fault::Status(500),
        };
        server.fault(&format!("{PVS} {name}"), fault, usize::MAX);
    }
    let volumes = [&good[..], &bad].concat();
    let mut node = VirtualNode::start_as(None, &server, &mounted_by_app(&volumes));
    pass(10 * SECOND).await;
    assert!(good.iter().all(|name| node.tiers(name, "app") == "first first"));
    assert!(bad.iter().all(|name| node.tiers(name, "app") == "?"));
    assert_eq!([PVS, CLAIMS].map(|resource| node.success(resource)), [Some(false), Some(true)]);
    // Nor do those that fail keep a new volume waiting.
    pass(REFRESH).await;
    let volumes = [&volumes[..], &["new"]].concat();
    node.mount(&mounted_by_app(&volumes));
    pass(201 * SECOND).await;
    assert_eq!(node.tiers("new", "app"), "first first");
    server.lock().faults.clear();
    pass(20 * MINUTE).await;
    assert!(volumes.iter().all(|name| node.tiers(name, "app") == "first first"), "once they can be read");
    assert_eq!(node.success(PVS), Some(true));
}

#[tokio::test(start_paused = true)]
async fn unbound_volume_needs_no_claim_until_it_is_bound() {
    let server = Server::new();
    let mut unbound = pv("pv-1", "", "first");
    unbound["spec"].as_object_mut().unwrap().remove("claimRef");
    server.put([unbound]);
    let node = VirtualNode::start_as(None, &server, &[("pv-1", "app")]);
    pass(2 * SECOND).await;
    assert!(node.volume("pv-1", "app").unwrap().is_answered());
    server.put(bound("pv-1", "second"));
    pass(MAX_REFRESH).await;
    assert_eq!(node.tiers("pv-1", "app"), "second second");
}
