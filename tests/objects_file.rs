use std::path::Path;
use std::sync::Arc;

use disk_usage_exporter::cluster::{MetadataHandle, ObjectsError, ObjectsFile, Selections, parse_objects};
use disk_usage_exporter::runtime::BlockingWorker;
use disk_usage_exporter::volume::{ClaimKey, ClaimRef, Lookup, Metadata, Pod};
use serde_json::{Value, json};

/// Lists of lists are read to this depth.
const MAX_DEPTH: usize = 16;

fn selections() -> Selections {
    Selections::default()
}

fn parsed(json: &Value) -> Result<Metadata, ObjectsError> {
    parse_objects(json.to_string().as_bytes(), Path::new("objects.json"), &selections())
}

fn names(metadata: &Metadata) -> (Vec<&str>, Vec<&str>) {
    let mut pvs: Vec<_> = metadata.volumes.keys().map(String::as_str).collect();
    let mut pods: Vec<_> = metadata.pods.keys().map(String::as_str).collect();
    pvs.sort_unstable();
    pods.sort_unstable();
    (pvs, pods)
}

/// The names of the volumes after looking at the file, and whether it could be read.
fn refreshed(handle: &mut MetadataHandle) -> (Vec<String>, bool) {
    let metadata = handle.update(&[]);
    let names = names(&metadata).0.into_iter().map(ToOwned::to_owned).collect();
    (names, metadata.sources[0].success)
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
        .err()
        .unwrap()
        .to_string();
    assert!(error.ends_with("not a file"), "{error}");
    for text in ["", "{", "NAME  CAPACITY", "{}x", "\u{feff}{}"] {
        let error = parse_objects(text.as_bytes(), Path::new("o"), &selections()).unwrap_err().to_string();
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
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(&pv("first").to_string());
    let worker = BlockingWorker::start("test").unwrap();
    let mut handle = MetadataHandle::objects(ObjectsFile::open(&path, selections(), &worker).unwrap());
    let first = handle.metadata();
    assert!(first.oldest.is_some() && !first.awaits_volumes && !first.awaits_pods);
    assert_eq!(refreshed(&mut handle), (vec!["first".into()], true));
    assert!(Arc::ptr_eq(&first, &handle.metadata()), "an unchanged file is not read again");
    write(&pv("second").to_string());
    assert_eq!(refreshed(&mut handle), (vec!["second".into()], true));
    for broken in ["{", "[]"] {
        write(broken);
        assert_eq!(refreshed(&mut handle), (vec!["second".into()], false));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refreshed(&mut handle), (vec!["second".into()], false));
    write(&pv("third").to_string());
    assert_eq!(refreshed(&mut handle), (vec!["third".into()], true));
}

// The fields are those of PersistentVolumeSpec in the Kubernetes API reference, 1.36.
#[test]
fn every_source_is_named_and_identified() {
    let cases = [
        (json!({"awsElasticBlockStore": {"volumeID": "vol-1", "fsType": "ext4"}}), "aws-ebs", "vol-1"),
        (
            json!({"azureDisk": {"diskName": "d", "diskURI": "/subscriptions/1/d"}}),
            "azure-disk",
            "/subscriptions/1/d",
        ),
        (
            json!({"azureFile": {"secretName": "s", "secretNamespace": "n", "shareName": "f"}}),
            "azure-file",
            "n:s:f",
        ),
        (
            json!({"azureFile": {"secretName": "s", "secretNamespace": null, "shareName": "f"}}),
            "azure-file",
            "s:f",
        ),
        (json!({"cephfs": {"monitors": ["a:1", "b:1"], "path": "/p"}}), "cephfs", "a:1,b:1:/p"),
        (json!({"cinder": {"volumeID": "c"}}), "cinder", "c"),
        (json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-2"}}), "ebs.csi.aws.com", "vol-2"),
        (json!({"fc": {"targetWWNs": ["w1", "w2"], "lun": 0}}), "fc", "w1,w2:0"),
        (json!({"fc": {"wwids": ["i"]}}), "fc", "i"),
        (json!({"flexVolume": {"driver": "example.com/lvm"}}), "flexvolume", "example.com/lvm"),
        (json!({"flocker": {"datasetName": "", "datasetUUID": "u"}}), "flocker", "u"),
        (json!({"gcePersistentDisk": {"pdName": "disk-1"}}), "gce-pd", "disk-1"),
        (json!({"glusterfs": {"endpoints": "e", "path": "v"}}), "glusterfs", "e:v"),
        (json!({"hostPath": {"path": "/opt/a", "type": ""}}), "host-path", "/opt/a"),
        (
            json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com", "lun": 3}}),
            "iscsi",
            "10.0.0.1:3260:iqn.2001-04.com:3",
        ),
        (json!({"local": {"path": "/mnt/d"}}), "local-volume", "/mnt/d"),
        (json!({"nfs": {"server": "nas", "path": "/export"}}), "nfs", "nas:/export"),
        (json!({"photonPersistentDisk": {"pdID": "p"}}), "photon-pd", "p"),
        (json!({"portworxVolume": {"volumeID": "x"}}), "portworx-volume", "x"),
        (json!({"quobyte": {"registry": "r:1", "volume": "v"}}), "quobyte", "r:1:v"),
        (json!({"rbd": {"monitors": ["m"], "pool": "rbd", "image": "i"}}), "rbd", "m:rbd:i"),
        (
            json!({"scaleIO": {"gateway": "https://g", "system": "s", "volumeName": "v"}}),
            "scaleio",
            "https://g:s:v",
        ),
        (json!({"storageos": {"volumeName": "v", "volumeNamespace": "n"}}), "storageos", "n:v"),
        (json!({"vsphereVolume": {"volumePath": "[ds] a.vmdk"}}), "vsphere-volume", "[ds] a.vmdk"),
    ];
    for (spec, kind, instance) in &cases {
        let plugin = match *kind {
            "ebs.csi.aws.com" => "csi",
            "flexvolume" => "example.com/lvm",
            kind => kind,
        };
        let expected = (plugin.to_owned(), (*kind).to_owned(), Some((*instance).to_owned()));
        assert_eq!(described(spec), Some(expected), "{spec}");
    }
    assert_eq!(described(&json!({})), None);
    assert_eq!(described(&json!({"nfs": {}})), Some(("nfs".into(), "nfs".into(), None)));
    assert_eq!(described(&json!({"csi": {}})), Some(("csi".into(), "csi".into(), None)));
}

/// Plugin, kind and instance of a volume's source.
fn described(spec: &Value) -> Option<(String, String, Option<String>)> {
    let object = json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": spec});
    let metadata = parsed(&object).unwrap();
    let source = metadata.volumes["pv"].pv.found().unwrap().source.clone()?;
    Some((source.plugin, source.kind, source.instance))
}

/// What is read of a pod of these fields, and the uids that it is known by.
fn read_pod(pod: &Value) -> Option<(Vec<String>, Pod)> {
    let mut pod = pod.clone();
    pod["kind"] = json!("Pod");
    let metadata = parsed(&pod).unwrap();
    let mut uids: Vec<String> = metadata.pods.keys().cloned().collect();
    uids.sort();
    Some((uids, Pod::clone(metadata.pods.values().next()?)))
}

fn with_volumes(volumes: &Value) -> Option<Pod> {
    let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"volumes": volumes}});
    read_pod(&pod).map(|(_, pod)| pod)
}

