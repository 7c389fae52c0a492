use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::apiserver::{ApiServer, Fault, Resource, Verb, of};
use crate::support::cluster::{Cluster, NODE, pod, pv, relabel, requests, success, volumes};
use crate::support::exporter::run;
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::POD;

const FAILED: &str = "kubernetes_request_failed";

/// Volumes of the node.
const NAMES: [&str; 3] = ["pv-1", "pv-2", "pv-3"];

#[test]
fn what_may_be_asked_is_what_the_manifest_grants() {
    // Every kind of request is among these, as the other tests hold: the program knows no others.
    let cluster = Cluster::of(&["pv-1", "gone"]);
    cluster.server.remove(Resource::PersistentVolumes, "", "gone");
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    let asked: BTreeSet<(String, String)> = cluster
        .server
        .requests()
        .iter()
        .map(|request| {
            let resource = request.resource.unwrap_or_else(|| panic!("{request:?}"));
            assert_eq!(request.authorization.as_deref(), Some("Bearer good"));
            (resource.name().to_owned(), request.verb.name().to_owned())
        })
        .collect();
    assert_eq!(granted(), asked);
    // Four for lookups, and one for the watch.
    assert!(cluster.server.counts().handshakes <= 5, "{:?}", cluster.server.counts());
    // It is granted to who runs.
    let account = "kind: ServiceAccount\n    name: disk-usage-exporter\n    namespace: disk-usage-exporter\n";
    assert!(read("manifests/base/rbac.yaml").contains(account));
    let daemonset = read("manifests/base/daemonset.yaml");
    assert!(daemonset.contains("serviceAccountName: disk-usage-exporter\n"));
    assert!(
        daemonset.contains("name: NODE_NAME\n") && !daemonset.contains("automountServiceAccountToken: false")
    );
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Resources and verbs of `manifests/base/rbac.yaml`.
fn granted() -> BTreeSet<(String, String)> {
    let text = read("manifests/base/rbac.yaml");
    let rules = text.split("\nrules:\n").nth(1).unwrap().split("\n---").next().unwrap();
    let values = |line: &str| -> Vec<String> {
        let list = line.split_once('[').unwrap().1.trim_end_matches(']');
        list.split(',').map(|value| value.trim().trim_matches('"').to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for rule in rules.split("- apiGroups: ").skip(1) {
        let mut lines = rule.lines().map(str::trim);
        assert_eq!(lines.next(), Some("[\"\"]"), "{rule}");
        let fields: BTreeMap<&str, Vec<String>> = lines
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| (line.split(':').next().unwrap(), values(line)))
            .collect();
        assert_eq!(fields.keys().copied().collect::<Vec<_>>(), ["resources", "verbs"]);
        for resource in &fields["resources"] {
            granted.extend(fields["verbs"].iter().map(|verb| (resource.clone(), verb.clone())));
        }
    }
    granted
}

/// All series of volumes, whatever their figures.
fn series_of_volumes(text: &[u8]) -> BTreeMap<String, Vec<Labels>> {
    let exposition = Exposition::parse(std::str::from_utf8(text).unwrap());
    let mut series: BTreeMap<String, Vec<Labels>> = BTreeMap::new();
    for (name, labels, _) in exposition.samples {
        if name.starts_with("pv_disk_usage_") {
            series.entry(name).or_default().push(labels);
        }
    }
    series
}

#[test]
fn the_api_tells_what_a_file_of_the_same_objects_tells() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nodes/csi");
    let text = std::fs::read_to_string(fixture.join("objects.json")).unwrap();
    let objects: Value = serde_json::from_str(&text).unwrap();
    let server = ApiServer::start();
    let mut items = objects["items"].as_array().unwrap().clone();
    // Its pods are those of a moment before the mount table's: one was made again meanwhile.
    items.push(pod("web-1", "e33700e9-99eb-4394-b27f-2ddda8ce417d", NODE));
    server.put_all(items.clone());
    let file = server.write("objects.json", &json!({"kind": "List", "items": items}).to_string());
    let table = format!("--mount-table={}", fixture.join("mountinfo").display());
    let common = ["--rootfs=/", &table, "metrics"];
    let by_file = run(&[&common[..], &[&format!("--objects={}", file.display())]].concat());
    let kubeconfig = server.kubeconfig(&json!({"token": "good"}));
    let by_api = run(&[&common[..], &[&kubeconfig, "--node-name=node-1"]].concat());
    let (by_file, by_api) = (series_of_volumes(&by_file.stdout), series_of_volumes(&by_api.stdout));
    assert_eq!(by_api, by_file);
    assert_eq!(by_api["pv_disk_usage_up"].len(), 3);
}

#[test]
fn without_the_api_nothing_is_asked() {
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

fn label<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[test]
fn the_first_sample_has_its_final_labels() {
    let mut cluster = Cluster::of(&["pv-1"]);
    let go = Arc::new(Notify::new());
    for resource in [Resource::PersistentVolumes, Resource::PersistentVolumeClaims] {
        cluster.server.fault(of(Verb::Get, resource), Fault::Wait(Arc::clone(&go)), 1);
    }
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
    let scrape = exporter.scrape_until("it is shown", |scrape| !shown(scrape, "pv-1").is_empty());
    let labels = shown(&scrape, "pv-1");
    assert_eq!(label(&labels[0], "pvc_example_com_pvc_0"), Some("value-0"));
    exporter.wait_until_ready();
    // The same when the program has long been ready; here its pod is what is waited for.
    cluster.put("pv-2");
    cluster.mount_by("pv-2", "uid-later");
    let scrape = exporter.scrape();
    assert_eq!((shown(&scrape, "pv-2").len(), volumes(&scrape, "pending")), (0, 1.0));
    assert_eq!(shown(&scrape, "pv-1"), labels, "the others are shown as before");
    assert_eq!(exporter.get("/readyz").status, 200, "never unready again");
    cluster.server.put(pod("later", "uid-later", NODE));
    let scrape = exporter.scrape_until("it is shown", |scrape| !shown(scrape, "pv-2").is_empty());
    assert_eq!(label(&shown(&scrape, "pv-2")[0], "pvc_name"), Some("pv-2-claim"));
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    let info = scrape.all("pv_disk_usage_mount_info", &[("pv_name", "pv-2")]);
    assert_eq!(label(info[0].0, "pod_name"), Some("later"));
}

/// A volume, its claim and the pod that uses it, all of this name.
fn owner(name: &str, uid: &str) -> [Value; 3] {
    let labels = json!({"owner": name});
    let mut volume = pv("local-1");
    volume["metadata"]["labels"] = labels.clone();
    volume["spec"]["claimRef"] = json!({"namespace": "shop", "name": name});
    let claim = json!({"kind": "PersistentVolumeClaim", "spec": {},
        "metadata": {"namespace": "shop", "name": name, "labels": labels}});
    let mut user = pod(name, uid, NODE);
    user["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": name}}]);
    [volume, claim, user]
}

