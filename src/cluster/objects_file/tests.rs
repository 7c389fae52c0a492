use super::*;
use crate::volume::{ClaimKey, ClaimRef};
use serde_json::{Value, json};

fn selections() -> Selections {
    Selections { pv_labels: "*".parse().unwrap(), pvc_labels: "*".parse().unwrap() }
}

fn parsed(json: &Value) -> Result<Metadata, ObjectsError> {
    parse(json.to_string().as_bytes(), Path::new("objects.json"), &selections())
}

fn names(metadata: &Metadata) -> (Vec<&str>, Vec<&str>) {
    let mut pvs: Vec<_> = metadata.volumes.keys().map(String::as_str).collect();
    let mut pods: Vec<_> = metadata.pods.keys().map(String::as_str).collect();
    pvs.sort_unstable();
    pods.sort_unstable();
    (pvs, pods)
}

/// A file in a directory of its own, and the worker that reads it.
fn file(contents: &Value) -> (tempfile::TempPath, ObjectsFile, BlockingWorker) {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, contents.to_string()).unwrap();
    let worker = BlockingWorker::start("test").unwrap();
    let file = ObjectsFile::open(&path, selections(), &worker).unwrap();
    (path, file, worker)
}

impl ObjectsFile {
    /// The names of the volumes after looking at the file, and whether it could be read.
    fn refreshed(&mut self) -> (Vec<String>, bool) {
        self.refresh();
        let metadata = self.metadata.borrow();
        let names = names(&metadata).0.into_iter().map(ToOwned::to_owned).collect();
        (names, metadata.sources[0].success)
    }
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
    assert_eq!(names(&parsed(&nested).unwrap()), (vec!["a", "b"], vec!["u"]));
    assert_eq!(names(&parsed(&pv("a")).unwrap()), (vec!["a"], vec![]));
    assert_eq!(names(&parsed(&list(&[])).unwrap()), (vec![], vec![]));
    let mixed = list(&[json!({"kind": "ConfigMap", "metadata": {"name": "x"}}), claim("c")]);
    assert_eq!(names(&parsed(&mixed).unwrap()), (vec![], vec![]));
    let typed = json!({"kind": "PodList", "items": [{"metadata": {"name": "p", "uid": "u"}, "spec": {}}]});
    assert_eq!(names(&parsed(&typed).unwrap()), (vec![], vec!["u"]));
}

