use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::apiserver::{ApiServer, Fault, Recorded, Resource, Verb, of};
use crate::support::cluster::{Cluster, NODE, pod, pv, relabel, requests, volumes, with};
use crate::support::exporter::{Exporter, run};
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::POD;

fn briefs(requests: &[Recorded]) -> Vec<String> {
    let mut briefs: Vec<String> = requests.iter().map(Recorded::brief).collect();
    briefs.sort();
    briefs
}

/// Waits for the watch, and for so many other requests.
fn settled(server: &ApiServer, others: usize) -> Vec<Recorded> {
    server.wait_for_counts("a watch is open", |counts| counts.watches == 1);
    server.wait_for("requests", |requests| {
        requests.iter().filter(|request| request.verb != Verb::Watch).count() >= others
    })
}

#[test]
fn exactly_these_requests_are_made() {
    let cluster = Cluster::of(&["pv-1", "pv-2"]);
    cluster.server.put(pod("elsewhere", "uid-elsewhere", "node-2"));
    cluster.put("not-mounted");
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    for _ in 0..10 {
        assert_eq!(volumes(&exporter.scrape(), "pending"), 0.0);
    }
    let asked = settled(&cluster.server, 5);
    let expected = [
        "get persistentvolumeclaims pv-1-claim",
        "get persistentvolumeclaims pv-2-claim",
        "get persistentvolumes pv-1",
        "get persistentvolumes pv-2",
        "list pods",
        "watch pods",
    ];
    assert_eq!(briefs(&asked), expected);
    for request in &asked {
        let query = request.query_names();
        match request.verb {
            Verb::Get => {
                assert_eq!((query, request.query("resourceVersion")), (vec!["resourceVersion"], Some("0")));
            }
            Verb::List => {
                assert_eq!(query, ["fieldSelector", "resourceVersion", "resourceVersionMatch"]);
                assert_eq!(request.query("fieldSelector"), Some(&*format!("spec.nodeName={NODE}")));
                assert_eq!(request.query("resourceVersion"), Some("0"), "from the watch cache");
            }
            Verb::Watch => {
                let names =
                    ["allowWatchBookmarks", "fieldSelector", "resourceVersion", "timeoutSeconds", "watch"];
                assert_eq!(query, names);
                assert_eq!(request.query("allowWatchBookmarks"), Some("true"));
                let seconds: u64 = request.query("timeoutSeconds").unwrap().parse().unwrap();
                assert!((240..=290).contains(&seconds), "{seconds}");
            }
        }
        assert_eq!(request.authorization.as_deref(), Some("Bearer good"));
    }
    let scrape = exporter.scrape();
    assert_eq!(requests(&scrape, Resource::PersistentVolumes, "get", "200"), 2.0);
    assert_eq!(requests(&scrape, Resource::PersistentVolumeClaims, "get", "200"), 2.0);
    assert_eq!(requests(&scrape, Resource::Pods, "list", "200"), 1.0);
    assert_eq!(requests(&scrape, Resource::Pods, "watch", "200"), 1.0);
    assert_eq!(scrape.all("disk_usage_exporter_kubernetes_requests_total", &[]).len(), 4);
}

#[test]
fn what_may_be_asked_is_what_the_manifest_grants() {
    // Every kind of request is among these, as the other tests hold: the program knows no others.
    let cluster = Cluster::of(&["pv-1", "gone"]);
    cluster.server.remove(Resource::PersistentVolumes, "", "gone");
    let exporter = cluster.start(&[]);
    exporter.wait_until_ready();
    let asked = settled(&cluster.server, 5);
    let asked: BTreeSet<(String, String)> = asked
        .iter()
        .map(|request| {
            let resource = request.resource.unwrap_or_else(|| panic!("{request:?}"));
            (resource.name().to_owned(), request.verb.name().to_owned())
        })
        .collect();
    assert_eq!(granted(), asked);
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
fn a_volume_mounted_later_is_looked_up_and_one_that_is_gone_is_forgotten() {
    let mut cluster = Cluster::of(&["pv-1"]);
    let exporter = cluster.start(&["--label-refresh=1s"]);
    exporter.wait_until_ready();
    cluster.put("pv-2");
    cluster.mount_only(&["pv-2"]);
    exporter.scrape_until("the new one is shown", |scrape| {
        scrape.label("pv_disk_usage_up", "pvc_name") == ["pv-2-claim"]
    });
    // By now only what is mounted is asked about again.
    let before = cluster.server.requests().len();
    let asked = cluster.server.wait_for("refreshes", |requests| requests.len() >= before + 8);
    let names: BTreeSet<String> = asked[before + 2..].iter().map(|request| request.name.clone()).collect();
    assert_eq!(names, BTreeSet::from(["pv-2".into(), "pv-2-claim".into()]));
}

#[test]
fn labels_are_current_within_one_refresh() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = cluster.start(&["--label-refresh=1s"]);
    exporter.wait_until_ready();
    relabel(&cluster, pv("pv-1"), "gold");
    exporter.scrape_until("the new label is shown", |scrape| {
        scrape.label("pv_disk_usage_up", "pv_tier") == ["gold"]
    });
}