#[test]
fn a_reused_volume_name_has_the_new_claims_labels_in_its_first_sample() {
    let mut cluster = Cluster::new();
    cluster.put("marker");
    let shows = |name: &'static str| {
        move |scrape: &Exposition| {
            let owners: Vec<_> = ["pv_owner", "pvc_owner", "pvc_name"]
                .map(|label| scrape.label("pv_disk_usage_up", label))
                .concat();
            assert!(owners.is_empty() || owners == [name; 3], "{owners:?}");
            !owners.is_empty()
        }
    };
    cluster.server.put_all(owner("alpha", "uid-a"));
    cluster.mount_only_by("local-1", "uid-a");
    let exporter = cluster.start(&[]);
    exporter.scrape_until("the first owner", shows("alpha"));
    for (resource, namespace, name) in [
        (Resource::Pods, "shop", "alpha"),
        (Resource::PersistentVolumeClaims, "shop", "alpha"),
        (Resource::PersistentVolumes, "", "local-1"),
    ] {
        cluster.server.remove(resource, namespace, name);
    }
    cluster.server.put_all(owner("beta", "uid-b"));
    // By then the exporter knows the second pod.
    cluster.mount_only_by("marker", "uid-b");
    exporter.scrape_until("the second pod", |scrape| {
        scrape.label("pv_disk_usage_mount_info", "pod_name") == ["beta"]
    });
    cluster.mount_only_by("local-1", "uid-b");
    exporter.scrape_until("the second owner", shows("beta"));
}

