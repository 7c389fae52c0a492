use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use disk_usage_exporter::cluster::{MetadataHandle, ObjectsError, ObjectsFile, Selections, parse_objects};
use disk_usage_exporter::runtime::BlockingWorker;
use disk_usage_exporter::volume::{Lookup, Metadata, PersistentVolume, Pod, VolumeSource};
use serde_json::{Value, json};

/// Lists of lists are read to this depth.
const MAX_DEPTH: usize = 16;

fn selections() -> Selections {
    Selections::default()
}

fn parsed(json: &Value) -> Result<Metadata, ObjectsError> {
    parse_objects(json.to_string().as_bytes(), Path::new("objects.json"), &selections())
}

/// The names of volumes, and the uids of pods.
fn names(metadata: &Metadata) -> [BTreeSet<&str>; 2] {
    [
        metadata.volumes.keys().map(String::as_str).collect(),
        metadata.pods.keys().map(String::as_str).collect(),
    ]
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "List", "items": items})
}

fn pv(name: &str) -> Value {
    json!({"kind": "PersistentVolume", "metadata": {"name": name}, "spec": {}})
}

fn claim(name: &str, uid: Option<&str>) -> Value {
    json!({"kind": "PersistentVolumeClaim", "spec": {},
        "metadata": {"name": name, "namespace": "n", "uid": uid, "labels": {"uid": uid.unwrap_or("none")}}})
}

fn pod(uid: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {}})
}

#[test]
fn objects_are_found_in_every_form_and_malformed_ones_are_skipped() {
    let deep = (0..=MAX_DEPTH).fold(pv("deep"), |list, _| json!({"items": [list, pv("shallow")]}));
    let items = json!([
        pv("good"),
        {"kind": "PersistentVolume", "metadata": {"name": "bad"}, "spec": 7},
        {"kind": "PersistentVolume", "metadata": {"name": "worse", "labels": {"a": 1}}, "spec": {}},
        {"kind": "PersistentVolume", "metadata": {}, "spec": {}},
        {"kind": "PersistentVolumeClaim", "metadata": {}, "spec": {}},
        {"kind": "Pod", "spec": {}}, {"kind": ["Pod"]}, 3, null,
        pod("u"),
    ]);
    let config_map = json!({"kind": "ConfigMap", "metadata": {"name": "x"}});
    let lists = [list(&[pv("a")]), pv("b"), list(&[list(&[claim("c", None), pod("u")])])];
    let typed = json!({"kind": "PodList", "items": [{"metadata": {"name": "p", "uid": "u"}, "spec": {}}]});
    for (what, json, volumes, pods) in [
        ("lists of lists", list(&lists), &["a", "b"][..], &["u"][..]),
        ("one object", pv("a"), &["a"], &[]),
        ("no object", list(&[]), &[], &[]),
        ("another kind", list(&[config_map, claim("c", None)]), &[], &[]),
        ("a typed list", typed, &[], &["u"]),
        ("a list without end", deep, &["shallow"], &[]),
        ("malformed objects", json!({"items": items}), &["good"], &["u"]),
    ] {
        let metadata = parsed(&json).unwrap();
        assert_eq!(names(&metadata).map(Vec::from_iter), [volumes, pods], "{what}");
    }
}

#[test]
fn file_without_objects_is_an_error_with_a_remedy() {
    let foreign = json!([{}, [], "text", null, {"kind": "ConfigMap", "metadata": {}},
        {"items": [{"kind": "Service"}]}, {"items": [1, 2]}]);
    for json in foreign.as_array().unwrap() {
        let error = parsed(json).unwrap_err().to_string();
        assert!(error.starts_with("objects.json has no PersistentVolume"), "{json}: {error}");
        assert!(error.ends_with("`kubectl get pv,pvc,pods -A -o json`"), "{error}");
    }
    for text in ["", "{", "NAME  CAPACITY", "{}x", "\u{feff}{}"] {
        let error =
            parse_objects(text.as_bytes(), Path::new("o.json"), &selections()).unwrap_err().to_string();
        assert!(error.starts_with("o.json is not JSON: "), "{error}");
    }
    let worker = BlockingWorker::start("test").unwrap();
    let directory = ObjectsFile::open(&std::env::temp_dir(), selections(), &worker);
    assert!(directory.err().unwrap().to_string().ends_with("not a file"));
}

#[test]
fn claim_is_the_one_with_the_uid_that_the_volume_names() {
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
        let mut volume = pv("pv");
        volume["spec"]["claimRef"] = reference.clone();
        let metadata = parsed(&list(&[claims, &[volume]].concat())).unwrap();
        let claim = match &metadata.volumes["pv"].claim {
            Some(Lookup::Found(claim)) => claim.labels["uid"].clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(claim, expected, "{reference}");
    }
}