#[test]
fn an_object_that_does_not_parse_costs_itself() {
    let list = json!({"items": [
        pv("good"),
        {"kind": "PersistentVolume", "metadata": {"name": "bad"}, "spec": 7},
        {"kind": "PersistentVolume", "metadata": {"name": "worse", "labels": {"a": 1}}, "spec": {}},
        {"kind": "PersistentVolume", "metadata": {}, "spec": {}},
        {"kind": "PersistentVolumeClaim", "metadata": {}, "spec": {}},
        {"kind": "Pod", "spec": {}},
        3,
        null,
        {"kind": ["Pod"]},
        pod("u"),
    ]});
    assert_eq!(names(&parsed(&list).unwrap()), (vec!["good"], vec!["u"]));
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
    let error = ObjectsFile::open(&directory, selections(), &BlockingWorker::start("test").unwrap())
        .unwrap_err()
        .to_string();
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
    for _ in 0..=MAX_DEPTH {
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
    let volume = &metadata.volumes["pv"];
    let pv = volume.pv.found().unwrap();
    let key = ClaimKey { namespace: "shop".into(), name: "c".into() };
    assert_eq!(pv.claim, Some(ClaimRef { key, uid: Some("1".into()) }));
    assert_eq!(pv.labels["tier"], "gold");
    assert_eq!(pv.storage_class.as_deref(), Some("fast"));
    assert_eq!(pv.mode.as_deref(), Some("Filesystem"));
    assert_eq!(pv.access_modes, ["ReadWriteOnce"]);
    let source = pv.source.as_ref().unwrap();
    assert_eq!((&*source.kind, source.instance.as_deref()), ("nfs", Some("s:/p")));
    let claim = volume.claim.as_ref().unwrap().found().unwrap();
    assert_eq!((claim.uid.as_deref(), claim.requested_bytes), (Some("1"), Some(64 << 20)));
    assert_eq!(claim.labels["app"], "web");
    assert!(Arc::ptr_eq(&metadata.pods["u"], &metadata.pods["h"]));
    assert_eq!(metadata.pods["u"].inline_volumes, [("nfs".to_owned(), "inline".to_owned())].into());
}

#[test]
fn a_claim_is_that_of_the_uid_that_the_pv_names() {
    let claim = |name: &str, uid: Option<&str>| {
        json!({"kind": "PersistentVolumeClaim", "spec": {},
            "metadata": {"name": name, "namespace": "n", "uid": uid, "labels": {"uid": uid.unwrap_or("none")}}})
    };
    let found = |reference: Value, claims: &[Value]| {
        let pv =
            json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {"claimRef": reference}});
        let items = [claims, &[pv]].concat();
        let metadata = parsed(&json!({"items": items})).unwrap();
        match &metadata.volumes["pv"].claim {
            Some(Lookup::Found(claim)) => claim.labels["uid"].clone(),
            other => format!("{other:?}"),
        }
    };
    let reference = |uid: Option<&str>| json!({"namespace": "n", "name": "c", "uid": uid});
    let claims = [claim("other", Some("1")), claim("c", Some("2")), claim("c", Some("3"))];
    for (reference, claims, expected) in [
        (reference(Some("3")), &claims[..], "3"),
        (reference(None), &claims[..], "2"),
        (reference(Some("4")), &claims[..], "Some(Absent)"),
        (reference(Some("4")), &[claim("c", None)][..], "none"),
        (reference(Some("1")), &claims[..1], "None"),
        (json!(null), &claims[..], "None"),
        (json!({"name": "c"}), &claims[..], "None"),
    ] {
        assert_eq!(found(reference.clone(), claims), expected, "{reference}");
    }
}

#[test]
fn the_file_is_read_again_when_it_changes_and_its_last_objects_outlive_it() {
    let (path, mut file, _worker) = file(&pv("first"));
    let first = Arc::clone(&file.metadata.borrow());
    assert!(first.oldest.is_some());
    assert_eq!(file.refreshed(), (vec!["first".into()], true));
    assert!(Arc::ptr_eq(&first, &file.metadata.borrow()), "an unchanged file is not read again");
    std::fs::write(&path, pv("second").to_string()).unwrap();
    assert_eq!(file.refreshed(), (vec!["second".into()], true));
    for broken in ["{", "[]"] {
        std::fs::write(&path, broken).unwrap();
        assert_eq!(file.refreshed(), (vec!["second".into()], false));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.refreshed(), (vec!["second".into()], false));
    std::fs::write(&path, pv("third").to_string()).unwrap();
    assert_eq!(file.refreshed(), (vec!["third".into()], true));
}

#[test]
fn a_file_that_hangs_cannot_be_read_until_it_can() {
    let (_path, mut file, worker) = file(&pv("first"));
    let (go_on, gate) = std::sync::mpsc::channel::<()>();
    // The worker is at a file that hangs.
    let hanging = worker.run(thread::current(), move || gate.recv());
    assert_eq!(file.refreshed(), (vec!["first".into()], true), "it may be large");
    assert_eq!(file.refreshed(), (vec!["first".into()], true));
    file.hung_after = Duration::ZERO;
    assert_eq!(file.refreshed(), (vec!["first".into()], false));
    drop(go_on);
    let long = Deadline::after(Duration::from_mins(1));
    assert!(hanging.wait(&long).is_some());
    let (job, _) = file.reading.take().unwrap();
    assert!(job.wait(&long).is_some());
    assert_eq!(file.refreshed(), (vec!["first".into()], true), "it can be read again");
}
