use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::apiserver::{Fault, Resource, Verb, of};
use crate::support::cluster::{Cluster, NODE, claim_of, pod, pv, relabel, requests, volumes};
use crate::support::exporter::Exporter;
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::POD;

/// The label sets of a volume's `up`, empty while it is not shown.
fn shown(scrape: &Exposition, pv_name: &str) -> Vec<Labels> {
    let series = scrape.all("pv_disk_usage_up", &[("pv_name", pv_name)]);
    series.into_iter().map(|(labels, _)| labels.clone()).collect()
}

fn label<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Scrapes until a volume is shown: all that was shown of it until then.
fn first_shown(exporter: &Exporter, pv_name: &str) -> Labels {
    let scrape = exporter.scrape_until("it is shown", |scrape| !shown(scrape, pv_name).is_empty());
    shown(&scrape, pv_name).remove(0)
}

/// A claim's object, of this uid.
fn claim(pv_name: &str, uid: &str, label: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "shop", "name": claim_of(pv_name), "uid": uid, "labels": {"tier": label}},
        "spec": {"resources": {"requests": {"storage": "64Mi"}}}})
}

/// A volume's object, bound to a claim of this uid.
fn bound_to(pv_name: &str, uid: &str) -> Value {
    let mut object = pv(pv_name);
    object["spec"]["claimRef"]["uid"] = json!(uid);
    object
}

#[test]
fn the_first_sample_has_its_final_labels() {
    let mut cluster = Cluster::of(&["pv-1"]);
    let go = Arc::new(Notify::new());
    let hold = |cluster: &Cluster, verb, resource| {
        cluster.server.fault(of(verb, resource), Fault::Wait(Arc::clone(&go)), 1);
    };
    hold(&cluster, Verb::Get, Resource::PersistentVolumes);
    hold(&cluster, Verb::Get, Resource::PersistentVolumeClaims);
    let exporter = cluster.start(&[]);
    // Its object, and then its claim, are waited for.
    for resource in [Resource::PersistentVolumes, Resource::PersistentVolumeClaims] {
        cluster.server.wait_for("it is asked", |requests| {
            requests.iter().any(|request| request.resource == Some(resource))
        });
        let scrape = exporter.scrape();
        assert_eq!((shown(&scrape, "pv-1").len(), volumes(&scrape, "pending")), (0, 1.0));
        assert_eq!(exporter.get("/readyz").status, 503);
        go.notify_one();
    }
    let labels = first_shown(&exporter, "pv-1");
    assert_eq!(label(&labels, "pvc_example_com_pvc_0"), Some("value-0"));
    exporter.wait_until_ready();
    // The same much later, when the program has long been ready; here its pod is what is waited for.
    cluster.put("pv-2");
    cluster.mount_by("pv-2", "uid-later");
    let scrape = exporter.scrape();
    assert_eq!((shown(&scrape, "pv-2").len(), volumes(&scrape, "pending")), (0, 1.0));
    assert_eq!(shown(&scrape, "pv-1"), [labels], "the others are shown as before");
    cluster.server.wait_for("its claim is asked", |requests| {
        requests.last().is_some_and(|request| request.name == claim_of("pv-2"))
    });
    assert_eq!(shown(&exporter.scrape(), "pv-2").len(), 0);
    assert_eq!(exporter.get("/readyz").status, 200, "never unready again");
    cluster.server.put(pod("later", "uid-later", NODE));
    let labels = first_shown(&exporter, "pv-2");
    assert_eq!(label(&labels, "pvc_name"), Some("pv-2-claim"));
    let scrape = exporter.scrape();
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    let info = scrape.all("pv_disk_usage_mount_info", &[("pv_name", "pv-2")]);
    assert_eq!(label(info[0].0, "pod_name"), Some("later"));
}

#[test]
fn a_volume_is_held_back_for_ten_seconds_and_no_longer() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumeClaims), Fault::Hang, usize::MAX);
    let exporter = cluster.start(&[]);
    let started = Instant::now();
    let labels = first_shown(&exporter, "pv-1");
    let held = started.elapsed();
    assert!(held > Duration::from_secs(9) && held < Duration::from_secs(14), "{held:?}");
    // What is known is shown.
    assert_eq!(label(&labels, "pvc_name"), Some("pv-1-claim"));
    assert_eq!(label(&labels, "pv_example_com_pv_0"), Some("value-0"));
    assert_eq!(label(&labels, "pvc_example_com_pvc_0"), None);
}