#[test]
fn an_outage_costs_no_labels() {
    let cluster = Cluster::of(&NAMES);
    let exporter = cluster.start(&["--label-refresh=1s"]);
    exporter.wait_until_ready();
    cluster.server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    let labels = |scrape: &Exposition| NAMES.map(|name| shown(scrape, name));
    let age = |scrape: &Exposition| scrape.value("disk_usage_exporter_metadata_age_seconds", &[]).unwrap();
    let before = labels(&exporter.scrape());
    cluster.server.stop();
    let scrape = exporter.scrape_until("the outage is seen", |scrape| {
        success(scrape, Resource::Pods) == Some(0.0)
            && success(scrape, Resource::PersistentVolumes) == Some(0.0)
    });
    let young = age(&scrape);
    let scrape = exporter.scrape_until("older and older", |scrape| age(scrape) > young + 1.0);
    assert_eq!(labels(&scrape), before);
    assert_eq!(exporter.get("/readyz").status, 200, "what was ready stays ready");
    assert_eq!(exporter.logged(FAILED).len(), exporter.logged_resources(FAILED).len(), "once each");
    relabel(&cluster, pv("pv-1"), "gold");
    cluster.server.resume();
    exporter.scrape_until("it is back", |scrape| {
        let sources = [Resource::Pods, Resource::PersistentVolumes, Resource::PersistentVolumeClaims];
        let all = sources.into_iter().all(|source| success(scrape, source) == Some(1.0));
        all && !scrape.all("pv_disk_usage_up", &[("pv_tier", "gold")]).is_empty()
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
    // After a while the volumes are shown without, and the program is ready.
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!(scrape.label("pv_disk_usage_up", "volume_name"), NAMES);
    assert!(requests(&scrape, Resource::Pods, "watch", "timeout") >= 1.0);
}

#[test]
fn a_node_without_volumes_is_ready_whatever_the_server_does() {
    let cluster = Cluster::new();
    cluster.server.mute();
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    assert_eq!(requests(&exporter.scrape(), Resource::Pods, "watch", "timeout"), 0.0, "before that");
}

#[test]
fn forbidden_is_said_once_with_the_missing_rule() {
    let cluster = Cluster::of(&NAMES);
    cluster.server.forbid(Verb::Get, Resource::PersistentVolumes);
    cluster.server.forbid(Verb::Watch, Resource::Pods);
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "volume_name"), NAMES, "an answer: nothing is held back");
    assert_eq!(volumes(&scrape, "pending"), 0.0);
    assert_eq!(success(&scrape, Resource::PersistentVolumes), Some(0.0));
    assert_eq!(success(&scrape, Resource::Pods), Some(0.0));
    assert_eq!(requests(&scrape, Resource::PersistentVolumes, "get", "403"), 3.0);
    let forbidden = exporter.logged("kubernetes_forbidden");
    let rules: BTreeSet<_> =
        forbidden.iter().map(|line| (line["verb"].as_str(), line["resource"].as_str())).collect();
    assert_eq!(
        rules,
        BTreeSet::from([("get", "persistentvolumes"), ("watch", "pods")].map(|(a, b)| (Some(a), Some(b))))
    );
    assert_eq!(forbidden.len(), 2, "once each");
    assert!(
        forbidden.iter().all(|line| line["error"].as_str().unwrap().contains("is forbidden")),
        "{forbidden:?}"
    );
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
