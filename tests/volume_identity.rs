use std::fs;
use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use disk_usage_exporter::volume::VolumeMount;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::apiserver::{Fault, PVS, Server};
use crate::support::exporter::run;
use crate::support::exposition::Exposition;
use crate::support::fixture::answering;
use crate::support::objects::{NODE, claim, claim_of, pod, pv};
use crate::support::virtual_node::{MINUTE, SECOND, VirtualNode, mount, of_version, pass};

/// A row of the mount table: pod, plugin, name, what is mounted, and for CSI the driver and handle of `vol_data.json`.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, Option<(&'a str, &'a str)>);

const OWNER: &str = "00000001-0000-4000-8000-000000000000";
const TENANT: &str = "00000002-0000-4000-8000-000000000000";

/// What is shown of a recorded node with these mounts and objects.
fn shown(rows: &[Row<'_>], objects: &[Value]) -> Exposition {
    let directory = tempfile::tempdir().unwrap();
    write_node(&directory, rows, objects);
    let output = run(&[&format!("--fixture={}", directory.path().display()), "metrics"]);
    assert!(output.status.success(), "{output:?}");
    Exposition::parse(&String::from_utf8(output.stdout).unwrap())
}

fn write_node(directory: &TempDir, rows: &[Row<'_>], objects: &[Value]) {
    let (mut table, mut figures) = (Vec::new(), Map::new());
    for (minor, (pod, plugin, name, source, csi)) in (50..).zip(rows) {
        let volume = format!("/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~{plugin}/{name}");
        let mountpoint = if *plugin == "csi" { format!("{volume}/mount") } else { volume.clone() };
        table.push(format!("{minor} 1 0:{minor} / {mountpoint} rw - nfs4 {source} rw\n"));
        figures.insert(mountpoint, answering());
        if let Some((driver, handle)) = csi {
            let data =
                json!({"specVolID": name.replace('~', "/"), "driverName": driver, "volumeHandle": handle});
            let path = directory.path().join("rootfs").join(volume.strip_prefix('/').unwrap());
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("vol_data.json"), data.to_string()).unwrap();
        }
    }
    let write = |name: &str, text: String| fs::write(directory.path().join(Path::new(name)), text).unwrap();
    write("mountinfo", table.concat());
    write("statvfs.json", Value::Object(figures).to_string());
    write("objects.json", json!({"kind": "List", "items": objects}).to_string());
}

/// The volumes, with their tiers and numbers of mounts, and how many names are ambiguous.
fn volumes(scrape: &Exposition) -> (Vec<String>, f64) {
    let up = scrape.all("pv_disk_usage_up", &[]).into_iter();
    let of = |labels: &[(String, String)], name: &str| {
        labels.iter().find(|(key, _)| key == name).map_or("-".to_owned(), |(_, value)| value.clone())
    };
    let text = |labels: &[(String, String)]| {
        let name = of(labels, "pv_name");
        let mounts = scrape.all("pv_disk_usage_mount_info", &[("pv_name", &name)]).len();
        format!("{name} {} {mounts}", of(labels, "pv_tier"))
    };
    let ambiguous = scrape.value("disk_usage_exporter_ambiguous_volumes", &[]).unwrap();
    (up.map(|(labels, _)| text(labels)).collect(), ambiguous)
}

fn with_source(name: &str, source: &Value) -> Value {
    let mut object = pv(name, "", "gold");
    object["spec"] = source.clone();
    object["spec"]["claimRef"] = json!({"namespace": "shop", "name": claim_of("data")});
    object
}

#[test]
fn an_inline_volume_that_is_named_like_a_pv_neither_hides_it_nor_has_its_labels() {
    let nfs = with_source("pv", &json!({"nfs": {"server": "nas", "path": "/data"}}));
    let ebs = with_source("pv", &json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"}}));
    let owner = pod(OWNER, &["data"]);
    let inline = |mut pod: Value| {
        pod["spec"]["volumes"] = json!([{"name": "pv", "nfs": {"server": "evil", "path": "/data"}}]);
        pod
    };
    let of_nfs: [Row<'_>; 2] =
        [(OWNER, "nfs", "pv", "nas:/data", None), (TENANT, "nfs", "pv", "evil:/other", None)];
    let of_csi: [Row<'_>; 2] =
        [(OWNER, "csi", "pv", "/dev/sdb", Some(("ebs.csi.aws.com", "vol-1"))), of_nfs[1]];
    let gold = (vec!["pv gold 1".to_owned()], 0.0);
    // Whether the pods are known, both or one of them.
    let tenant = inline(pod(TENANT, &[""; 0]));
    for pods in [&[owner.clone(), tenant.clone()][..], &[owner], &[tenant], &[]] {
        for (object, rows) in [(&nfs, of_nfs), (&ebs, of_csi)] {
            let objects = [from_ref(object), pods].concat();
            for rows in [[rows[0], rows[1]], [rows[1], rows[0]]] {
                assert_eq!(volumes(&shown(&rows, &objects)), gold, "{rows:?} {pods:?}");
            }
            assert_eq!(volumes(&shown(&rows[1..], &objects)), (vec![], 0.0), "{rows:?} {pods:?}");
        }
    }
    // Without any object, the kubelet's own note tells.
    assert_eq!(volumes(&shown(&of_csi, &[])), (vec!["pv - 1".to_owned()], 0.0));
    // The first mounter's name of the server is shown to all; the path is not that of another export.
    let renamed: [Row<'_>; 1] = [(OWNER, "nfs", "pv", "other-name:/data/", None)];
    assert_eq!(volumes(&shown(&renamed, &[nfs])), gold);
}

#[test]
fn migrated_inline_volumes_are_left_out_where_a_file_of_objects_has_not_their_names() {
    let rows: [Row<'_>; 4] = [
        (OWNER, "csi", "pvc-gce", "/dev/sda", Some(("pd.csi.storage.gke.io", "projects/p/zones/z/disks/d"))),
        (TENANT, "csi", "ebs.csi.aws.com-vol-own", "/dev/sdb", Some(("ebs.csi.aws.com", "vol-own"))),
        (TENANT, "csi", "~subscriptions~1~d", "/dev/sdc", Some(("disk.csi.azure.com", "/subscriptions/1/d"))),
        (TENANT, "csi", "pvc-used", "/dev/sdd", Some(("ebs.csi.aws.com", "vol-2"))),
    ];
    let mut own = pod(TENANT, &["other"]);
    let volumes_of_pod = own["spec"]["volumes"].as_array_mut().unwrap();
    volumes_of_pod.push(json!({"name": "v", "awsElasticBlockStore": {"volumeID": "vol-own"}}));
    volumes_of_pod
        .push(json!({"name": "w", "azureDisk": {"diskName": "d", "diskURI": "/subscriptions/1/d"}}));
    let gce = with_source("pvc-gce", &json!({"gcePersistentDisk": {"pdName": "d"}}));
    let used = with_source("pvc-used", &json!({"awsElasticBlockStore": {"volumeID": "aws://z/vol-2"}}));
    let objects = [gce, used, pod(OWNER, &["data"]), own];
    let expected = ["pvc-gce gold 1", "pvc-used gold 1"].map(ToOwned::to_owned).to_vec();
    assert_eq!(volumes(&shown(&rows, &objects)), (expected, 0.0));
}

/// The kubelet of the node could not unmount the first volume of the name, and mounts the second.
#[tokio::test(start_paused = true)]
async fn a_pod_that_hangs_in_the_unmount_of_an_earlier_volume_has_no_labels_of_the_new_one() {
    for has_pods in [true, false] {
        let server = Server::new();
        server.put([
            pv("pv", &claim_of("alpha"), "alpha"),
            claim(&claim_of("alpha"), "alpha"),
            pod("a", &["alpha"]),
        ]);
        let mut node = VirtualNode::start_as(has_pods.then_some(NODE), &server, &[("pv", "a")]);
        pass(2 * SECOND).await;
        server.remove([pv("pv", "", "")]);
        server.put([
            of_version(pv("pv", &claim_of("beta"), "beta"), "uid-b", 0),
            claim(&claim_of("beta"), "beta"),
            pod("b", &["beta"]),
        ]);
        pass(SECOND).await;
        for _ in 0..3 {
            node.mount(&[("pv", "a"), ("pv", "b")]);
            pass(MINUTE).await;
            assert_eq!((node.tiers("pv", "b").as_str(), node.tiers("pv", "a").as_str()), ("beta beta", "?"));
        }
        let requests = node.gets().len();
        pass(10 * MINUTE).await;
        assert_eq!(node.gets().len(), requests, "it does not have the volume be asked about again and again");
        // A third pod that uses the new volume is no earlier one.
        server.put([pod("c", &["beta"])]);
        pass(SECOND).await;
        node.mount(&[("pv", "a"), ("pv", "b"), ("pv", "c")]);
        pass(Duration::from_secs(2)).await;
        assert_eq!(node.tiers("pv", "c"), "beta beta");
    }
}

/// A claim of the same name was made again, and the first pod hangs: nothing but the handle tells.
#[tokio::test(start_paused = true)]
async fn a_mount_that_contradicts_what_is_known_has_its_volume_be_looked_up_and_confirmed() {
    let of_handle = |handle: &str, tier: &str| {
        let mut object = pv("pv", &claim_of("data"), tier);
        object["spec"]["nfs"]["path"] = json!(handle);
        object
    };
    // The server's cache may lag behind.
    for lags in [false, true] {
        let server = Server::new();
        server.put([of_handle("/pv", "old"), claim(&claim_of("data"), "old")]);
        let old = of_version(of_handle("/pv", "old"), "uid-of-pv", 1);
        let mut node = VirtualNode::start_as(None, &server, &[("pv", "a")]);
        let mut renewed = mount("pv", "b");
        renewed.device = "nas:/renewed".into();
        pass(2 * SECOND).await;
        server.remove([pv("pv", "", "")]);
        server.put([of_version(of_handle("/renewed", "new"), "uid-b", 0)]);
        if lags {
            server.fault(PVS, Fault::Body(old.to_string()), 1);
        }
        let mounts = [Arc::new(mount("pv", "a")), Arc::new(renewed)];
        node.handle.update(&mounts);
        pass(2 * SECOND).await;
        let metadata = node.handle.metadata();
        let tier = |mount: &VolumeMount| {
            let pv = metadata.volume(mount)?.pv.found()?.clone();
            Some((pv.labels["tier"].clone(), metadata.contradicts(&pv, mount)))
        };
        assert_eq!(tier(&mounts[1]), Some(("new".into(), false)), "{lags}");
        assert!(metadata.is_of_earlier_volume(&mounts[0]));
    }
}
