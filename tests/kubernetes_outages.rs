use std::time::Duration;

use serde_json::json;

use crate::support::apiserver::{CLAIMS, Fault, PODS, PVS, Server};
use crate::support::objects::{bound, pod, pv_names};
use crate::support::virtual_node::{MINUTE, REFRESH, SECOND, VirtualNode, fail_all, mounted_by_app, pass};

/// The average of the requests after the first `skip`.
fn requests_a_minute(server: &Server, skip: usize, hours: u32) -> f64 {
    f64::from(u32::try_from(server.requests().len() - skip).unwrap()) / f64::from(60 * hours)
}

#[tokio::test(start_paused = true)]
async fn outage_loses_no_labels_and_causes_at_most_two_requests_a_minute() {
    let success = json!({"kind": "Status", "status": "Success"}).to_string();
    let bodies = ["<html>it works!</html>", "{}", &success].map(|body| Fault::Body(body.into()));
    let statuses = [500, 503, 401].map(Fault::Status);
    let broken = [Fault::Close, Fault::Hang, Fault::Half, Fault::HalfThenSilence, Fault::Endless];
    for fault in [&bodies[..], &statuses, &[Fault::RetryAfter(429, "1")], &broken].concat() {
        let names = pv_names(10);
        let mut node = VirtualNode::with_volumes(&names).await;
        let before = node.handle.metadata();
        fail_all(&node.server, &fault);
        // New volumes and refreshes are due all the time.
        node.mount(&[mounted_by_app(&names), vec![("new", "new"); 5]].concat());
        let first = node.server.requests().len();
        // The test reads an endless body byte by byte, which takes time.
        let hours = if matches!(fault, Fault::Endless) { 2 } else { 4 };
        pass(REFRESH * hours).await;
        let average = requests_a_minute(&node.server, first, hours);
        assert!((0.5..=2.0).contains(&average), "{fault:?}: {average} requests a minute");
        let in_flight = node.server.requests()[first + 5..].iter().map(|request| request.in_flight).max();
        assert!(in_flight <= Some(1), "{fault:?}: {in_flight:?} at a time");
        let known = node.handle.metadata();
        assert!(names.iter().all(|name| known.volumes[*name] == before.volumes[*name]), "{fault:?}");
        assert_eq!([PVS, CLAIMS].map(|of| node.success(of)), [Some(false), Some(true)], "{fault:?}");
        // A watch that is open and silent is one where nothing happens, until its time is over.
        assert!(node.success(PODS) == Some(false) || matches!(fault, Fault::HalfThenSilence), "{fault:?}");
        assert!(known.oldest <= before.oldest, "{fault:?}: older and older");
        node.server.lock().faults.clear();
        node.server.put(names.iter().chain(&["new"]).flat_map(|name| bound(name, "second")));
        pass(4 * MINUTE).await;
        assert!(names.iter().all(|name| node.tiers(name, "app") == "second second"), "{fault:?}: back again");
        assert_eq!(node.tiers("new", "new"), "second second", "{fault:?}");
        assert_eq!([PODS, PVS, CLAIMS].map(|of| node.success(of)), [Some(true); 3], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn partial_outage_causes_at_most_two_requests_a_minute() {
    for failing in 1..8_usize {
        let server = Server::new();
        server.put(["pv-1", "pv-2"].iter().flat_map(|name| bound(name, "first")));
        for (_, resource) in
            [PVS, CLAIMS, PODS].iter().enumerate().filter(|(bit, _)| failing & (1 << bit) != 0)
        {
            server.fault(resource, Fault::Status(503), usize::MAX);
        }
        let _node = VirtualNode::start(&server, &mounted_by_app(&["pv-1", "pv-2"]));
        pass(REFRESH * 24).await;
        let average = requests_a_minute(&server, 0, 24);
        assert!(average <= 2.0, "{failing:b}: {average} requests a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_reconnect_to_a_restarted_server_at_different_times() {
    // As a rule a server that stops ends its watches; or the connections break, and it is gone for a while.
    for gone_for in [Duration::ZERO, 10 * SECOND, 5 * MINUTE] {
        let server = Server::new();
        let nodes: Vec<VirtualNode> = (0..200).map(|_| VirtualNode::start(&server, &[])).collect();
        pass(20 * SECOND).await;
        if gone_for.is_zero() {
            server.end_watches();
        } else {
            fail_all(&server, &Fault::Close);
            pass(gone_for).await;
            server.lock().faults.clear();
        }
        let before = server.requests().len();
        pass(4 * MINUTE).await;
        let back: Vec<_> = server.requests()[before..].iter().map(|request| request.at).collect();
        for window in back.windows(nodes.len() / 4) {
            let time = *window.last().unwrap() - window[0];
            assert!(time >= SECOND, "a quarter of the nodes within {time:?}, after {gone_for:?}");
        }
        assert_eq!(server.lock().open("watch"), nodes.len(), "all are back");
    }
}

#[tokio::test(start_paused = true)]
async fn new_volumes_are_looked_up_soon_after_an_outage() {
    let mut node = VirtualNode::with_volumes(&["a", "b", "c"]).await;
    fail_all(&node.server, &Fault::Close);
    let mut mounts = mounted_by_app(&["a", "b", "c"]);
    mounts.push(("pending", "new"));
    node.mount(&mounts);
    pass(3 * REFRESH).await;
    node.server.put(["pending", "later"].iter().flat_map(|name| bound(name, "first")));
    node.server.put([pod("new", &["pending", "later"])]);
    node.server.lock().faults.clear();
    while node.success(PODS) != Some(true) && node.tiers("pending", "new") == "?" {
        pass(SECOND / 10).await;
    }
    pass(SECOND).await;
    assert_eq!(node.tiers("pending", "new"), "first first", "soon after the watch is back");
    pass(10 * MINUTE).await;
    mounts.push(("later", "new"));
    node.mount(&mounts);
    pass(SECOND).await;
    assert_eq!(node.tiers("later", "new"), "first first");
}

#[tokio::test(start_paused = true)]
async fn status_is_the_last_failure_until_the_server_is_reached() {
    let message = format!("etcdserver: no leader{}", "!".repeat(1000));
    let event = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": message}});
    for (fault, expected) in [
        (Fault::Close, "cannot connect: ".to_owned()),
        // Messages are truncated.
        (Fault::Body(format!("{event}\n")), format!("HTTP status 500: {}", &message[..300])),
    ] {
        let server = Server::new();
        server.fault(PODS, fault, usize::MAX);
        let node = VirtualNode::start(&server, &[]);
        let failure = node.status.wait_until_reached(30 * SECOND).await.unwrap_err().unwrap();
        assert!(failure.to_string().starts_with(&expected) && failure.to_string().len() < 340, "{failure}");
        server.lock().faults.clear();
        assert!(node.status.wait_until_reached(4 * MINUTE).await.is_ok());
    }
}
