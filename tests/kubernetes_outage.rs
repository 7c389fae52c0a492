use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::apiserver::{Fault, Recorded, Resource, Verb, of};
use crate::support::cluster::{Cluster, claim_of, pv, relabel, requests, success, volumes};
use crate::support::exporter::Exporter;
use crate::support::exposition::{Exposition, Labels};

const FAILED: &str = "the API server cannot be asked; what is known stays in use, and it is tried again";

/// Volumes of the node.
const NAMES: [&str; 3] = ["pv-1", "pv-2", "pv-3"];

/// Every label set of a volume.
fn label_sets(scrape: &Exposition) -> BTreeSet<Labels> {
    let of_volumes = scrape.samples.iter().filter(|(name, _, _)| name.starts_with("pv_disk_usage_"));
    of_volumes.filter(|(name, _, _)| !name.contains("timing")).map(|(_, labels, _)| labels.clone()).collect()
}

fn age(scrape: &Exposition) -> f64 {
    scrape.value("disk_usage_exporter_metadata_age_seconds", &[]).unwrap()
}

/// A cluster that is asked all the time.
fn settled() -> (Cluster, Exporter) {
    let cluster = Cluster::of(&NAMES);
    let exporter = cluster.start(&["--label-refresh=1s"]);
    exporter.wait_until_ready();
    cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    (cluster, exporter)
}

/// While the server is so, scrapes go on as before, and the labels stay; afterwards they are current.
fn outage(what: &str, begin: impl Fn(&Cluster), end: impl Fn(&Cluster)) {
    let (cluster, exporter) = settled();
    let before = label_sets(&exporter.scrape());
    assert_eq!(before.len(), 3 * 5, "{before:?}");
    begin(&cluster);
    let scrape = exporter.scrape_until(what, |scrape| {
        success(scrape, Resource::Pods) == Some(0.0)
            && success(scrape, Resource::PersistentVolumes) == Some(0.0)
    });
    assert_eq!(label_sets(&scrape), before, "{what}");
    // Older and older, and nobody waits for it.
    let young = age(&scrape);
    let scrape = exporter.scrape_until(what, |scrape| age(scrape) > young + 1.0);
    assert_eq!(label_sets(&scrape), before, "{what}");
    assert_eq!(exporter.logged(FAILED).len(), exporter.logged_resources(FAILED).len(), "once each: {what}");
    relabel(&cluster, pv("pv-1"), "gold");
    let asked_before = cluster.server.requests().len();
    end(&cluster);
    let scrape = exporter.scrape_until(what, |scrape| {
        let sources = [Resource::Pods, Resource::PersistentVolumes, Resource::PersistentVolumeClaims];
        let all = sources.into_iter().all(|source| success(scrape, source) == Some(1.0));
        all && !scrape.all("pv_disk_usage_up", &[("pv_tier", "gold")]).is_empty()
    });
    assert!(volumes(&scrape, "pending") == 0.0, "{what}");
    exporter.wait_for_log("the API server answers again");
    let asked = cluster.server.requests();
    let gets: Vec<&Recorded> =
        asked[asked_before..].iter().filter(|request| request.verb == Verb::Get).collect();
    let most = gets.iter().map(|request| request.in_flight).max();
    assert!(most <= Some(2), "{what}: one besides a list, not {most:?}");
    // Two a second, but for how late a busy machine lets the first arrive; the same one may be asked for twice.
    let different = gets.windows(2).filter(|pair| pair[0].brief() != pair[1].brief()).count();
    if let (Some(first), Some(last)) = (gets.first(), gets.last()) {
        let least = Duration::from_millis(450) * u32::try_from(different.saturating_sub(1)).unwrap();
        assert!(last.at - first.at >= least, "no burst: {what}: {:?}", last.at - first.at);
    }
}

#[test]
fn a_server_that_is_gone_costs_no_labels() {
    outage("refusing", |cluster| cluster.server.stop(), |cluster| cluster.server.resume());
}

#[test]
fn a_server_that_hangs_costs_no_labels() {
    outage("mute", |cluster| cluster.server.mute(), |cluster| cluster.server.resume());
}

/// Everything goes wrong in this way, and open watches end.
fn all_wrong(cluster: &Cluster, fault: &Fault) {
    for (verb, resource) in [
        (Verb::List, Resource::Pods),
        (Verb::Watch, Resource::Pods),
        (Verb::Get, Resource::PersistentVolumes),
        (Verb::Get, Resource::PersistentVolumeClaims),
    ] {
        // A watch has no whole of which there could be half.
        let is_whole = verb != Verb::Watch || matches!(fault, Fault::Body(_) | Fault::Status(..));
        let fault = if is_whole { fault.clone() } else { Fault::Close };
        cluster.server.fault(of(verb, resource), fault, usize::MAX);
    }
    cluster.server.end_watches();
}