#[test]
fn what_the_cache_has_not_the_store_may_have() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumes), Fault::NotInCache, 1);
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumeClaims), Fault::NotInCache, 1);
    let exporter = cluster.start(&[]);
    let labels = first_shown(&exporter, "pv-1");
    assert_eq!(label(&labels, "pvc_example_com_pvc_0"), Some("value-0"));
    let asked = cluster.server.requests();
    let gets: Vec<_> = asked.iter().filter(|request| request.verb == Verb::Get).collect();
    let versions: Vec<_> = gets.iter().map(|get| get.query("resourceVersion")).collect();
    assert_eq!(versions, [Some("0"), None, Some("0"), None]);
    let scrape = exporter.scrape();
    assert_eq!(requests(&scrape, Resource::PersistentVolumes, "get", "404"), 1.0);
    assert_eq!(requests(&scrape, Resource::PersistentVolumes, "get", "200"), 1.0);
}

#[test]
fn a_volume_without_an_object_is_shown_bare() {
    let mut cluster = Cluster::new();
    cluster.mount("pv-1");
    let exporter = cluster.start(&[]);
    let labels = first_shown(&exporter, "pv-1");
    assert_eq!(labels, [("pv_name".into(), "pv-1".into()), ("volume_name".into(), "pv-1".into())]);
    let asked = cluster.server.requests();
    assert_eq!(
        asked.iter().filter(|request| request.verb == Verb::Get).count(),
        2,
        "confirmed, and believed"
    );
    assert_eq!(volumes(&exporter.scrape(), "pending"), 0.0);
}

#[test]
fn a_server_that_lags_behind_changes_no_labels() {
    let cluster = Cluster::of(&["pv-1"]);
    relabel(&cluster, pv("pv-1"), "new");
    let exporter = cluster.start(&["--label-refresh=1s"]);
    let labels = first_shown(&exporter, "pv-1");
    assert_eq!(label(&labels, "pv_tier"), Some("new"));
    let mut old = pv("pv-1");
    old["metadata"]["labels"] = json!({"tier": "old"});
    old["metadata"]["uid"] = json!("uid-of-persistentvolumes-pv-1");
    old["metadata"]["resourceVersion"] = json!("1");
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumes), Fault::Body(old.to_string()), 2);
    let refreshes = |count: usize| {
        cluster.server.wait_for("refreshes", |requests| {
            let gets =
                requests.iter().filter(|request| request.resource == Some(Resource::PersistentVolumes));
            gets.count() >= count
        });
    };
    // The answer to the second is taken when the third is asked.
    refreshes(3);
    assert_eq!(shown(&exporter.scrape(), "pv-1"), [labels]);
    // Another object of that name is another thing, however small its version.
    old["metadata"]["uid"] = json!("uid-of-another");
    cluster.server.fault(
        of(Verb::Get, Resource::PersistentVolumes),
        Fault::Body(old.to_string()),
        usize::MAX,
    );
    exporter.scrape_until("the other", |scrape| label(&shown(scrape, "pv-1")[0], "pv_tier") == Some("old"));
}

#[test]
fn what_is_deleted_while_mounted_keeps_its_labels() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = cluster.start(&["--label-refresh=1s"]);
    let labels = first_shown(&exporter, "pv-1");
    cluster.server.remove(Resource::PersistentVolumeClaims, "shop", &claim_of("pv-1"));
    cluster.server.remove(Resource::PersistentVolumes, "", "pv-1");
    exporter.scrape_until("both are gone", |scrape| {
        requests(scrape, Resource::PersistentVolumes, "get", "404") == 2.0
            && requests(scrape, Resource::PersistentVolumeClaims, "get", "404") == 2.0
    });
    assert_eq!(shown(&exporter.scrape(), "pv-1"), [labels]);
}

#[test]
fn a_claim_is_told_by_its_uid_not_by_its_name() {
    let cluster = Cluster::of(&["pv-1"]);
    // The claim that it was bound to is gone, and there is another one of that name.
    cluster.server.put(bound_to("pv-1", "uid-of-the-first"));
    cluster.server.put(claim("pv-1", "uid-of-the-second", "wrong"));
    let exporter = cluster.start(&[]);
    let labels = first_shown(&exporter, "pv-1");
    assert_eq!(label(&labels, "pvc_name"), Some("pv-1-claim"), "its reference names it still");
    assert_eq!(label(&labels, "pvc_tier"), None);
    assert_eq!(exporter.scrape().all("pv_disk_usage_claim_requested_bytes", &[]), []);
}

