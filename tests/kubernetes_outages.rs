use std::time::Duration;

use serde_json::json;

use crate::support::apiserver::{Fault, Resource, Server, Verb, of};
use crate::support::virtual_node::{
    MINUTE, REFRESH, SECOND, VirtualNode, bound, claim_of, fail_all, pass, pod,
};

const RESOURCES: [Resource; 3] =
    [Resource::Pods, Resource::PersistentVolumes, Resource::PersistentVolumeClaims];

/// All that can go wrong with every answer.
fn faults() -> Vec<Fault> {
    let success = json!({"kind": "Status", "status": "Success"}).to_string();
    let bodies = ["<html>it works!</html>", "{}", &success].map(|body| Fault::Body(body.into()));
    let statuses = [(500, None), (503, None), (429, Some(1)), (401, None)]
        .map(|(code, retry)| Fault::Status(code, retry));
    let broken = [Fault::Close, Fault::Hang, Fault::Half, Fault::HalfThenSilence, Fault::Endless];
    bodies.into_iter().chain(statuses).chain(broken).collect()
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_no_labels_and_at_most_two_requests_a_minute() {
    for fault in faults() {
        let names: Vec<String> = (0..10).map(|number| format!("pv-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut node = VirtualNode::with_volumes(&names).await;
        let before = node.handle.metadata();
        fail_all(&node.server, &fault);
        // New volumes and refreshes are due all the time.
        let rows: Vec<(&str, &str)> =
            names.iter().map(|name| (*name, "app")).chain((0..5).map(|_| ("new", "new"))).collect();
        node.mount(&rows);
        let asked = node.server.requests().len();
        let hours = 4;
        pass(REFRESH * hours).await;
        let requests = node.server.requests();
        let a_minute = f64::from(u32::try_from(requests.len() - asked).unwrap()) / f64::from(60 * hours);
        assert!(a_minute <= 2.0, "{fault:?}: {a_minute} requests a minute");
        assert!(a_minute >= 0.5, "{fault:?}: {a_minute} requests a minute: it is tried");
        let in_flight = requests[asked + 5..].iter().map(|request| request.in_flight).max();
        assert!(in_flight <= Some(1), "{fault:?}: {in_flight:?} at a time");
        let known = node.handle.metadata();
        assert!(names.iter().all(|name| known.volumes[*name] == before.volumes[*name]), "{fault:?}");
        let [pods, pvs, claims] = RESOURCES.map(|of| node.success(of));
        assert_eq!((pvs, claims), (Some(false), Some(true)), "{fault:?}");
        // A watch that is open and silent is one where nothing happens, until its time is over.
        assert!(pods == Some(false) || matches!(fault, Fault::HalfThenSilence), "{fault:?}");
        assert!(known.oldest <= before.oldest, "{fault:?}: older and older");
        node.server.clear_faults();
        node.server
            .put_all(names.iter().flat_map(|name| bound(name, "second")).chain(bound("new", "second")));
        pass(4 * MINUTE).await;
        assert!(names.iter().all(|name| node.tiers(name, "app") == "second second"), "{fault:?}: back again");
        assert_eq!(node.tiers("new", "new"), "second second", "{fault:?}");
        assert_eq!(RESOURCES.map(|of| node.success(of)), [Some(true); 3], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_only_some_answers_fail_a_node_keeps_to_its_two_requests_a_minute() {
    let kinds = [
        (Verb::Get, Resource::PersistentVolumes),
        (Verb::Get, Resource::PersistentVolumeClaims),
        (Verb::Watch, Resource::Pods),
    ];
    for failing in 1..8_usize {
        let server = Server::in_process();
        server.put_all(bound("pv-1", "first").into_iter().chain(bound("pv-2", "first")));
        for (_, (verb, resource)) in kinds.iter().enumerate().filter(|(bit, _)| failing & (1 << bit) != 0) {
            server.fault(of(*verb, *resource), Fault::Status(503, None), usize::MAX);
        }
        let mut node = VirtualNode::start(&server);
        node.mount(&[("pv-1", "app"), ("pv-2", "app")]);
        let hours = 24;
        pass(REFRESH * hours).await;
        let a_minute = f64::from(u32::try_from(server.requests().len()).unwrap()) / f64::from(60 * hours);
        assert!(a_minute <= 2.0, "{failing:b}: {a_minute} requests a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_restarted_does_not_meet_all_nodes_at_once() {
    // It stops, as a rule, by ending its watches; or the connections break, and it is gone for a while.
    for gone_for in [Duration::ZERO, 10 * SECOND, 5 * MINUTE] {
        let server = Server::in_process();
        let nodes: Vec<VirtualNode> = (0..200).map(|_| VirtualNode::start(&server)).collect();
        pass(20 * SECOND).await;
        if gone_for.is_zero() {
            server.end_watches();
        } else {
            fail_all(&server, &Fault::Close);
            pass(gone_for).await;
            server.clear_faults();
        }
        let before = server.requests().len();
        pass(4 * MINUTE).await;
        let back: Vec<_> = server.requests()[before..].iter().map(|request| request.at).collect();
        for window in back.windows(nodes.len() / 4) {
            let time = *window.last().unwrap() - window[0];
            assert!(time >= SECOND, "a quarter of the nodes within {time:?}, after {gone_for:?}");
        }
        assert_eq!(server.counts().watches, nodes.len(), "all are back");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_asked_soon_after_the_watch_is_back() {
    let mut node = VirtualNode::with_volumes(&["pv-1"]).await;
    fail_all(&node.server, &Fault::Close);
    node.mount(&[("pv-1", "app"), ("new", "new")]);
    pass(REFRESH).await;
    node.server.put_all(bound("new", "first").into_iter().chain([pod("new", &[claim_of("new")])]));
    node.server.clear_faults();
    while node.success(Resource::Pods) != Some(true) && node.tiers("new", "new") == "?" {
        pass(SECOND / 10).await;
    }
    pass(SECOND).await;
    assert_eq!(node.tiers("new", "new"), "first first");
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_is_told_until_the_server_is_reached() {
    let server = Server::in_process();
    server.fault(of(Verb::Watch, Resource::Pods), Fault::Close, usize::MAX);
    let node = VirtualNode::start(&server);
    let failure = node.status.wait_until_reached(30 * SECOND).await.unwrap_err().unwrap();
    assert!(failure.to_string().starts_with("cannot connect: "), "{failure}");
    assert!(std::error::Error::source(&failure).is_some());
    server.clear_faults();
    assert!(node.status.wait_until_reached(4 * MINUTE).await.is_ok());
}
