use std::collections::BTreeSet;
use std::sync::Arc;

use disk_usage_exporter::cluster::ApiSettings;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::apiserver::{Fault, Recorded, Resource, Server, Verb, of};
use crate::support::cluster::NODE;
use crate::support::virtual_node::{
    MINUTE, REFRESH, SECOND, VirtualNode, bound, claim, claim_of, fail_all, of_version, pass, pod, pv,
    settings,
};

const PVS: Resource = Resource::PersistentVolumes;
const CLAIMS: Resource = Resource::PersistentVolumeClaims;

fn briefs(requests: &[Recorded]) -> Vec<String> {
    let mut briefs: Vec<String> = requests.iter().map(Recorded::brief).collect();
    briefs.sort();
    briefs
}

#[tokio::test(start_paused = true)]
async fn exactly_these_requests_are_made() {
    let server = Server::in_process();
    server.put_all(bound("pv-1", "first").into_iter().chain(bound("not-mounted", "first")));
    server.put(pod("app", &[claim_of("pv-1")]));
    let mut node = VirtualNode::start(&server);
    node.mount(&[("pv-1", "app")]);
    pass(10 * MINUTE / 60).await;
    let expected = ["get persistentvolumeclaims pv-1-claim", "get persistentvolumes pv-1", "watch pods"];
    assert_eq!(briefs(&server.requests()), expected);
    for request in server.requests() {
        let version = (request.query("resourceVersion"), request.query_names());
        if request.verb == Verb::Get {
            assert_eq!(version, (Some("0"), vec!["resourceVersion"]), "from the server's cache");
            continue;
        }
        let names = ["allowWatchBookmarks", "fieldSelector", "resourceVersion", "timeoutSeconds", "watch"];
        assert_eq!(version, (Some("0"), names.to_vec()));
        let selector = format!("spec.nodeName={NODE},status.phase!=Failed,status.phase!=Succeeded");
        assert_eq!(request.query("fieldSelector"), Some(&*selector));
        let seconds: u64 = request.query("timeoutSeconds").unwrap().parse().unwrap();
        assert!((240..=290).contains(&seconds), "{seconds}");
    }
    for resource in [Resource::Pods, PVS, CLAIMS] {
        assert_eq!((node.count(resource, "200"), node.success(resource)), (1, Some(true)));
    }
    assert_eq!(node.requests().len(), 3);
    assert_eq!(node.tiers("pv-1", "app"), "first first");
}

