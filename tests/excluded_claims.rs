use serde_json::json;

use crate::support::exporter::Exporter;
use crate::support::fixture::{Fixture, answering};
use crate::support::objects::nfs;

#[test]
fn a_claim_is_excluded_from_alerts_whichever_labels_are_chosen() {
    let mut node = Fixture::new();
    let mut objects = Vec::new();
    for (pv_name, labels) in [
        ("excluded", json!({"excluded-from-alerts": "true", "team": "media"})),
        ("watched", json!({"excluded-from-alerts": "false", "team": "shop"})),
        ("without", json!({"team": "wiki"})),
    ] {
        node.mount(pv_name, answering());
        let mut spec = nfs(pv_name);
        spec["claimRef"] = json!({"namespace": "shop", "name": pv_name});
        objects.push(json!({"kind": "PersistentVolume", "metadata": {"name": pv_name}, "spec": spec}));
        let metadata = json!({"namespace": "shop", "name": pv_name, "labels": labels});
        objects.push(json!({"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {}}));
    }
    node.set_objects(&json!({"items": objects}));
    for list in ["team", "", "*", "*,!excluded-from-alerts"] {
        let exporter = Exporter::start(&[&node.flag(), &format!("--pvc-labels={list}")]);
        let scrape = exporter.scrape();
        let excluded = |pv_name| {
            let info = scrape.all("pv_disk_usage_volume_info", &[("pv_name", pv_name)]);
            assert_eq!(info.len(), 1, "{list}: {pv_name}");
            let labels = [("pv_name", pv_name), ("excluded_from_alerts", "true")];
            scrape.value("pv_disk_usage_volume_info", &labels)
        };
        assert_eq!(excluded("excluded"), Some(1.0), "{list}");
        assert_eq!((excluded("watched"), excluded("without")), (None, None), "{list}");
        let is_label = scrape.label("pv_disk_usage_up", "pvc_excluded_from_alerts").len();
        assert_eq!(is_label, if list == "*" { 2 } else { 0 }, "{list}");
    }
}

#[test]
fn volume_labels_are_chosen_by_themselves() {
    let mut node = Fixture::new();
    node.mount("pv", answering());
    let mut spec = nfs("pv");
    spec["claimRef"] = json!({"namespace": "shop", "name": "claim"});
    let labels = json!({"team": "shop", "helm.sh/chart": "a-1.0", "app.kubernetes.io/name": "web"});
    node.set_objects(&json!({"items": [
        {"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": spec},
        {"kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop", "name": "claim", "labels": labels}, "spec": {}},
    ]}));
    let chosen = |args: &[&str]| {
        let flag = node.flag();
        let scrape = Exporter::start(&[&[&*flag], args].concat()).scrape();
        let of = |prefix: &str| {
            let names = ["app_kubernetes_io_name", "helm_sh_chart", "team"];
            let is_there =
                |name: &&str| !scrape.label("pv_disk_usage_up", &format!("{prefix}{name}")).is_empty();
            names.into_iter().filter(is_there).collect::<Vec<_>>()
        };
        (of("pvc_"), of("volume_"))
    };
    let name = "app_kubernetes_io_name";
    assert_eq!(chosen(&["--pvc-labels=!helm.sh/*"]), (vec![name, "team"], vec![name, "team"]));
    assert_eq!(
        chosen(&["--pvc-labels=*,!team", "--volume-labels=team"]),
        (vec![name, "helm_sh_chart"], vec!["team"])
    );
    assert_eq!(chosen(&["--pvc-labels=team", "--volume-labels="]), (vec!["team"], vec![]));
}
