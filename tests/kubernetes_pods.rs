use std::time::Duration;

use serde_json::{Value, json};

use crate::support::apiserver::{Fault, PANIC, Recorded, Resource, Server, Verb, of};
use crate::support::cluster::NODE;
use crate::support::virtual_node::{
    CapturedLog, MINUTE, SECOND, VirtualNode, bound, claim_of, pass, pod, settings,
};

/// A node that watches a server with these pods.
async fn watching(pods: &[&str]) -> VirtualNode {
    let server = Server::in_process();
    server.put_all(pods.iter().map(|uid| pod(uid, &[""; 0])));
    let node = VirtualNode::start(&server);
    pass(10 * SECOND).await;
    node
}

fn watches(server: &Server) -> Vec<Recorded> {
    server.requests().into_iter().filter(|request| request.verb == Verb::Watch).collect()
}

/// The versions from which was watched.
fn versions(server: &Server) -> Vec<String> {
    watches(server).iter().map(|watch| watch.query("resourceVersion").unwrap().to_owned()).collect()
}

impl VirtualNode {
    fn pods(&self) -> Vec<String> {
        let mut uids: Vec<String> = self.handle.metadata().pods.keys().cloned().collect();
        uids.sort();
        uids
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_followed() {
    let mut node = watching(&["a", "b"]).await;
    assert_eq!(node.pods(), ["a", "b"]);
    node.mount(&[("pv", "a")]);
    node.server.put(pod("c", &[""; 0]));
    let mut elsewhere = pod("elsewhere", &[""; 0]);
    elsewhere["spec"]["nodeName"] = json!("node-2");
    node.server.put(elsewhere);
    node.server.remove(Resource::Pods, "shop", "a");
    node.server.remove(Resource::Pods, "shop", "b");
    pass(SECOND).await;
    assert_eq!(node.pods(), ["a", "c"], "one that is gone is known while a volume of it is mounted");
    node.mount(&[]);
    pass(SECOND).await;
    assert_eq!(node.pods(), ["c"]);
    assert_eq!(watches(&node.server).len(), 1);
    // Without a bookmark it begins from the start again each time, and at different times.
    pass(60 * MINUTE).await;
    let times: Vec<u64> =
        watches(&node.server).windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs()).collect();
    assert!(times.len() >= 12 && times.iter().all(|seconds| (239..=291).contains(seconds)), "{times:?}");
    assert!(times.iter().collect::<std::collections::BTreeSet<_>>().len() > 3, "{times:?}");
    assert!(versions(&node.server).iter().all(|version| version == "0"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ended_goes_on_from_the_last_version() {
    let node = watching(&["a"]).await;
    node.server.bookmark();
    let bookmark = node.server.version();
    node.server.end_watches();
    pass(11 * SECOND).await;
    node.server.put(pod("b", &[""; 0]));
    let event = node.server.version();
    pass(SECOND).await;
    node.server.end_watches();
    pass(11 * SECOND).await;
    assert_eq!(versions(&node.server), ["0", &bookmark, &event]);
    assert_eq!((node.pods(), node.success(Resource::Pods)), (vec!["a".into(), "b".into()], Some(true)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_expired_starts_from_the_beginning_at_once_and_pods_that_are_gone_are_dropped() {
    let expired = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}});
    for as_event in [true, false] {
        let node = watching(&["a", "b"]).await;
        node.server.bookmark();
        pass(SECOND).await;
        // Missed by the watch.
        node.server.forget(Resource::Pods, "shop", "b");
        if as_event {
            node.server.tell_watches(format!("{expired}\n"));
        } else {
            node.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(410, None), 1);
            node.server.end_watches();
            pass(10 * SECOND).await;
        }
        pass(SECOND).await;
        assert_eq!(versions(&node.server).last().unwrap(), "0");
        assert_eq!(node.pods(), ["a", "b"], "more may come");
        node.server.bookmark();
        pass(SECOND).await;
        assert_eq!((node.pods(), node.success(Resource::Pods)), (vec!["a".to_owned()], Some(true)));
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_fail_at_once_are_no_storm() {
    let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}});
    let error = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcdserver: no leader"}});
    for (fault, max) in [
        (Fault::Status(410, None), 70),
        (Fault::Body(String::new()), 60),
        (Fault::Body(format!("{bookmark}\n")), 60),
        (Fault::Body(format!("{error}\n")), 60),
        (Fault::Body("<html>".into()), 60),
        (Fault::Endless, 60),
        (Fault::Close, 60),
        (Fault::Hang, 60),
        (Fault::Status(401, None), 60),
        (Fault::Status(403, None), 15),
    ] {
        let server = Server::in_process();
        server.fault(of(Verb::Watch, Resource::Pods), fault.clone(), usize::MAX);
        let node = VirtualNode::start(&server);
        pass(60 * MINUTE).await;
        let count = watches(&server).len();
        assert!((3..=max).contains(&count), "{fault:?}: {count} watches in an hour");
        assert_eq!(node.success(Resource::Pods), Some(false), "{fault:?}");
        server.clear_faults();
        (0..10).for_each(|_| server.put(pod("a", &[""; 0])));
        pass(35 * MINUTE).await;
        assert_eq!(
            (node.pods(), node.success(Resource::Pods)),
            (vec!["a".to_owned()], Some(true)),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_watch_came_to_is_counted() {
    let error = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcdserver: no leader"}});
    for (fault, code) in [
        (Fault::Close, "connect"),
        (Fault::Half, "200"),
        (Fault::Status(503, Some(2)), "503"),
        (Fault::Body(format!("{error}\n")), "500"),
        (Fault::Endless, "decode"),
        (Fault::Hang, "timeout"),
        (Fault::Silence, "timeout"),
    ] {
        let server = Server::in_process();
        server.fault(of(Verb::Watch, Resource::Pods), fault.clone(), 1);
        let node = VirtualNode::start(&server);
        // A watch that is silent for longer than it was to last is given up.
        pass(if matches!(fault, Fault::Silence) { 301 * SECOND } else { 6 * SECOND }).await;
        assert!(node.count(Resource::Pods, code) >= 1, "{fault:?}: {:?}", node.requests());
        pass(20 * SECOND).await;
        assert_eq!(server.counts().watches, 1, "{fault:?}: the next one is open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_to_be_left_alone_is() {
    let server = Server::in_process();
    server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(429, Some(200)), 1);
    server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(503, Some(99999)), 1);
    server.fault(of(Verb::Get, Resource::PersistentVolumes), Fault::Status(429, Some(200)), 1);
    let mut node = VirtualNode::start(&server);
    node.mount(&[("pv-1", "a"), ("pv-2", "a")]);
    pass(20 * MINUTE).await;
    let times: Vec<u64> =
        watches(&server).windows(2).take(2).map(|pair| (pair[1].at - pair[0].at).as_secs()).collect();
    assert!((200..=240).contains(&times[0]), "{times:?}");
    assert!((300..=361).contains(&times[1]), "but not for ever: {times:?}");
    let gets = node.gets();
    let pause = (gets.iter().find(|get| get.at > gets[0].at + SECOND).unwrap().at - gets[0].at).as_secs();
    assert!((200..=240).contains(&pause), "{pause}");
}

#[tokio::test(start_paused = true)]
async fn events_that_make_no_sense_cost_themselves() {
    let node = watching(&["a"]).await;
    let nonsense = [
        "\n\nhello\n",
        "{\"type\":\"ADDED\"}\n{\"type\":\"MOVED\",\"object\":{}}\nnull\n[]\n7\n",
        "{\"type\":\"ADDED\",\"object\":7}\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":7}}}\n",
        "{\"type\":\"BOOKMARK\",\"object\":{}}\n",
    ];
    for line in nonsense {
        node.server.tell_watches(line);
    }
    node.server.put(pod("b", &[""; 0]));
    pass(SECOND).await;
    assert_eq!(
        (node.pods(), watches(&node.server).len()),
        (vec!["a".into(), "b".into()], 1),
        "the same watch"
    );
    assert!(node.count(Resource::Pods, "decode") >= 6, "{:?}", node.requests());
    assert_eq!(node.success(Resource::Pods), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_broke_is_opened_again_within_ten_seconds() {
    // What it tells is published a moment later.
    let soon = 11 * SECOND;
    let node = watching(&["a"]).await;
    node.server.end_watches();
    node.server.put(pod("b", &[""; 0]));
    pass(soon).await;
    assert_eq!(node.pods(), ["a", "b"]);
    // What went wrong before a watch was of use counts no more.
    node.server.fault(of(Verb::Watch, Resource::Pods), Fault::Close, 3);
    node.server.end_watches();
    pass(3 * MINUTE).await;
    node.server.end_watches();
    node.server.put(pod("c", &[""; 0]));
    pass(soon).await;
    assert_eq!(node.pods(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn pods_are_told_by_their_uids() {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let pod_with = |uid: &str, annotation: &str, hash: &str| {
        let mut object: Value = pod(uid, &[""; 0]);
        object["metadata"]["name"] = json!(format!("name-of-{uid}"));
        object["metadata"]["annotations"] = json!({annotation: hash});
        object
    };
    // A static pod is known by the hash that its mirror pod has; any pod can have another annotation, and be there before.
    let thief = pod_with("thief", "kubernetes.io/config.hash", "hash");
    let late_thief = pod_with("late-thief", "kubernetes.io/config.hash", "hash");
    let of_victim = pod_with("thief-of-victim", MIRROR, "victim");
    let objects =
        [thief, of_victim, pod_with("static", MIRROR, "hash"), pod_with("victim", "other", ""), late_thief];
    let node = watching(&[]).await;
    for object in objects {
        node.server.put(object);
        pass(SECOND).await;
    }
    let name = |uid: &str| Some(node.handle.metadata().pods.get(uid)?.name.clone());
    let names = ["victim", "thief", "static", "hash"].map(|uid| name(uid).unwrap());
    assert_eq!(names, ["name-of-victim", "name-of-thief", "name-of-static", "name-of-static"]);
    // A false mirror pod stays until the kubelet deletes it; until then none is believed, whichever came first.
    for (uid, others) in [("m1", ["m2", "m3"]), ("m3", ["m1", "m2"])] {
        node.server.put_all(["m1", "m2", "m3"].map(|uid| pod_with(uid, MIRROR, "mirrored")));
        pass(SECOND).await;
        assert_eq!(name("mirrored"), None);
        for uid in others {
            node.server.remove(Resource::Pods, "shop", &format!("name-of-{uid}"));
        }
        pass(SECOND).await;
        assert_eq!(name("mirrored"), Some(format!("name-of-{uid}")));
    }
}

#[tokio::test(start_paused = true)]
async fn lookups_wait_a_second_for_pods_and_no_longer() {
    let server = Server::in_process();
    server.fault(of(Verb::Watch, Resource::Pods), Fault::Hang, usize::MAX);
    let mut node = VirtualNode::start(&server);
    let mut without_pods = VirtualNode::start_with(&server, settings(None));
    node.mount(&[("slow", "a")]);
    without_pods.mount(&[("fast", "a")]);
    pass(Duration::from_millis(900)).await;
    assert!(
        node.gets().iter().all(|get| get.name == "fast"),
        "whose pods is not known: there is nothing to wait for"
    );
    pass(Duration::from_millis(200)).await;
    assert!(node.gets().iter().any(|get| get.name == "slow"));
    assert!(watches(&server).iter().all(|watch| watch.query("fieldSelector").unwrap().contains(NODE)));
}

#[tokio::test(start_paused = true)]
async fn pods_that_must_not_be_read_are_not_waited_for() {
    let server = Server::in_process();
    server.forbid(Verb::Watch, Resource::Pods);
    let node = VirtualNode::start(&server);
    assert!(node.handle.metadata().awaits_pods);
    pass(SECOND).await;
    assert!(!node.handle.metadata().awaits_pods);
    assert!(node.status.wait_until_reached(SECOND).await.is_ok(), "no is an answer");
}

#[tokio::test(start_paused = true)]
async fn a_panic_repeats_lookups_in_flight_and_the_watch() {
    let server = Server::in_process();
    server.put_all(bound("pv-1", "first").into_iter().chain([pod("app", &[claim_of("pv-1")])]));
    server.fault(of(Verb::Get, Resource::PersistentVolumes), Fault::Hang, 1);
    let mut node = VirtualNode::start(&server);
    pass(SECOND).await;
    server.bookmark();
    node.mount(&[("pv-1", "app")]);
    pass(SECOND).await;
    assert_eq!((node.gets().len(), node.tiers("pv-1", "app")), (1, "?".into()));
    server.tell_watches(PANIC);
    pass(2 * SECOND).await;
    assert_eq!(node.tiers("pv-1", "app"), "first first", "sooner than the lookup would time out");
    assert_eq!(versions(&server), ["0", "0"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_expired_after_failures_starts_from_the_beginning_at_once() {
    let node = watching(&["a"]).await;
    node.server.bookmark();
    pass(SECOND).await;
    node.server.fault(of(Verb::Watch, Resource::Pods), Fault::Close, 5);
    node.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(410, None), 1);
    node.server.end_watches();
    pass(60 * MINUTE).await;
    let restart = versions(&node.server).iter().skip(1).position(|version| version == "0");
    assert_eq!(restart, Some(6), "after five failures and the one that expired");
    let watches = watches(&node.server);
    assert!(watches[7].at - watches[6].at < SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn events_that_make_no_sense_are_logged_once_a_watch() {
    let (log, _guard) = CapturedLog::start();
    let node = watching(&["a"]).await;
    for watch in 1..=2 {
        (0..3).for_each(|_| node.server.tell_watches("hello\n"));
        pass(SECOND).await;
        assert_eq!(log.lines("pod_events_skipped").len(), watch);
        node.server.end_watches();
        pass(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_message_of_an_error_event_is_logged_but_for_its_end() {
    let (log, _guard) = CapturedLog::start();
    let node = watching(&["a"]).await;
    let message = format!("etcdserver: no leader{}", "!".repeat(1000));
    let error = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": message}});
    node.server.tell_watches(format!("{error}\n"));
    pass(SECOND).await;
    let lines = log.lines("HTTP status 500: etcdserver: no leader!");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].matches('!').count(), 300 - "etcdserver: no leader".len());
}

#[tokio::test(start_paused = true)]
async fn only_a_number_of_seconds_asks_to_be_left_alone() {
    for (header, expected) in
        [("200", 200..=240), ("-200", 0..=10), ("2e2", 0..=10), ("Wed, 21 Oct 2099 07:28:00 GMT", 0..=10)]
    {
        let server = Server::in_process();
        server.fault(of(Verb::Watch, Resource::Pods), Fault::RetryAfter(header), 1);
        let node = VirtualNode::start(&server);
        pass(5 * MINUTE).await;
        let watches = watches(&server);
        let pause = (watches[1].at - watches[0].at).as_secs();
        assert!(expected.contains(&pause), "{header}: {pause}");
        assert_eq!(node.count(Resource::Pods, "503"), 1, "{header}");
    }
}