#[test]
fn changed_file_is_read_again_and_its_last_objects_outlive_it() {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(&pv("first").to_string());
    let worker = BlockingWorker::start("test").unwrap();
    let mut handle = MetadataHandle::objects(ObjectsFile::open(&path, selections(), &worker).unwrap());
    let first = handle.metadata();
    assert!(first.oldest.is_some() && !first.awaits_volumes && !first.awaits_pods);
    let mut assert_refreshed = |name: &str, success: bool| {
        let metadata = handle.update(&[]);
        assert_eq!((&names(&metadata)[0], metadata.sources[0].success), (&[name].into(), success));
        metadata
    };
    let unchanged = assert_refreshed("first", true);
    assert!(Arc::ptr_eq(&first, &unchanged), "an unchanged file is not read again");
    write(&pv("second").to_string());
    assert_refreshed("second", true);
    for broken in ["{", "[]"] {
        write(broken);
        assert_refreshed("second", false);
    }
    std::fs::remove_file(&path).unwrap();
    assert_refreshed("second", false);
    write(&pv("third").to_string());
    assert_refreshed("third", true);
}

#[test]
fn every_source_is_named_and_identified() {
    // Sources as PersistentVolumeSpec in the Kubernetes API reference, 1.36, has them; their kinds, and what identifies them.
    for line in include_str!("objects/sources.txt").lines() {
        let [instance, kind, spec] = line.rsplitn(3, " | ").collect::<Vec<_>>().try_into().unwrap();
        let mut object = pv("pv");
        object["spec"] = serde_json::from_str(spec).unwrap();
        let plugin = match kind {
            "ebs.csi.aws.com" => "csi",
            "flexvolume" => "example.com/lvm",
            kind => kind,
        };
        let text = |text: &str| (text != "-").then(|| text.to_owned());
        let source = |kind| VolumeSource { plugin: plugin.into(), kind, instance: text(instance) };
        let metadata = parsed(&object).unwrap();
        assert_eq!(metadata.volumes["pv"].pv.found().unwrap().source, text(kind).map(source), "{line}");
    }
}

fn volume_with(spec: &Value) -> PersistentVolume {
    let mut object = pv("pv");
    object["spec"] = spec.clone();
    PersistentVolume::clone(parsed(&object).unwrap().volumes["pv"].pv.found().unwrap())
}

#[test]
fn text_longer_than_a_labels_is_left_out_and_counted() {
    let text = |length: usize| "x".repeat(length);
    let with = |more: usize| {
        let name = text(253 + more);
        volume_with(
            &json!({"storageClassName": name, "volumeMode": name, "accessModes": ["ReadWriteOnce", name],
            "csi": {"driver": "d", "volumeHandle": text(1024 + more)}}),
        )
    };
    let of = |pv: PersistentVolume| {
        let source = pv.source.unwrap();
        let lengths = [pv.storage_class, pv.mode, source.instance].map(|text| text.map(|text| text.len()));
        (lengths, pv.access_modes.len(), source.kind, pv.dropped_labels)
    };
    assert_eq!(of(with(0)), ([Some(253), Some(253), Some(1024)], 2, "d".into(), 0));
    assert_eq!(of(with(1)), ([None; 3], 1, "d".into(), 4));
    let nameless = volume_with(&json!({"csi": {"driver": text(254), "volumeHandle": "h"}}));
    assert_eq!((nameless.source, nameless.dropped_labels), (None, 1));
    assert_eq!(volume_with(&json!({"accessModes": vec!["x"; 1000]})).access_modes.len(), 8);
    // No claim has a longer name.
    for (namespace, name, is_claim) in [(253, 253, true), (254, 1, false), (1, 254, false)] {
        let reference = json!({"namespace": text(namespace), "name": text(name)});
        assert_eq!(volume_with(&json!({"claimRef": reference})).claim.is_some(), is_claim);
    }
}

fn parsed_pod(pod: &Value) -> Option<Pod> {
    let metadata = parsed(pod).unwrap();
    Some(Pod::clone(metadata.pods.values().next()?))
}

fn with_volumes(volumes: &Value) -> Option<Pod> {
    let mut pod = pod("u");
    pod["spec"]["volumes"] = volumes.clone();
    parsed_pod(&pod)
}

