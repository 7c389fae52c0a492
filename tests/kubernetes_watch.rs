use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use disk_usage_exporter::cluster::{Access, Api, Selections, Settings};
use disk_usage_exporter::volume::LabelFilter;
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::apiserver::{Fault, Recorded, Resource, Verb, of};
use crate::support::cluster::{Cluster, NODE, pod, requests, success};
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fixture::POD;

/// A serving exporter whose watch is open.
fn watching(cluster: &Cluster) -> Exporter {
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    exporter
}

/// Gives the node's pod another name, which is shown if the watch works.
fn rename(cluster: &Cluster, name: &str) {
    cluster.server.remove(Resource::Pods, "shop", &pod_name(cluster));
    cluster.server.put(pod(name, POD, NODE));
}

fn pod_name(cluster: &Cluster) -> String {
    cluster.server.pod_names().pop().unwrap()
}

fn shows(name: &str) -> impl Fn(&Exposition) -> bool {
    move |scrape| scrape.label("pv_disk_usage_mount_info", "pod_name") == [name]
}

fn asked(requests: &[Recorded], verb: Verb) -> Vec<&Recorded> {
    requests.iter().filter(|request| request.verb == verb).collect()
}

fn versions(requests: &[Recorded]) -> Vec<&str> {
    asked(requests, Verb::Watch).iter().map(|watch| watch.query("resourceVersion").unwrap()).collect()
}

/// Waits for the n-th watch.
fn watches(cluster: &Cluster, count: usize) -> Vec<Recorded> {
    cluster.server.wait_for("another watch", |requests| asked(requests, Verb::Watch).len() == count)
}

#[test]
fn pods_are_followed() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    assert!(shows("app")(&exporter.scrape()));
    rename(&cluster, "renamed");
    exporter.scrape_until("the new name", shows("renamed"));
    // The object is gone, but its volume is mounted still: what is known of it stays.
    cluster.server.remove(Resource::Pods, "shop", "renamed");
    cluster.server.put(pod("other", "uid-other", NODE));
    cluster.server.bookmark();
    let version = cluster.server.version();
    cluster.server.end_watches();
    let asked = watches(&cluster, 2);
    assert_eq!(versions(&asked)[1], version, "the bookmark was read, and so what came before it");
    assert!(shows("renamed")(&exporter.scrape()));
}

#[test]
fn a_watch_that_ended_goes_on_where_the_last_bookmark_was() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    // Something happens elsewhere, and then a bookmark tells how far this node is.
    cluster.put("pv-2");
    cluster.server.bookmark();
    let version = cluster.server.version();
    cluster.server.end_watches();
    let seen = watches(&cluster, 2);
    assert_eq!(versions(&seen)[1], version);
    assert_eq!(asked(&seen, Verb::List).len(), 1);
    rename(&cluster, "renamed");
    exporter.scrape_until("the new name", shows("renamed"));
}

#[test]
fn an_expired_watch_leads_to_one_list() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    cluster.server.bookmark();
    cluster.server.compact();
    cluster.server.end_watches();
    // As an event of the next watch, and once more as a status.
    let seen = watches(&cluster, 3);
    assert_eq!(asked(&seen, Verb::List).len(), 2);
    rename(&cluster, "renamed");
    exporter.scrape_until("the new name", shows("renamed"));
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(410, None), 1);
    cluster.server.bookmark();
    cluster.server.end_watches();
    let seen = watches(&cluster, 5);
    assert_eq!(asked(&seen, Verb::List).len(), 3);
    assert_eq!(success(&exporter.scrape(), Resource::Pods), Some(1.0));
}

#[test]
fn a_watch_that_expires_again_and_again_is_no_storm() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(410, None), 4);
    let exporter = cluster.start(&[]);
    let seen = watches(&cluster, 5);
    let lists: Vec<Instant> = asked(&seen, Verb::List).iter().map(|list| list.at).collect();
    assert_eq!(lists.len(), 5);
    // At once the first time, and then ever later.
    for (between, least) in lists[1..].windows(2).zip([250, 500, 1000]) {
        assert!(between[1] - between[0] >= Duration::from_millis(least), "{lists:?}");
    }
    drop(exporter);
}

#[test]
fn a_watch_that_ends_at_once_is_no_storm() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Body(String::new()), 4);
    let exporter = cluster.start(&[]);
    let seen = watches(&cluster, 4);
    let times: Vec<Instant> = asked(&seen, Verb::Watch).iter().map(|watch| watch.at).collect();
    for (between, least) in times.windows(2).zip([250, 500, 1000]) {
        assert!(between[1] - between[0] >= Duration::from_millis(least), "{times:?}");
    }
    assert_eq!(success(&exporter.scrape(), Resource::Pods), Some(0.0));
}

