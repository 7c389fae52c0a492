use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::apiserver::{CLAIMS, Fault, PODS, PVS};
use crate::support::cluster::{Cluster, requests, success, volumes};
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::POD;
use crate::support::objects::{claim, claim_of, pod, pv};

const FAILED: &str = "kubernetes_request_failed";

/// Volumes of the node.
const NAMES: [&str; 3] = ["pv-1", "pv-2", "pv-3"];

#[test]
fn manifest_grants_exactly_the_requests_that_are_made() {
    // Every kind of request is among these, as the other tests prove.
    let cluster = Cluster::of(&["pv-1", "gone"]);
    cluster.server.remove([pv("gone", "", "")]);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    cluster.server.wait_for_open_watch();
    let requests = cluster.server.requests();
    assert!(requests.iter().all(|request| request.authorization.as_deref() == Some("Bearer good")));
    let rule =
        |resource, verb| json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]}).to_string();
    let made: BTreeSet<_> = requests.iter().map(|request| rule(request.resource, request.verb)).collect();
    let rbac: Vec<Value> = serde_saphyr::from_multiple(include_str!("../manifests/base/rbac.yaml")).unwrap();
    let rules = rbac.iter().find(|object| object["kind"] == "ClusterRole").unwrap()["rules"].clone();
    let granted: BTreeSet<_> = rules.as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(granted, made);
    // Four connections for lookups, and one for the watch.
    assert!(cluster.server.lock().handshakes <= 5, "{:?}", cluster.server.lock().handshakes);
    let daemonset = include_str!("../manifests/base/daemonset.yaml");
    assert!(!daemonset.contains("automountServiceAccountToken: false"));
}

#[test]
fn no_requests_are_made_without_the_api() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = cluster.start(&["--kubernetes=off"]);
    exporter.wait_until_ready();
    assert_eq!(exporter.scrape().label("pv_disk_usage_up", "volume_name"), ["pv-1"]);
    assert!(cluster.server.requests().is_empty());
}

/// The label sets of a volume's `up`, empty while it is not shown.
fn shown(scrape: &Exposition, pv_name: &str) -> Vec<Labels> {
    let series = scrape.all("pv_disk_usage_up", &[("pv_name", pv_name)]);
    series.into_iter().map(|(labels, _)| labels.clone()).collect()
}

#[test]
fn first_sample_has_its_final_labels() {
    let mut cluster = Cluster::of(&["pv-1"]);
    let go = Arc::new(Notify::new());
    for resource in [PVS, CLAIMS] {
        cluster.server.fault(resource, Fault::Wait(Arc::clone(&go)), 1);
    }
    let exporter = cluster.start(&[]);
    // The volume waits for its object, and then for its claim.
    for resource in [PVS, CLAIMS] {
        cluster
            .server
            .wait_for(resource, |requests| requests.iter().any(|request| request.resource == resource));
        let scrape = exporter.scrape();
        assert_eq!((shown(&scrape, "pv-1").len(), volumes(&scrape, "pending")), (0, 1.0));
        assert_eq!(exporter.get("/readyz").status, 503);
        go.notify_one();
    }
    let scrape = exporter.scrape_until("pv-1", |scrape| !shown(scrape, "pv-1").is_empty());
    let labels = shown(&scrape, "pv-1");
    assert_eq!(scrape.label("pv_disk_usage_up", "pvc_tier"), ["first"]);
    exporter.wait_until_ready();
    // The same when the program has long been ready; here its pod is what is waited for.
    cluster.server.put([pv("pv-2", &claim_of("pv-2"), "first"), claim(&claim_of("pv-2"), "first")]);
    cluster.mount_only(&[("pv-1", POD), ("pv-2", "uid-later")]);
    let scrape = exporter.scrape();
    assert_eq!((shown(&scrape, "pv-2").len(), volumes(&scrape, "pending")), (0, 1.0));
    assert_eq!(shown(&scrape, "pv-1"), labels, "the others are shown as before");
    assert_eq!(exporter.get("/readyz").status, 200, "never unready again");
    cluster.server.put([pod("uid-later", &[])]);
    let scrape = exporter.scrape_until("pv-2", |scrape| !shown(scrape, "pv-2").is_empty());
    assert!(scrape.value("pv_disk_usage_up", &[("pv_name", "pv-2"), ("pvc_name", "pv-2-claim")]).is_some());
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    let pod = [("pv_name", "pv-2"), ("pod_name", "name-of-uid-later")];
    assert!(scrape.value("pv_disk_usage_mount_info", &pod).is_some());
}

