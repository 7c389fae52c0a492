use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::support::apiserver::{Fault, PANIC, PODS, PVS, Recorded, Server};
use crate::support::objects::{NODE, bound, pod};
use crate::support::virtual_node::{MINUTE, SECOND, VirtualNode, pass};

/// A node that watches a server with these pods.
async fn watching(uids: &[&str]) -> VirtualNode {
    let server = Server::new();
    server.put(uids.iter().map(|uid| pod(uid, &[])));
    let node = VirtualNode::start(&server, &[]);
    pass(10 * SECOND).await;
    node
}

fn watches(server: &Server) -> Vec<Recorded> {
    server.requests().into_iter().filter(|request| request.verb == "watch").collect()
}

/// The seconds between the starts of watches.
fn pauses(server: &Server) -> Vec<u64> {
    watches(server).windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs()).collect()
}

/// The resource versions that watches started from.
fn versions(server: &Server) -> Vec<String> {
    watches(server).iter().map(|watch| watch.query("resourceVersion").unwrap().to_owned()).collect()
}

fn error_event(code: u16, message: &str) -> String {
    let status = json!({"kind": "Status", "code": code, "message": message});
    format!("{}\n", json!({"type": "ERROR", "object": status}))
}

impl VirtualNode {
    fn assert_pods(&self, expected: &[&str], what: &str) {
        let metadata = self.handle.metadata();
        let uids: BTreeSet<&str> = metadata.pods.keys().map(String::as_str).collect();
        assert_eq!(uids.into_iter().collect::<Vec<_>>(), expected, "{what}");
        assert_eq!(self.success(PODS), Some(true), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn watch_follows_the_pods_of_the_node() {
    let mut node = watching(&["a", "b"]).await;
    node.assert_pods(&["a", "b"], "at first");
    node.mount(&[("pv", "a")]);
    let mut elsewhere = pod("elsewhere", &[]);
    elsewhere["spec"]["nodeName"] = json!("node-2");
    node.server.put([pod("c", &[]), elsewhere]);
    node.server.remove([pod("a", &[]), pod("b", &[])]);
    pass(SECOND).await;
    node.assert_pods(&["a", "c"], "a deleted pod is known while a volume of it is mounted");
    node.mount(&[]);
    pass(SECOND).await;
    node.assert_pods(&["c"], "once it is unmounted");
    assert_eq!(watches(&node.server).len(), 1);
    // Without a bookmark each watch starts from the beginning again, at different times.
    pass(60 * MINUTE).await;
    let pauses = pauses(&node.server);
    assert!(pauses.len() >= 12 && pauses.iter().all(|seconds| (239..=291).contains(seconds)), "{pauses:?}");
    assert!(pauses.iter().collect::<BTreeSet<_>>().len() > 3, "{pauses:?}");
    assert!(versions(&node.server).iter().all(|version| version == "0"));
}

#[tokio::test(start_paused = true)]
async fn ended_watch_continues_from_the_last_version_within_ten_seconds() {
    // Its events are published a moment later.
    let soon = 11 * SECOND;
    let node = watching(&["a"]).await;
    node.server.bookmark();
    let bookmark = node.server.lock().version.to_string();
    node.server.end_watches();
    node.server.put([pod("b", &[])]);
    let event = node.server.lock().version.to_string();
    pass(soon).await;
    node.assert_pods(&["a", "b"], "soon");
    node.server.end_watches();
    pass(soon).await;
    assert_eq!(versions(&node.server), ["0", &bookmark, &event]);
    // Failures before a watch that worked do not count.
    node.server.fault(PODS, Fault::Close, 3);
    node.server.end_watches();
    pass(3 * MINUTE).await;
    node.server.end_watches();
    node.server.put([pod("c", &[])]);
    pass(soon).await;
    node.assert_pods(&["a", "b", "c"], "as soon after failures");
}

#[tokio::test(start_paused = true)]
async fn expired_watch_triggers_relist_and_drops_pods_that_are_gone() {
    // In an event, as a status, and after failures.
    for (case, before_restart) in ["event", "status", "failures"].into_iter().zip([0, 1, 6]) {
        let node = watching(&["a", "b"]).await;
        node.server.bookmark();
        pass(SECOND).await;
        node.server.remove_unnoticed(&pod("b", &[]));
        if case == "event" {
            node.server.send_to_watches(error_event(410, "too old"));
            pass(SECOND).await;
        } else {
            node.server.fault(PODS, Fault::Close, if case == "failures" { 5 } else { 0 });
            node.server.fault(PODS, Fault::Status(410), 1);
            node.server.end_watches();
            pass(if case == "failures" { 60 * MINUTE } else { 11 * SECOND }).await;
        }
        let restart = versions(&node.server).iter().skip(1).position(|version| version == "0");
        assert_eq!(restart, Some(before_restart), "{case}");
        let watches = watches(&node.server);
        let pause = watches[before_restart + 1].at - watches[before_restart].at;
        assert!(case == "event" || pause < SECOND / 10, "{case}: at once");
        assert_eq!(versions(&node.server).last().unwrap(), "0", "{case}");
        node.assert_pods(&["a", "b"], "more may come");
        node.server.bookmark();
        pass(SECOND).await;
        node.assert_pods(&["a"], "all have come");
    }
}

#[tokio::test(start_paused = true)]
async fn failing_watches_are_counted_and_back_off() {
    let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}});
    // The code that they are counted with, and the most watches in an hour.
    for (fault, code, max) in [
        (Fault::Status(410), "410", 70),
        (Fault::Body(String::new()), "200", 60),
        (Fault::Body(format!("{bookmark}\n")), "200", 60),
        (Fault::Body(error_event(500, "etcdserver: no leader")), "500", 60),
        (Fault::Body("<html>".into()), "decode", 60),
        (Fault::Endless, "decode", 60),
        (Fault::EndlessRefusal, "decode", 60),
        (Fault::Close, "connect", 60),
        (Fault::Half, "200", 60),
        (Fault::Hang, "timeout", 60),
        (Fault::HalfThenSilence, "timeout", 60),
        (Fault::Status(401), "401", 60),
        (Fault::Status(403), "403", 15),
        (Fault::RetryAfter(503, "2"), "503", 60),
    ] {
        let server = Server::new();
        server.fault(PODS, fault.clone(), 1);
        let node = VirtualNode::start(&server, &[]);
        // A watch that stays silent for longer than it was to last is given up.
        pass(if matches!(fault, Fault::HalfThenSilence) { 301 * SECOND } else { 6 * SECOND }).await;
        assert!(node.count(PODS, code) >= 1, "{fault:?}");
        if !matches!(fault, Fault::Status(403)) {
            pass(20 * SECOND).await;
            assert_eq!(server.lock().open("watch"), 1, "{fault:?}: the next one is open");
        }
        server.fault(PODS, fault.clone(), usize::MAX);
        server.end_watches();
        let before = watches(&server).len();
        pass(60 * MINUTE).await;
        let count = watches(&server).len() - before;
        assert!((3..=max).contains(&count), "{fault:?}: {count} watches in an hour");
        // A silent watch is one in which nothing happens, until its time is over.
        assert!(node.success(PODS) == Some(false) || matches!(fault, Fault::HalfThenSilence), "{fault:?}");
        server.lock().faults.clear();
        (0..10).for_each(|_| server.put([pod("a", &[])]));
        pass(35 * MINUTE).await;
        node.assert_pods(&["a"], &format!("{fault:?}: afterwards"));
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_in_seconds_delays_the_next_request() {
    let cases: [(u16, &str, RangeInclusive<u64>); 6] = [
        (429, "200", 200..=240),
        (503, "200", 200..=240),
        // But for no longer than this.
        (503, "99999", 300..=361),
        (503, "-200", 0..=10),
        (503, "2e2", 0..=10),
        (503, "Wed, 21 Oct 2099 07:28:00 GMT", 0..=10),
    ];
    for (code, header, expected) in cases {
        let server = Server::new();
        server.fault(PODS, Fault::RetryAfter(code, header), 1);
        server.fault(PVS, Fault::RetryAfter(code, header), 1);
        let node = VirtualNode::start(&server, &[("pv-1", "a"), ("pv-2", "a")]);
        pass(10 * MINUTE).await;
        let pause = pauses(&server)[0];
        assert!(expected.contains(&pause), "{code} {header}: {pause}");
        assert_eq!(node.count(PODS, &code.to_string()), 1, "{code} {header}");
        if *expected.start() > 0 {
            let gets = node.gets();
            let next = gets.iter().find(|get| get.at > gets[0].at + SECOND).unwrap();
            let pause = (next.at - gets[0].at).as_secs();
            assert!(expected.contains(&pause), "get: {code} {header}: {pause}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_events_are_skipped_and_logged_once_per_watch() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(writer).finish());
    let node = watching(&["a"]).await;
    let malformed = [
        "\n\nhello\n",
        "{\"type\":\"ADDED\"}\n{\"type\":\"MOVED\",\"object\":{}}\nnull\n[]\n7\n",
        "{\"type\":\"ADDED\",\"object\":7}\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":7}}}\n",
        "{\"type\":\"BOOKMARK\",\"object\":{}}\n",
    ];
    for watch in 1..=2 {
        for lines in malformed {
            node.server.send_to_watches(lines);
        }
        node.server.put([pod("b", &[])]);
        pass(SECOND).await;
        node.assert_pods(&["a", "b"], "after events that make no sense");
        assert_eq!(watches(&node.server).len(), watch, "the same watch");
        assert!(node.count(PODS, "decode") >= 6, "{}", node.count(PODS, "decode"));
        let log = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(log.matches("pod_events_skipped").count(), watch, "{log}");
        node.server.end_watches();
        pass(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lookups_wait_up_to_a_second_for_pods() {
    let server = Server::new();
    server.fault(PODS, Fault::Hang, usize::MAX);
    let node = VirtualNode::start(&server, &[("slow", "a")]);
    // Without a node's name there are no pods to wait for.
    let _without_pods = VirtualNode::start_as(None, &server, &[("fast", "a")]);
    pass(Duration::from_millis(900)).await;
    assert!(node.gets().iter().all(|get| get.name == "fast"));
    pass(Duration::from_millis(200)).await;
    assert!(node.gets().iter().any(|get| get.name == "slow"));
    assert!(watches(&server).iter().all(|watch| watch.query("fieldSelector").unwrap().contains(NODE)));
    // Nor are there where they are forbidden.
    let server = Server::new();
    server.fault(PODS, Fault::Status(403), usize::MAX);
    let node = VirtualNode::start(&server, &[]);
    assert!(node.handle.metadata().awaits_pods);
    pass(SECOND).await;
    assert!(!node.handle.metadata().awaits_pods);
    assert!(node.status.wait_until_reached(SECOND).await.is_ok(), "a refusal is an answer");
}

#[tokio::test(start_paused = true)]
async fn panic_repeats_the_lookups_in_flight_and_the_watch() {
    let server = Server::new();
    server.put(bound("pv-1", "first"));
    server.put([pod("app", &["pv-1"])]);
    server.fault(PVS, Fault::Hang, 1);
    let mut node = VirtualNode::start(&server, &[]);
    pass(SECOND).await;
    server.bookmark();
    node.mount(&[("pv-1", "app")]);
    pass(SECOND).await;
    assert_eq!((node.gets().len(), node.tiers("pv-1", "app")), (1, "?".into()));
    server.send_to_watches(PANIC);
    pass(2 * SECOND).await;
    assert_eq!(node.tiers("pv-1", "app"), "first first", "before the lookup would time out");
    assert_eq!(versions(&server), ["0", "0"]);
}

#[tokio::test(start_paused = true)]
async fn version_that_cannot_be_asked_for_does_not_end_the_watches() {
    let server = Server::new();
    server.put(bound("pv-1", "first"));
    let mut node = VirtualNode::start(&server, &[]);
    pass(SECOND).await;
    for version in ["9".repeat(70_000), "not-a-number".into()] {
        let metadata = json!({"resourceVersion": version});
        let bookmark =
            json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}});
        server.send_to_watches(format!("{bookmark}\n"));
    }
    server.end_watches();
    server.put([pod("app", &["pv-1"])]);
    node.mount(&[("pv-1", "app")]);
    pass(10 * SECOND).await;
    assert_eq!(node.tiers("pv-1", "app"), "first first");
    assert!(versions(&server).iter().all(|version| version == "0"), "{:?}", versions(&server).len());
    // Nor does one that the server refuses.
    server.bookmark();
    server.fault(PODS, Fault::Status(400), 1);
    server.end_watches();
    pass(Duration::from_mins(2)).await;
    let bookmark = server.lock().version.to_string();
    assert_eq!(versions(&server)[versions(&server).len() - 2..], [bookmark, "0".into()]);
}