#[test]
fn first_answers_are_at_most_four_at_a_time() {
    let names: Vec<String> = (0..100).map(|i| format!("pv-{i}")).collect();
    let cluster = Cluster::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let go = Arc::new(Notify::new());
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumes), Fault::Wait(Arc::clone(&go)), 4);
    let exporter = cluster.start(&[]);
    cluster.server.wait_for_counts("four requests", |counts| counts.in_flight == 4);
    // Whatever else it would ask, it would ask by now.
    assert_eq!(volumes(&exporter.scrape(), "pending"), 100.0);
    go.notify_waiters();
    exporter.wait_until_ready();
    let asked = cluster.server.requests();
    let most =
        asked.iter().filter(|request| request.verb == Verb::Get).map(|request| request.in_flight).max();
    assert_eq!(most, Some(4));
    assert_eq!(asked.iter().filter(|request| request.verb == Verb::Get).count(), 200);
    assert_eq!(volumes(&exporter.scrape(), "failed"), 100.0, "their paths are not there");
    // Four for them, and one for the pods.
    let handshakes = cluster.server.counts().handshakes;
    assert!(handshakes <= 5, "{handshakes}");
}

#[test]
fn a_node_without_volumes_is_ready_at_once() {
    let cluster = Cluster::new();
    cluster.server.mute();
    let exporter = cluster.start(&[]);
    let started = Instant::now();
    exporter.wait_until_ready();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn refreshes_are_at_most_two_a_second() {
    let names: Vec<String> = (0..10).map(|i| format!("pv-{i}")).collect();
    let cluster = Cluster::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let exporter = cluster.start(&["--label-refresh=100ms"]);
    exporter.wait_until_ready();
    // They are always due.
    let gets = |requests: &[Recorded]| -> Vec<_> {
        requests.iter().filter(|request| request.verb == Verb::Get).map(|request| request.at).collect()
    };
    let asked = gets(&cluster.server.wait_for("refreshes", |requests| gets(requests).len() >= 20 + 8));
    for pair in asked[20..].windows(2) {
        let between = pair[1] - pair[0];
        assert!(between.as_millis() >= 450, "{between:?}");
    }
}

#[test]
fn without_the_api_nothing_is_asked() {
    let cluster = Cluster::of(&["pv-1"]);
    let exporter = cluster.start(&["--kubernetes=off"]);
    exporter.wait_until_ready();
    assert_eq!(exporter.scrape().label("pv_disk_usage_up", "volume_name"), ["pv-1"]);
    assert_eq!(briefs(&cluster.server.requests()), [""; 0]);
}

#[test]
fn hostile_names_are_not_asked_about() {
    let mut cluster = Cluster::of(&["pv-1"]);
    for name in ["..", "a?b", "%2e%2e", "A", "x\\040y"] {
        cluster.mount(name);
    }
    let output = cluster.print(&[]);
    assert!(output.status.success());
    let asked = briefs(&cluster.server.requests());
    let gets: Vec<&String> = asked.iter().filter(|brief| brief.starts_with("get")).collect();
    assert_eq!(gets, ["get persistentvolumeclaims pv-1-claim", "get persistentvolumes pv-1"]);
    let exposition = Exposition::parse(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(exposition.label("pv_disk_usage_up", "pv_name"), ["%2e%2e", "A", "a?b", "pv-1", "x y"]);
}

#[test]
fn a_pods_own_volume_is_never_asked_about() {
    let mut cluster = Cluster::of(&["pv-1"]);
    // A PersistentVolume of that name is there all the same.
    cluster.put("data");
    cluster.mount("data");
    let mut owner = pod("app", POD, NODE);
    owner["spec"]["volumes"] = json!([{"name": "data", "nfs": {"server": "nas", "path": "/data"}}]);
    cluster.server.put(owner);
    let exporter = Exporter::start(&with(&cluster.args(), &[]));
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "pv_name"), ["pv-1"]);
    let asked = briefs(&cluster.server.requests());
    assert!(!asked.iter().any(|brief| brief.contains("data")), "{asked:?}");
}