#[test]
fn a_server_that_answers_garbage_costs_no_labels() {
    for fault in [
        Fault::Body("<html>it works!</html>".into()),
        Fault::Body("{}".into()),
        Fault::Body(json!({"kind": "Status", "status": "Success"}).to_string()),
        Fault::Status(500, None),
    ] {
        let what = format!("{fault:?}");
        outage(&what, |cluster| all_wrong(cluster, &fault), |cluster| cluster.server.clear_faults());
    }
}

#[test]
fn a_server_without_end_costs_no_labels() {
    for fault in [Fault::Half, Fault::HalfThenSilence, Fault::Endless] {
        let what = format!("{fault:?}");
        outage(&what, |cluster| all_wrong(cluster, &fault), |cluster| cluster.server.clear_faults());
    }
}

#[test]
fn scrapes_do_not_wait_for_the_server() {
    let cluster = Cluster::of(&NAMES);
    cluster.server.mute();
    let exporter = cluster.start(&[]);
    let started = Instant::now();
    for _ in 0..20 {
        exporter.scrape();
    }
    // Far less than the 5 s that one request may take; 20 scrapes take some 20 ms.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(exporter.get("/healthz").status, 200);
    assert_eq!(exporter.get("/readyz").status, 503, "the labels may still come");
    // After a while the volumes are shown without, and the program is ready.
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!(scrape.label("pv_disk_usage_up", "volume_name"), NAMES);
    assert!(requests(&scrape, Resource::Pods, "list", "timeout") >= 1.0);
}

#[test]
fn what_was_ready_stays_ready() {
    let (cluster, exporter) = settled();
    cluster.server.stop();
    exporter.scrape_until("the outage is seen", |scrape| success(scrape, Resource::Pods) == Some(0.0));
    assert_eq!(exporter.get("/readyz").status, 200);
}

#[test]
fn one_object_that_cannot_be_read_costs_itself() {
    let mut cluster = Cluster::of(&NAMES);
    let bad = [
        ("bad-status", Fault::Status(500, None)),
        ("bad-json", Fault::Body("{".into())),
        ("bad-name", Fault::Body(pv("pv-1").to_string())),
        ("bad-silence", Fault::HalfThenSilence),
    ];
    for (name, fault) in &bad {
        cluster.add(name);
        cluster.server.fault(
            of(Verb::Get, Resource::PersistentVolumes).named(name),
            fault.clone(),
            usize::MAX,
        );
    }
    let exporter = cluster.start(&[]);
    let scrape = exporter.scrape_until("the others are shown", |scrape| {
        scrape.label("pv_disk_usage_up", "pvc_name") == NAMES.map(claim_of)
    });
    assert_eq!(volumes(&scrape, "pending"), 4.0);
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!(scrape.all("pv_disk_usage_up", &[]).len(), 7);
    assert_eq!(success(&scrape, Resource::PersistentVolumes), Some(0.0));
    assert_eq!(success(&scrape, Resource::PersistentVolumeClaims), Some(1.0));
    // Once they can be read they have their labels, too.
    cluster.server.clear_faults();
    exporter.scrape_until("all labels", |scrape| scrape.all("pv_disk_usage_volume_info", &[]).len() == 7);
    exporter.scrape_until("all labels", |scrape| scrape.label("pv_disk_usage_up", "pvc_name").len() == 7);
}

#[test]
fn forbidden_is_said_once_with_the_missing_rule() {
    let cluster = Cluster::of(&NAMES);
    cluster.server.forbid(Verb::Get, Resource::PersistentVolumes);
    cluster.server.forbid(Verb::List, Resource::Pods);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "volume_name"), NAMES, "an answer: nothing is held back");
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!(success(&scrape, Resource::PersistentVolumes), Some(0.0));
    assert_eq!(success(&scrape, Resource::Pods), Some(0.0));
    assert_eq!(requests(&scrape, Resource::PersistentVolumes, "get", "403"), 3.0);
    let said = exporter.logged(
        "the API server forbids it: give the service account `get on persistentvolumes`, as manifests/base/rbac.yaml does; going on without",
    );
    assert_eq!(said.len(), 1);
    assert!(said[0]["failure"].as_str().unwrap().contains("cannot get resource"), "{said:?}");
    let said = exporter.logged(
        "the API server forbids it: give the service account `list and watch on pods`, as manifests/base/rbac.yaml does; going on without",
    );
    assert_eq!(said.len(), 1);
}