#[test]
fn a_watch_that_tells_the_same_each_time_and_ends_is_no_storm() {
    let cluster = Cluster::of(&["pv-1"]);
    let version = cluster.server.version();
    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}});
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Body(format!("{bookmark}\n")), 4);
    let _exporter = cluster.start(&[]);
    let seen = watches(&cluster, 4);
    let times: Vec<Instant> = asked(&seen, Verb::Watch).iter().map(|watch| watch.at).collect();
    for (between, least) in times.windows(2).zip([250, 500, 1000]) {
        assert!(between[1] - between[0] >= Duration::from_millis(least), "{times:?}");
    }
}

#[test]
fn an_expired_watch_after_an_outage_leads_to_a_list_at_once() {
    let cluster = Cluster::of(&["pv-1"]);
    for status in [500, 500, 500, 410] {
        cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(status, None), 1);
    }
    let _exporter = cluster.start(&[]);
    let seen = watches(&cluster, 5);
    let (expired, list) = (asked(&seen, Verb::Watch)[3].at, asked(&seen, Verb::List)[1].at);
    assert!(list - expired < Duration::from_secs(1), "{:?}", list - expired);
}

#[test]
fn where_no_watch_can_be_had_pods_are_listed_now_and_then() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(500, None), usize::MAX);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    rename(&cluster, "renamed");
    exporter.scrape_until("the new name", shows("renamed"));
    // The watches are tried with pauses that grow, and not more often for the lists between them.
    let requests = cluster.server.requests();
    let (lists, watches) = (asked(&requests, Verb::List).len(), asked(&requests, Verb::Watch).len());
    assert_eq!((lists, watches >= 4), (2, true), "{lists} lists, {watches} watches");
}

#[test]
fn a_watch_that_broke_after_a_while_begins_anew_soon() {
    let cluster = Cluster::of(&["pv-1"]);
    // What went wrong before it was open counts no more.
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Status(500, None), 3);
    let exporter = cluster.start(&[]);
    watches(&cluster, 4);
    exporter.scrape_until("it stays open", |scrape| success(scrape, Resource::Pods) == Some(1.0));
    let broken = Instant::now();
    cluster.server.stop();
    cluster.server.resume();
    let seen = watches(&cluster, 5);
    let after = asked(&seen, Verb::Watch)[4].at - broken;
    assert!(after < Duration::from_secs(2), "{after:?}");
}

#[test]
fn events_that_make_no_sense_cost_themselves() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    let huge = [vec![b'x'; 9 << 20], b"\n".to_vec()].concat();
    let nonsense = [
        b"\n\nhello\n".to_vec(),
        b"{\"type\":\"ADDED\"}\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":7}}}\n".to_vec(),
        b"{\"type\":\"MOVED\",\"object\":{}}\nnull\n[]\n".to_vec(),
        huge,
    ];
    for bytes in nonsense {
        cluster.server.tell_watches(bytes);
    }
    rename(&cluster, "renamed");
    let scrape = exporter.scrape_until("the new name", shows("renamed"));
    assert_eq!(asked(&cluster.server.requests(), Verb::Watch).len(), 1, "the same watch");
    assert_eq!(requests(&scrape, Resource::Pods, "watch", "decode"), 7.0);
    assert_eq!(exporter.logged("passed over events of the watch of pods").len(), 1, "said once a watch");
    assert_eq!(success(&scrape, Resource::Pods), Some(1.0));
}

#[test]
fn an_error_of_a_watch_is_tried_again_later() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    let status = json!({"kind": "Status", "code": 500, "message": "etcdserver: no leader"});
    cluster.server.tell_watches(format!("{}\n", json!({"type": "ERROR", "object": status})));
    let seen = watches(&cluster, 2);
    assert_eq!(asked(&seen, Verb::List).len(), 1);
    rename(&cluster, "renamed");
    let scrape = exporter.scrape_until("the new name", shows("renamed"));
    assert_eq!(requests(&scrape, Resource::Pods, "watch", "500"), 1.0);
    let warned =
        exporter.logged("the API server cannot be asked; what is known stays in use, and it is tried again");
    assert_eq!(warned.len(), 1);
    assert!(warned[0]["failure"].as_str().unwrap().contains("no leader"), "{warned:?}");
}

#[test]
fn a_broken_watch_is_noticed() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    cluster.server.stop();
    cluster.server.resume();
    watches(&cluster, 2);
    rename(&cluster, "renamed");
    let scrape = exporter.scrape_until("the new name", shows("renamed"));
    assert_eq!(success(&scrape, Resource::Pods), Some(1.0));
}