#[test]
fn static_pod_has_the_uid_of_its_mirror_pods_annotation() {
    const HASH: &str = "kubernetes.io/config.hash";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let annotated = |annotations: Value| {
        let mut pod = pod("u");
        pod["metadata"]["annotations"] = annotations;
        pod
    };
    for (annotations, expected) in [
        (json!({HASH: "h", MIRROR: "m", "kubernetes.io/config.source": "file"}), &["m", "u"][..]),
        (json!({HASH: "h", MIRROR: null}), &["u"]),
        (json!({"other": {"a": [1]}}), &["u"]),
        (json!(7), &["u"]),
    ] {
        let metadata = parsed(&annotated(annotations)).unwrap();
        assert_eq!(Vec::from_iter(names(&metadata)[1].clone()), expected);
        let pod = &metadata.pods["u"];
        assert_eq!((&*pod.namespace, &*pod.name), ("n", "p"));
        assert!(metadata.pods.values().all(|same| Arc::ptr_eq(same, pod)));
    }
    // An annotation does not take the place of another pod. Of two with the same one, either could be the static pod.
    let mirror_pod = |name: &str, hash: Option<&str>| {
        let mut pod = annotated(json!({MIRROR: hash}));
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["uid"] = json!(name);
        pod
    };
    let (victim, thief) = (mirror_pod("victim", None), mirror_pod("thief", Some("victim")));
    let (first, second) = (mirror_pod("static", Some("hash")), mirror_pod("second-thief", Some("hash")));
    for items in [[&victim, &thief, &first, &second], [&thief, &victim, &first, &second]] {
        let metadata = parsed(&list(&items.map(Value::clone))).unwrap();
        let names = ["victim", "thief", "hash"].map(|uid| metadata.pods.get(uid).map(|pod| &*pod.name));
        assert_eq!(names, [Some("victim"), Some("thief"), None]);
    }
}

#[test]
fn volumes_are_claims_or_mounted_by_a_plugin_that_can_hold_one() {
    let pod = with_volumes(&json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"nfs": {}}}}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"gcePersistentDisk": {"pdName": "d"}, "name": "disk"},
        {"name": "secrets", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
        {"name": "flex", "flexVolume": {"driver": "v/d"}},
        {"name": "inline", "nfs": {}},
        {"name": "null", "nfs": null},
        {"name": 1, "nfs": {}},
        {"nfs": {}},
        "text",
    ]))
    .unwrap();
    let inline = [("csi", "secrets"), ("gce-pd", "disk"), ("nfs", "inline"), ("v/d", "flex")];
    assert_eq!(pod.inline_volumes, inline.map(|(plugin, name)| (plugin.into(), name.into())).into());
    assert_eq!(pod.claims, ["claim", "p-scratch"].map(Into::into).into());
}

#[test]
fn fields_of_another_type_are_absent() {
    let object = json!({"a": [1, {"b": null}], "name": {"name": -1}, "volumes": {"name": "x"}});
    for odd in [object, json!(7), json!(-7), json!(1.5), json!(true), json!("t"), json!(null), json!([1, {}])]
    {
        let metadata =
            json!({"name": "p", "uid": "u", "labels": odd, "annotations": odd, "managedFields": odd});
        let mut object = json!({"kind": "Pod", "metadata": metadata, "spec": {"x": odd}, "status": odd});
        let read = parsed_pod(&object).unwrap();
        assert_eq!((&*read.name, read.claims.len()), ("p", 0), "{odd}");
        let volumes = json!([odd, {"name": odd, "persistentVolumeClaim": odd}]);
        let expected = Pod { name: "p".into(), namespace: "n".into(), ..Pod::default() };
        assert_eq!(with_volumes(&volumes), Some(expected), "{odd}");
        // In a whole file that is not as kubectl prints it, such an object is left out.
        assert_eq!(with_volumes(&odd).is_some(), odd.is_array() || odd.is_null(), "{odd}");
        object["spec"] = odd.clone();
        let is_spec = odd.is_object() && odd.get("volumes").is_none();
        assert_eq!(parsed_pod(&object).is_some(), is_spec, "{odd}");
    }
    let many = (0..5000).map(|number| format!("\"f{number}\": 1")).collect::<Vec<_>>().join(",");
    let json = format!(
        "{{{many}, \"kind\": \"Pod\", \"metadata\": {{{many}, \"name\": \"p\", \"uid\": \"u\"}}, \"spec\": {{}}}}"
    );
    assert!(parsed_pod(&serde_json::from_str(&json).unwrap()).is_some(), "among many other fields");
    let mut long = pod("u");
    long["metadata"]["name"] = json!("x".repeat(254));
    assert_eq!(parsed_pod(&long), None);
}