#[test]
fn outage_loses_no_labels() {
    let cluster = Cluster::of(&NAMES);
    let exporter = cluster.start(&["--label-refresh=1s"]);
    exporter.wait_until_ready();
    cluster.server.wait_for_open_watch();
    let labels = |scrape: &Exposition| NAMES.map(|name| shown(scrape, name));
    let age = |scrape: &Exposition| scrape.value("disk_usage_exporter_metadata_age_seconds", &[]).unwrap();
    let before = labels(&exporter.scrape());
    cluster.server.stop();
    let scrape = exporter.scrape_until("the outage", |scrape| {
        [PODS, PVS].map(|resource| success(scrape, resource)) == [Some(0.0); 2]
    });
    let young = age(&scrape);
    let scrape = exporter.scrape_until("older and older", |scrape| age(scrape) > young + 1.0);
    assert_eq!(labels(&scrape), before);
    assert_eq!(exporter.get("/readyz").status, 200, "what was ready stays ready");
    assert_eq!(exporter.logged(FAILED).len(), exporter.logged_resources(FAILED).len(), "once each");
    cluster.server.put([pv("pv-1", &claim_of("pv-1"), "gold")]);
    cluster.server.resume();
    exporter.scrape_until("recovery", |scrape| {
        [PODS, PVS, CLAIMS].map(|resource| success(scrape, resource)) == [Some(1.0); 3]
            && scrape.label("pv_disk_usage_up", "pv_tier").contains(&"gold")
    });
    exporter.wait_for_log("kubernetes_recovered");
}

#[test]
fn scrapes_do_not_wait_for_the_server() {
    let cluster = Cluster::of(&NAMES);
    cluster.server.mute();
    let exporter = cluster.start(&[]);
    // More than a client waits for, if each waited for one request.
    for _ in 0..20 {
        exporter.scrape();
    }
    assert_eq!(exporter.get("/healthz").status, 200);
    assert_eq!(exporter.get("/readyz").status, 503, "the labels may still come");
    // Without volumes it does not wait for labels.
    let other = Cluster::of(&[]);
    other.server.mute();
    let empty = other.start(&[]);
    empty.wait_until_ready();
    assert_eq!(requests(&empty.scrape(), PODS, "watch", "timeout"), 0.0, "before that");
    // After a while the volumes are shown without labels, and the program is ready.
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!(scrape.label("pv_disk_usage_up", "volume_name"), NAMES);
    assert!(requests(&scrape, PODS, "watch", "timeout") >= 1.0);
}

#[test]
fn missing_permissions_are_logged_once_each() {
    let cluster = Cluster::of(&NAMES);
    for resource in [PVS, PODS] {
        cluster.server.fault(resource, Fault::Status(403), usize::MAX);
    }
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "volume_name"), NAMES, "an answer: nothing is held back");
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!([PVS, PODS].map(|resource| success(&scrape, resource)), [Some(0.0); 2]);
    assert_eq!(requests(&scrape, PVS, "get", "403"), 3.0);
    let logged = exporter.logged("kubernetes_forbidden");
    let mut rules: Vec<_> = logged.iter().map(|line| [&line["verb"], &line["resource"]]).collect();
    rules.sort_by_key(|rule| rule[0].to_string());
    assert_eq!(rules, [["get", PVS], ["watch", PODS]]);
    assert!(logged.iter().all(|line| line["error"].as_str().unwrap().contains("is forbidden")), "{logged:?}");
}

#[test]
fn migrated_inline_volume_is_no_persistent_volume() {
    let mut cluster = Cluster::of(&["pv-1"]);
    // The kubelet makes up its name: no object has it.
    cluster.table.mount_csi("ebs.csi.aws.com-vol-1", POD);
    let mut owner = pod(POD, &[]);
    owner["spec"]["volumes"] = json!([{"name": "data", "awsElasticBlockStore": {"volumeID": "vol-1"}}]);
    // This one's object was deleted, and its pod has no such volume.
    cluster.table.mount_csi("deleted", "uid-2");
    cluster.table.write();
    cluster.server.put([owner, pod("uid-2", &["x"])]);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    assert_eq!(exporter.scrape().label("pv_disk_usage_up", "pv_name"), ["deleted", "pv-1"]);
}
