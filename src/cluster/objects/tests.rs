use super::*;
use crate::volume::{ClaimKey, ClaimRef};
use serde_json::{Value, json};

fn selections() -> Selections {
    Selections { pv_labels: "*".parse().unwrap(), pvc_labels: "*".parse().unwrap() }
}

fn parsed(json: &Value) -> Result<Metadata, ObjectsError> {
    parse(json.to_string().as_bytes(), Path::new("objects.json"), &selections())
}

fn names(metadata: &Metadata) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let mut pvs: Vec<_> = metadata.persistent_volumes.keys().map(String::as_str).collect();
    let mut claims: Vec<_> = metadata.claims.keys().map(|key| key.name.as_str()).collect();
    let mut pods: Vec<_> = metadata.pods.keys().map(String::as_str).collect();
    pvs.sort_unstable();
    claims.sort_unstable();
    pods.sort_unstable();
    (pvs, claims, pods)
}

fn pv(name: &str) -> Value {
    json!({"kind": "PersistentVolume", "metadata": {"name": name}, "spec": {}})
}

fn claim(name: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "n"}, "spec": {}})
}

fn pod(uid: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {}})
}

#[test]
fn lists_of_lists_single_objects_and_missing_kinds_are_fine() {
    let list = |items: &[Value]| json!({"kind": "List", "items": items});
    let nested = list(&[list(&[pv("a")]), pv("b"), list(&[list(&[claim("c"), pod("u")])])]);
    assert_eq!(names(&parsed(&nested).unwrap()), (vec!["a", "b"], vec!["c"], vec!["u"]));
    assert_eq!(names(&parsed(&pv("a")).unwrap()), (vec!["a"], vec![], vec![]));
    assert_eq!(names(&parsed(&list(&[])).unwrap()), (vec![], vec![], vec![]));
    let mixed = list(&[json!({"kind": "ConfigMap", "metadata": {"name": "x"}}), claim("c")]);
    assert_eq!(names(&parsed(&mixed).unwrap()), (vec![], vec!["c"], vec![]));
    let typed = json!({"kind": "PodList", "items": [{"metadata": {"name": "p", "uid": "u"}, "spec": {}}]});
    assert_eq!(names(&parsed(&typed).unwrap()), (vec![], vec![], vec!["u"]));
}

#[test]
fn an_object_that_does_not_parse_costs_itself() {
    let list = json!({"items": [
        pv("good"),
        {"kind": "PersistentVolume", "metadata": {"name": "bad"}, "spec": 7},
        {"kind": "PersistentVolume", "metadata": {"name": "worse", "labels": {"a": 1}}, "spec": {}},
        {"kind": "Pod", "spec": {}},
        3,
        null,
        {"kind": ["Pod"]},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n"},
         "spec": {"resources": {"requests": {"storage": 5}}}},
    ]});
    assert_eq!(names(&parsed(&list).unwrap()), (vec!["good"], vec!["c"], vec![]));
}

#[test]
fn what_has_no_such_objects_is_an_error_that_says_so() {
    let cases = [
        json!({}),
        json!([]),
        json!("text"),
        json!(null),
        json!({"kind": "ConfigMap", "metadata": {}}),
        json!({"items": [{"kind": "Service"}]}),
        json!({"items": [1, 2]}),
    ];
    for case in &cases {
        let error = parsed(case).unwrap_err().to_string();
        assert!(error.starts_with("objects.json has no PersistentVolume"), "{case}: {error}");
        assert!(error.ends_with("`kubectl get pv,pvc,pods -A -o json`"), "{error}");
    }
    let directory = std::env::temp_dir();
    let error = ObjectsFile::open(&directory, selections()).unwrap_err().to_string();
    assert!(error.ends_with("not a file"), "{error}");
    for text in ["", "{", "NAME  CAPACITY", "{}x", "\u{feff}{}"] {
        let error = parse(text.as_bytes(), Path::new("o"), &selections()).unwrap_err().to_string();
        assert!(error.starts_with("o is not JSON: "), "{error}");
    }
}

#[test]
fn an_annotation_does_not_take_the_place_of_another_pod() {
    let named = |name: &str, uid: &str, hash: &str| {
        json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": uid,
            "annotations": {"kubernetes.io/config.hash": hash}}, "spec": {}})
    };
    let (victim, thief) = (pod("victim"), named("thief", "u", "victim"));
    for items in [[&victim, &thief], [&thief, &victim]] {
        let metadata = parsed(&json!({"items": items})).unwrap();
        assert_eq!((&*metadata.pods["victim"].name, &*metadata.pods["u"].name), ("p", "thief"));
    }
    assert_eq!(parsed(&named("static", "u", "hash")).unwrap().pods["hash"].name, "static");
}