#[test]
fn a_static_pod_has_the_uids_of_its_annotations() {
    const HASH: &str = "kubernetes.io/config.hash";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    for (annotations, expected) in [
        (json!({HASH: "h", MIRROR: "m", "kubernetes.io/config.source": "file"}), vec!["h", "m", "u"]),
        (json!({HASH: "h", MIRROR: null}), vec!["h", "u"]),
        (json!({"other": {"a": [1]}}), vec!["u"]),
        (json!(7), vec!["u"]),
    ] {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "annotations": annotations});
        let (uids, pod) = read_pod(&json!({"metadata": metadata, "spec": {}})).unwrap();
        assert_eq!(
            (uids, &*pod.namespace, &*pod.name),
            (expected.into_iter().map(Into::into).collect(), "n", "p")
        );
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
        {"name": "null", "nfs": null},
        {"name": 1, "nfs": {}},
        {"nfs": {}},
        "text",
    ]))
    .unwrap();
    let inline = [("csi", "secrets"), ("gce-pd", "disk"), ("v/d", "flex")];
    assert_eq!(pod.inline_volumes, inline.map(|(plugin, name)| (plugin.into(), name.into())).into());
    assert_eq!(pod.claims, ["claim", "p-scratch"].map(Into::into).into());
}

#[test]
fn what_is_of_another_type_is_absent() {
    let object = json!({"a": [1, {"b": null}], "name": {"name": -1}, "volumes": {"name": "x"}});
    for odd in [object, json!(7), json!(-7), json!(1.5), json!(true), json!("t"), json!(null), json!([1, {}])]
    {
        let metadata =
            json!({"name": "p", "uid": "u", "labels": odd, "annotations": odd, "managedFields": odd});
        let (_, read) = read_pod(&json!({"metadata": metadata, "spec": {"x": odd}, "status": odd})).unwrap();
        assert_eq!((&*read.name, read.claims.len()), ("p", 0), "{odd}");
        let pod = with_volumes(&json!([odd, {"name": odd, "persistentVolumeClaim": odd}])).unwrap();
        assert_eq!(
            (pod.claims.len(), pod.inline_volumes.len(), pod.has_more_volumes),
            (0, 0, false),
            "{odd}"
        );
        // A whole file that is not as kubectl prints it says so: such an object is left out.
        let is_list = odd.is_array() || odd.is_null();
        assert_eq!(with_volumes(&odd).is_some(), is_list, "{odd}");
        assert_eq!(
            read_pod(&json!({"metadata": {"name": "p", "uid": "u"}, "spec": odd})).is_some(),
            odd.is_object() && odd.get("volumes").is_none(),
            "{odd}"
        );
    }
    assert!(read_pod(&json!({"metadata": {"name": "x".repeat(254), "uid": "u"}, "spec": {}})).is_none());
}

#[test]
fn more_volumes_than_are_kept_are_told() {
    for (count, has_more) in [(255, false), (256, false), (257, true), (5000, true)] {
        let volume = |n: usize| json!({"name": format!("v{n}"), "nfs": {}});
        let pod = with_volumes(&(0..count).map(volume).collect()).unwrap();
        assert_eq!((pod.inline_volumes.len(), pod.has_more_volumes), (count.min(256), has_more));
    }
}