#[tokio::test(start_paused = true)]
async fn what_the_servers_cache_does_not_have_is_asked_for_once_more() {
    // The faults of the first answers; what is known then, and the requests about the volume and its claim.
    let old_claim = of_version(claim("pv-1-claim", "old"), "uid-1", 1);
    let cases = [
        ("no fault", None, "first first", [1, 1_usize]),
        ("no volume in the cache", Some((PVS, Fault::NotInCache)), "first first", [2, 1]),
        ("no claim in the cache", Some((CLAIMS, Fault::NotInCache)), "first first", [1, 2]),
        (
            "an earlier claim in the cache",
            Some((CLAIMS, Fault::Body(old_claim.to_string()))),
            "first first",
            [1, 2],
        ),
        ("no volume at all", Some((PVS, Fault::Status(404, None))), "- -", [2, 0]),
    ];
    for (what, fault, tiers, requests) in cases {
        let server = Server::in_process();
        let mut volume = pv("pv-1", "pv-1-claim", "first");
        volume["spec"]["claimRef"]["uid"] = json!("uid-2");
        server.put_all([
            volume,
            of_version(claim("pv-1-claim", "first"), "uid-2", 2),
            pod("app", &["pv-1-claim"]),
        ]);
        if let Some((resource, fault)) = fault {
            let times = if matches!(fault, Fault::Status(..)) { 2 } else { 1 };
            server.fault(of(Verb::Get, resource), fault, times);
        }
        let mut node = VirtualNode::start(&server);
        node.mount(&[("pv-1", "app")]);
        pass(SECOND).await;
        assert_eq!(node.tiers("pv-1", "app"), tiers, "{what}");
        let gets = node.gets();
        let asked = [PVS, CLAIMS].map(|of| gets.iter().filter(|get| get.resource == Some(of)).count());
        assert_eq!(asked, requests, "{what}");
        let versions =
            gets.iter().filter(|get| get.resource == Some(PVS)).map(|get| get.query("resourceVersion"));
        assert_eq!(versions.collect::<Vec<_>>(), [Some("0"), None][..requests[0]], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_four_lookups_are_in_flight_and_a_thousand_volumes_have_labels_soon() {
    let names: Vec<String> = (0..1000).map(|number| format!("pv-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = Server::in_process();
    let go = Arc::new(Notify::new());
    server.fault(of(Verb::Get, PVS), Fault::Wait(Arc::clone(&go)), 4);
    server.put_all(names.iter().flat_map(|name| bound(name, "first")));
    server.put(pod("app", &names.iter().map(|name| claim_of(name)).collect::<Vec<_>>()));
    let mut node = VirtualNode::start(&server);
    let rows: Vec<(&str, &str)> = names.iter().map(|name| (*name, "app")).collect();
    node.mount(&rows);
    pass(SECOND).await;
    assert_eq!((node.gets().len(), server.counts().in_flight), (4, 4));
    go.notify_waiters();
    pass(SECOND).await;
    assert!(names.iter().all(|name| node.tiers(name, "app") == "first first"));
    assert_eq!(node.gets().len(), 2000);
    assert_eq!(node.gets().iter().map(|get| get.in_flight).max(), Some(4));
}

#[tokio::test(start_paused = true)]
async fn refreshes_are_spread_and_at_most_two_requests_a_second() {
    let names: Vec<String> = (0..300).map(|number| format!("pv-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let node = VirtualNode::with_volumes(&names).await;
    let first = node.gets().len();
    assert_eq!(first, 600);
    pass(REFRESH.mul_f64(0.79)).await;
    assert_eq!(node.gets().len(), first, "no refresh is that early");
    pass(REFRESH.mul_f64(0.21)).await;
    let halfway = (node.gets().len() - first) / 2;
    assert!((75..225).contains(&halfway), "spread by jitter: {halfway} of 300 halfway");
    pass(REFRESH.mul_f64(0.5)).await;
    let gets = node.gets();
    let asked: BTreeSet<String> = gets[first..].iter().map(Recorded::brief).collect();
    assert_eq!(asked.len(), 600, "every object was refreshed");
    for window in gets[first..].windows(3) {
        assert!(window[2].at - window[0].at >= SECOND.mul_f64(0.9), "three requests within a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_labels_is_seen_within_one_refresh() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.server.put_all(bound("pv-1", "second"));
    let before = node.handle.metadata();
    pass(REFRESH.mul_f64(1.21)).await;
    assert_eq!(node.tiers("pv-1", "app"), "second second");
    assert!(!node.handle.metadata().has_same_objects(&before));
    let before = node.handle.metadata();
    pass(2 * REFRESH).await;
    assert!(node.handle.metadata().has_same_objects(&before), "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn a_new_volume_does_not_wait_for_refreshes() {
    let mut node = VirtualNode::with_volumes(&["a", "b", "c"]).await;
    fail_all(&node.server, &Fault::Close);
    pass(3 * REFRESH).await;
    node.server.clear_faults();
    node.server.put_all(bound("new", "first"));
    node.server.put(pod("new", &[claim_of("new")]));
    pass(10 * MINUTE).await;
    node.mount(&[("a", "app"), ("b", "app"), ("c", "app"), ("new", "new")]);
    pass(SECOND).await;
    assert_eq!(node.tiers("new", "new"), "first first");
}

#[tokio::test(start_paused = true)]
async fn a_read_without_a_version_is_believed_whatever_its_version() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    // etcd was restored from a backup: the objects are there, with smaller versions.
    let uid = |resource: &str, name: &str| format!("uid-of-{resource}-{name}");
    let pv = of_version(pv("pv-1", "pv-1-claim", "restored"), &uid("persistentvolumes", "pv-1"), 0);
    node.server.fault(of(Verb::Get, PVS), Fault::Body(pv.to_string()), usize::MAX);
    let claim = of_version(claim("pv-1-claim", "restored"), &uid("persistentvolumeclaims", "pv-1-claim"), 0);
    node.server.fault(of(Verb::Get, CLAIMS), Fault::Body(claim.to_string()), usize::MAX);
    let before = node.gets().len();
    pass(REFRESH.mul_f64(1.21)).await;
    assert_eq!(node.tiers("pv-1", "app"), "restored restored");
    let asked: Vec<_> =
        node.gets()[before..].iter().map(|get| get.query("resourceVersion").is_some()).collect();
    assert_eq!(
        asked,
        [true, false, true, false],
        "a cached answer that is older than what is known is confirmed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cached_answer_that_is_older_than_what_is_known_changes_nothing() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    // The server that lags behind answers from its cache alone: with an earlier state, and an object that had the name.
    for (uid, gets) in [("uid-of-persistentvolumes-pv-1", 2 + 3), ("uid-of-another", 2 + 3 + 3)] {
        let old = of_version(pv("pv-1", "pv-1-claim", "old"), uid, 0);
        node.server.fault(of(Verb::Get, PVS), Fault::Body(old.to_string()), 1);
        pass(REFRESH.mul_f64(1.21)).await;
        assert_eq!((node.tiers("pv-1", "app").as_str(), node.gets().len()), ("first first", gets), "{uid}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_or_forbidden_is_asked_again_ever_more_seldom() {
    for code in [404, 403] {
        let server = Server::in_process();
        server.fault(of(Verb::Get, PVS), Fault::Status(code, None), usize::MAX);
        server.put(pod("app", &["pv-1-claim"]));
        let mut node = VirtualNode::start(&server);
        node.mount(&[("pv-1", "app")]);
        pass(4 * REFRESH).await;
        assert_eq!(node.tiers("pv-1", "app"), "- -", "an answer");
        assert_eq!(node.success(PVS), Some(code == 404));
        let mut times: Vec<_> = node.gets().iter().map(|get| get.at).collect();
        if code == 404 {
            times = times.chunks(2).map(|pair| pair[1]).collect();
        }
        let pauses: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        for (pause, minutes) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            assert!((minutes * 48..=minutes * 72).contains(pause), "{code}: {pauses:?}");
        }
        assert!(pauses.len() >= 7, "{pauses:?}");
        server.clear_faults();
        server.put_all(bound("pv-1", "first"));
        pass(REFRESH.mul_f64(1.21)).await;
        assert_eq!(node.tiers("pv-1", "app"), "first first", "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_it_is_mounted_keeps_its_labels() {
    let node = VirtualNode::with_volumes(&["pv-1"]).await;
    node.server.remove(CLAIMS, "shop", &claim_of("pv-1"));
    node.server.remove(PVS, "", "pv-1");
    pass(REFRESH.mul_f64(1.21)).await;
    assert!(node.count(PVS, "404") >= 2 && node.count(CLAIMS, "404") >= 2, "asked, and asked again");
    assert_eq!(node.tiers("pv-1", "app"), "first first");
}

#[tokio::test(start_paused = true)]
async fn no_request_is_made_of_what_is_no_name_or_a_pods_own_volume() {
    let server = Server::in_process();
    let mut owner = pod("app", &["ok-1.example-claim"]);
    owner["spec"]["volumes"] = json!([{"name": "own", "nfs": {"server": "nas", "path": "/"}}]);
    server.put_all(bound("ok-1.example", "first").into_iter().chain([owner]));
    let mut evil = pv("evil", "../../secrets", "first");
    evil["spec"]["claimRef"]["namespace"] = json!("..");
    server.put(evil);
    let mut node = VirtualNode::start(&server);
    let names = ["../pods", "a/b", "A", "", "-a", "a..b", "%2e%2e", "a?b", "own", "ok-1.example", "evil"];
    node.mount(&names.map(|name| (name, "app")));
    pass(REFRESH / 2).await;
    let expected = [
        "get persistentvolumeclaims ok-1.example-claim",
        "get persistentvolumes evil",
        "get persistentvolumes ok-1.example",
    ];
    let asked: BTreeSet<String> = briefs(&node.gets()).into_iter().collect();
    assert_eq!(asked, expected.map(Into::into).into());
    // Another pod's volume of that name may be a PersistentVolume.
    node.mount(&[("own", "app"), ("own", "other")]);
    pass(2 * SECOND).await;
    assert_eq!(node.gets().last().unwrap().brief(), "get persistentvolumes own");
}

#[tokio::test(start_paused = true)]
async fn what_is_unmounted_is_kept_for_ten_minutes_and_not_refreshed() {
    let mut node = VirtualNode::with_volumes(&["pv-1", "pv-2"]).await;
    let before = node.gets().len();
    node.mount(&[("pv-2", "app")]);
    pass(9 * MINUTE).await;
    assert!(node.handle.metadata().volumes.contains_key("pv-1"));
    pass(2 * MINUTE).await;
    assert!(!node.handle.metadata().volumes.contains_key("pv-1"));
    pass(2 * REFRESH).await;
    let names: BTreeSet<String> = node.gets()[before..].iter().map(|get| get.name.clone()).collect();
    assert_eq!(names, ["pv-2".to_owned(), claim_of("pv-2")].into());
}

#[tokio::test(start_paused = true)]
async fn objects_that_always_fail_do_not_keep_a_new_volume_waiting() {
    let bad = ["bad-0", "bad-1", "bad-2", "bad-3", "bad-4", "bad-5"];
    let server = Server::in_process();
    server.put_all(bad.iter().chain(&["new"]).flat_map(|name| bound(name, "first")));
    for name in bad {
        server.fault(of(Verb::Get, PVS).named(name), Fault::Status(500, None), usize::MAX);
    }
    let mut node = VirtualNode::start_with(&server, settings(None));
    node.mount(&bad.map(|name| (name, "app")));
    pass(REFRESH).await;
    node.mount(&bad.iter().chain(&["new"]).map(|name| (*name, "app")).collect::<Vec<_>>());
    pass(201 * SECOND).await;
    assert_eq!(node.tiers("new", "app"), "first first");
}

#[tokio::test(start_paused = true)]
async fn one_object_that_cannot_be_read_costs_itself() {
    let bad = [
        ("bad-status", Fault::Status(500, None)),
        ("bad-json", Fault::Body("{".into())),
        ("bad-name", Fault::Body(pv("pv-1", "c", "x").to_string())),
        ("bad-length", Fault::Endless),
    ];
    let server = Server::in_process();
    let names = ["pv-1", "pv-2", "pv-3"];
    server
        .put_all(names.iter().chain(bad.iter().map(|(name, _)| name)).flat_map(|name| bound(name, "first")));
    for (name, fault) in &bad {
        server.fault(of(Verb::Get, PVS).named(name), fault.clone(), usize::MAX);
    }
    let mut node = VirtualNode::start_with(&server, settings(None));
    let rows: Vec<(&str, &str)> =
        bad.iter().map(|(name, _)| *name).chain(names).map(|name| (name, "app")).collect();
    node.mount(&rows);
    pass(10 * SECOND).await;
    assert!(names.iter().all(|name| node.tiers(name, "app") == "first first"));
    assert!(bad.iter().all(|(name, _)| node.tiers(name, "app") == "?"));
    assert_eq!((node.success(PVS), node.success(CLAIMS)), (Some(false), Some(true)));
    pass(REFRESH).await;
    server.clear_faults();
    pass(20 * MINUTE).await;
    assert!(rows.iter().all(|(name, _)| node.tiers(name, "app") == "first first"), "once they can be read");
    assert_eq!(node.success(PVS), Some(true));
}

#[tokio::test(start_paused = true)]
async fn an_unbound_volume_is_answered_without_a_claim() {
    let server = Server::in_process();
    let mut unbound = pv("pv-1", "", "first");
    unbound["spec"].as_object_mut().unwrap().remove("claimRef");
    server.put(unbound);
    let mut node = VirtualNode::start_with(&server, ApiSettings { label_refresh: MINUTE, ..settings(None) });
    node.mount(&[("pv-1", "app")]);
    pass(2 * SECOND).await;
    assert!(node.volume("pv-1", "app").unwrap().is_answered());
    // It is bound later.
    server.put_all(bound("pv-1", "second"));
    pass(MINUTE.mul_f64(1.21)).await;
    assert_eq!(node.tiers("pv-1", "app"), "second second");
}