#[test]
fn a_claim_that_was_made_again_does_not_take_the_old_ones_place() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.put(bound_to("pv-1", "uid-1"));
    cluster.server.put(claim("pv-1", "uid-1", "right"));
    let exporter = cluster.start(&["--label-refresh=1s"]);
    let labels = first_shown(&exporter, "pv-1");
    assert_eq!(label(&labels, "pvc_tier"), Some("right"));
    cluster.server.remove(Resource::PersistentVolumeClaims, "shop", &claim_of("pv-1"));
    cluster.server.put(claim("pv-1", "uid-2", "wrong"));
    let before = cluster.server.requests().len();
    cluster.server.wait_for("it is asked again, and then the volume", |requests| {
        let later = &requests[before..];
        let of_claim =
            later.iter().position(|request| request.resource == Some(Resource::PersistentVolumeClaims));
        of_claim.is_some_and(|at| later.len() > at + 1)
    });
    assert_eq!(shown(&exporter.scrape(), "pv-1"), [labels]);
}

#[test]
fn a_claim_that_was_made_again_is_found_beside_the_old_one() {
    let mut cluster = Cluster::of(&["pv-1"]);
    cluster.server.put(bound_to("pv-1", "uid-1"));
    cluster.server.put(claim("pv-1", "uid-1", "old"));
    let exporter = cluster.start(&[]);
    let old = first_shown(&exporter, "pv-1");
    assert_eq!(label(&old, "pvc_tier"), Some("old"));
    // A StatefulSet's claim is made again for a new volume, while the old one is not unmounted yet.
    cluster.server.remove(Resource::PersistentVolumeClaims, "shop", &claim_of("pv-1"));
    cluster.server.put(claim("pv-1", "uid-2", "new"));
    let mut volume = pv("pv-2");
    volume["spec"]["claimRef"] = json!({"namespace": "shop", "name": claim_of("pv-1"), "uid": "uid-2"});
    cluster.server.put(volume);
    cluster.mount("pv-2");
    let new = first_shown(&exporter, "pv-2");
    assert_eq!(label(&new, "pvc_tier"), Some("new"));
    assert_eq!(shown(&exporter.scrape(), "pv-1"), [old]);
}

#[test]
fn a_cache_that_still_has_the_claim_before_is_not_believed() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.put(bound_to("pv-1", "uid-2"));
    cluster.server.put(claim("pv-1", "uid-2", "new"));
    let before = Fault::Body(claim("pv-1", "uid-1", "old").to_string());
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumeClaims), before, 1);
    let exporter = cluster.start(&[]);
    assert_eq!(label(&first_shown(&exporter, "pv-1"), "pvc_tier"), Some("new"));
}

#[test]
fn an_unbound_volume_and_a_generic_ephemeral_one_are_volumes_like_others() {
    let mut cluster = Cluster::new();
    let mut unbound = pv("unbound");
    unbound["spec"].as_object_mut().unwrap().remove("claimRef");
    cluster.server.put(unbound);
    // The claim of the pod's volume `scratch` is named after both.
    let mut ephemeral = pv("pvc-ephemeral");
    ephemeral["spec"]["claimRef"] = json!({"namespace": "shop", "name": "app-scratch"});
    cluster.server.put(ephemeral);
    cluster.server.put(json!({"kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "shop", "name": "app-scratch", "labels": {"of": "app"}}, "spec": {}}));
    let mut owner = pod("app", POD, NODE);
    owner["spec"]["volumes"] =
        json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]);
    cluster.server.put(owner);
    cluster.mount("unbound");
    cluster.mount("pvc-ephemeral");
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(label(&shown(&scrape, "unbound")[0], "pvc_name"), None);
    assert_eq!(label(&shown(&scrape, "unbound")[0], "volume_instance"), Some("nas:/unbound"));
    assert_eq!(label(&shown(&scrape, "pvc-ephemeral")[0], "pvc_of"), Some("app"));
}

#[test]
fn a_migrated_inline_volume_is_no_persistent_volume() {
    let mut cluster = Cluster::of(&["pv-1"]);
    // The kubelet makes up its name: no object has it.
    let synthetic = "ebs.csi.aws.com-vol-1";
    cluster.mount_csi(synthetic, POD);
    // This one's object was deleted, and its pod has no such volume.
    cluster.mount_csi("deleted", "uid-2");
    let mut owner = pod("app", POD, NODE);
    owner["spec"]["volumes"] = json!([{"name": "data", "awsElasticBlockStore": {"volumeID": "vol-1"}}]);
    cluster.server.put(owner);
    let mut other = pod("other", "uid-2", NODE);
    other["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "x"}}]);
    cluster.server.put(other);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    assert_eq!(exporter.scrape().label("pv_disk_usage_up", "pv_name"), ["deleted", "pv-1"]);
}