/// The part of the program that asks, with watches of so many seconds.
fn api(cluster: &Cluster, watch_time: RangeInclusive<u32>) -> Api {
    let kubeconfig = cluster.server.kubeconfig(&json!({"token": "good"}));
    let path = kubeconfig.strip_prefix("--kubeconfig=").unwrap();
    let all: LabelFilter = "*".parse().unwrap();
    Api::start(Settings {
        access: Access::find(Some(path)).unwrap(),
        node_name: Some(NODE.into()),
        label_refresh: Duration::from_hours(1),
        watch_time,
        selections: Selections { pv_labels: all.clone(), pvc_labels: all },
    })
    .unwrap()
}

#[test]
fn a_watch_that_outlives_its_own_time_is_given_up() {
    let cluster = Cluster::new();
    // It takes the request, and nothing ever comes of it, as from a server that is gone without a word.
    cluster.server.fault(of(Verb::Watch, Resource::Pods), Fault::Silence, 1);
    let api = api(&cluster, 1..=1);
    watches(&cluster, 2);
    cluster.server.put(pod("later", "uid-later", NODE));
    let start = Instant::now();
    while !api.metadata(&[]).pods.contains_key("uid-later") {
        assert!(start.elapsed() < PATIENCE, "{:?}", api.status());
        std::thread::sleep(Duration::from_millis(10));
    }
    let counted = api.status().requests;
    assert!(counted.contains(&("pods", "watch", "timeout".into(), 1)), "{counted:?}");
}

#[test]
fn watches_end_at_different_times() {
    let cluster = Cluster::new();
    let _api = api(&cluster, 60..=290);
    cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    for count in 2..6 {
        cluster.put("pv-1");
        cluster.server.bookmark();
        cluster.server.end_watches();
        watches(&cluster, count);
        cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    }
    let seen = cluster.server.requests();
    let mut times: Vec<&str> =
        asked(&seen, Verb::Watch).iter().map(|watch| watch.query("timeoutSeconds").unwrap()).collect();
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 2, "{times:?}");
}

#[test]
fn a_list_that_breaks_off_lies_or_never_ends_is_tried_again() {
    let faults: [(Fault, &str); 6] = [
        (Fault::Close, "connect"),
        (Fault::Half, "connect"),
        (Fault::Status(500, None), "500"),
        (Fault::Body("{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"1\"}}".into()), "decode"),
        (Fault::Body("<html>".into()), "decode"),
        (Fault::Hang, "timeout"),
    ];
    let clusters: Vec<(Cluster, Exporter, &str)> = faults
        .into_iter()
        .map(|(fault, code)| {
            let cluster = Cluster::of(&["pv-1"]);
            cluster.server.fault(of(Verb::List, Resource::Pods), fault, 1);
            let exporter = cluster.start(&[]);
            (cluster, exporter, code)
        })
        .collect();
    for (cluster, exporter, code) in &clusters {
        watches(cluster, 1);
        let scrape = exporter.scrape_until("the pod's name", shows("app"));
        assert_eq!(requests(&scrape, Resource::Pods, "list", code), 1.0, "{code}");
    }
}

#[test]
fn what_is_asked_for_a_pause_is_obeyed() {
    let cluster = Cluster::of(&["pv-1"]);
    for status in [429, 503] {
        cluster.server.fault(of(Verb::List, Resource::Pods), Fault::Status(status, Some(2)), 1);
    }
    let _exporter = cluster.start(&[]);
    let seen = watches(&cluster, 1);
    let lists: Vec<Instant> = asked(&seen, Verb::List).iter().map(|list| list.at).collect();
    assert_eq!(lists.len(), 3);
    assert!(lists.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(2)), "{lists:?}");
}

#[test]
fn a_pod_is_told_by_its_uid_not_by_its_name() {
    let mut cluster = Cluster::of(&["pv-1"]);
    let exporter = watching(&cluster);
    // A StatefulSet makes its pod again: the same name, another uid, and the old volume is not unmounted yet.
    cluster.server.remove(Resource::Pods, "shop", "app");
    cluster.server.put(pod("app", "11111111-1111-1111-1111-111111111111", NODE));
    cluster.mount_by("pv-1", "11111111-1111-1111-1111-111111111111");
    let scrape = exporter.scrape_until("both", |scrape| {
        scrape.label("pv_disk_usage_mount_info", "pod_name") == ["app", "app"]
    });
    let uids = scrape.label("pv_disk_usage_mount_info", "pod_uid");
    assert_eq!(uids, [POD, "11111111-1111-1111-1111-111111111111"]);
}

#[test]
fn a_static_pod_is_known_by_the_hash_in_its_annotations() {
    const HASH: &str = "0123456789abcdef0123456789abcdef";
    let mut cluster = Cluster::of(&["pv-1"]);
    let mut mirror: Value = pod("static", "uid-of-mirror", NODE);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": HASH, "other": "x"});
    cluster.server.put(mirror);
    cluster.mount_only(&[]);
    cluster.mount_by("pv-1", HASH);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    assert!(shows("static")(&exporter.scrape()));
}