#[test]
fn a_list_without_end_ends() {
    let mut list = pv("deep");
    for _ in 0..=DEEPEST {
        list = json!({"items": [list, pv("shallow")]});
    }
    assert_eq!(names(&parsed(&list).unwrap()).0, ["shallow"]);
}

#[test]
fn the_fields_that_are_used() {
    let list = json!({"items": [
        {"kind": "PersistentVolume", "metadata": {"name": "pv", "labels": {"tier": "gold"}}, "spec": {
            "claimRef": {"namespace": "shop", "name": "c", "uid": "1"}, "storageClassName": "fast",
            "volumeMode": "Filesystem", "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/p"}}},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "shop", "uid": "1",
            "labels": {"app": "web"}}, "spec": {"resources": {"requests": {"storage": "64Mi"}}}},
        {"kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "uid": "u",
            "annotations": {"kubernetes.io/config.hash": "h", "kubernetes.io/config.mirror": "h"}},
         "spec": {"volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "memory", "emptyDir": {}},
            {"name": "inline", "nfs": {}}]}},
    ]});
    let metadata = parsed(&list).unwrap();
    let pv = &metadata.persistent_volumes["pv"];
    let key = ClaimKey { namespace: "shop".into(), name: "c".into() };
    assert_eq!(pv.claim, Some(ClaimRef { key: key.clone(), uid: Some("1".into()) }));
    assert_eq!(pv.labels["tier"], "gold");
    assert_eq!(pv.storage_class.as_deref(), Some("fast"));
    assert_eq!(pv.mode.as_deref(), Some("Filesystem"));
    assert_eq!(pv.access_modes, ["ReadWriteOnce"]);
    let source = pv.source.as_ref().unwrap();
    assert_eq!((&*source.kind, source.instance.as_deref()), ("nfs", Some("s:/p")));
    let claim = &metadata.claims[&key][0];
    assert_eq!((claim.uid.as_deref(), claim.requested_bytes), (Some("1"), Some(64 << 20)));
    assert_eq!(claim.labels["app"], "web");
    assert!(Arc::ptr_eq(&metadata.pods["u"], &metadata.pods["h"]));
    assert_eq!(metadata.pods["u"].inline_volumes, [("nfs".to_owned(), "inline".to_owned())].into());
}

#[test]
fn the_file_is_read_again_when_it_changes_and_its_last_objects_outlive_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.json");
    std::fs::write(&path, pv("first").to_string()).unwrap();
    let mut file = ObjectsFile::open(&path, selections()).unwrap();
    let first = file.metadata();
    assert_eq!(names(&first).0, ["first"]);
    assert!(Arc::ptr_eq(&first, &file.metadata()), "an unchanged file is not read again");
    assert!(file.age(SystemTime::now()).is_some());
    std::fs::write(&path, pv("second").to_string()).unwrap();
    assert_eq!(names(&file.metadata()).0, ["second"]);
    for broken in ["{", "[]"] {
        std::fs::write(&path, broken).unwrap();
        assert_eq!((names(&file.metadata()).0, file.success()), (vec!["second"], false));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!((names(&file.metadata()).0, file.success()), (vec!["second"], false));
    std::fs::write(&path, pv("third").to_string()).unwrap();
    assert_eq!((names(&file.metadata()).0, file.success()), (vec!["third"], true));
}

#[test]
fn a_file_that_hangs_cannot_be_read_until_it_can() {
    let (go_on, gate) = std::sync::mpsc::channel::<()>();
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, pv("first").to_string()).unwrap();
    let mut file = ObjectsFile::open(&path, selections()).unwrap();
    let hangs = path.to_owned();
    file.reader = Aside::start("test", move |before| {
        let _ = gate.recv();
        read_changed(&hangs, before, &selections())
    })
    .unwrap();
    file.metadata();
    assert!(file.success(), "it may be large");
    file.hung_after = Duration::ZERO;
    assert_eq!((names(&file.metadata()).0, file.success()), (vec!["first"], false));
    drop(go_on);
    let start = std::time::Instant::now();
    while !file.success() {
        assert!(start.elapsed().as_secs() < 60, "it can be read again");
        file.hung_after = HUNG_AFTER;
        file.metadata();
    }
}
