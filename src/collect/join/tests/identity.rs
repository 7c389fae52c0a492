//! Which mounts are of the volume that has their name.

use std::slice::from_ref;

use super::*;
use crate::volume::{ClaimKey, ClaimRef, MountedVolume, VolumeSource};

/// Names, with their numbers of mounts, and how many are ambiguous; and the pods that are left out.
fn shown(mounts: &[VolumeMount], metadata: &Metadata) -> (Vec<(String, usize)>, usize, String) {
    let of_volumes = group(&mounts.iter().cloned().map(Arc::new).collect::<Vec<_>>(), metadata);
    let mut left_out: Vec<_> = of_volumes.left_out_pods.into_iter().collect();
    left_out.sort();
    let (volumes, ambiguous) = grouped(mounts, metadata);
    (volumes, ambiguous, left_out.concat())
}

fn volumes(mounts: usize, ambiguous: usize, left_out: &str) -> (Vec<(String, usize)>, usize, String) {
    let names = if mounts > 0 { vec![("data".to_owned(), mounts)] } else { vec![] };
    (names, ambiguous, left_out.to_owned())
}

/// What is known of the name `data`: a volume with this source and of this claim.
fn with_source(plugin: &str, kind: &str, instance: &str, claim: Option<&str>) -> Metadata {
    let source = VolumeSource { plugin: plugin.into(), kind: kind.into(), instance: Some(instance.into()) };
    let key = |name: &str| ClaimKey { namespace: "shop".into(), name: name.into() };
    let claim = claim.map(|name| ClaimRef { key: key(name), uid: None });
    let pv = PersistentVolume { source: Some(source), claim, ..PersistentVolume::default() };
    with_volume("data", Lookup::Found(Arc::new(pv)), None)
}

fn with_pod(mut metadata: Metadata, uid: &str, claims: &[&str]) -> Metadata {
    let claims = claims.iter().map(|claim| (*claim).to_owned()).collect();
    let pod = Pod { namespace: "shop".into(), claims, ..Pod::default() };
    Arc::make_mut(&mut metadata.pods).insert(uid.into(), Arc::new(pod));
    metadata
}

fn nfs(pod_uid: &str, device: &str, minor: u32) -> VolumeMount {
    let number = Some((0, minor));
    VolumeMount { device: device.into(), device_number: number, ..mount("data", "nfs", pod_uid) }
}

#[test]
fn a_mount_that_contradicts_the_pv_neither_hides_its_volume_nor_has_its_labels() {
    let (own, other) = (nfs("1", "nas:/data", 50), nfs("2", "evil:/other", 51));
    let pv = with_source("nfs", "nfs", "nas:/data", None);
    for mounts in [[own.clone(), other.clone()], [other.clone(), own.clone()]] {
        assert_eq!(shown(&mounts, &pv), volumes(1, 0, "2"));
        assert!(group(&mounts.map(Arc::new), &pv).volumes[0].pv.is_some());
    }
    assert_eq!(shown(from_ref(&other), &pv), volumes(0, 0, "2"), "not even alone");
    let of_csi = with_source("csi", "d", "h1", None);
    let mounts = [csi("data", "1", "h1", (8, 0)), csi("data", "2", "h2", (8, 1)), own.clone()];
    assert_eq!(shown(&mounts[..2], &of_csi), volumes(1, 0, "2"), "an earlier volume of the name");
    assert_eq!(shown(&mounts, &of_csi), volumes(1, 0, "12"), "and a pod's own");
    // What is not contradicted and disagrees is ambiguous still.
    let renamed = nfs("2", "other-name-of-nas:/data", 51);
    assert_eq!(shown(&[own, renamed], &pv), volumes(0, 1, "12"));
}

#[test]
fn the_pod_object_decides_whether_an_nfs_mount_is_of_a_claim() {
    let pv = || with_source("nfs", "nfs", "nas:/data", Some("c"));
    let shared = nfs("1", "first-mounter:/another/path", 50);
    assert_eq!(shown(from_ref(&shared), &pv()), volumes(0, 0, "1"), "the pod is not known");
    assert_eq!(shown(from_ref(&shared), &with_pod(pv(), "1", &["c"])), volumes(1, 0, ""));
    // The claim also proves that the mount of an unknown pod is another volume.
    let unknown = nfs("2", "evil:/data", 51);
    assert_eq!(shown(&[shared, unknown], &with_pod(pv(), "1", &["c"])), volumes(1, 0, "2"));
}

#[test]
fn mounts_of_pods_that_use_the_volumes_claim_are_of_one_volume() {
    let fuse = |uid: &str, number| {
        let fuse = VolumeMount { device: "s3fs".into(), device_number: Some(number), ..nfs(uid, "", 0) };
        VolumeMount { plugin: "acme/s3".into(), fstype: "fuse.s3fs".into(), ..fuse }
    };
    let mounts = [fuse("1", (0, 61)), fuse("2", (0, 62))];
    let of_one = with_pod(with_source("acme/s3", "acme/s3", "", Some("c")), "1", &["c"]);
    let of_both = with_pod(of_one.clone(), "2", &["c"]);
    assert_eq!(shown(&mounts, &of_both), volumes(2, 0, ""));
    assert_eq!(shown(&mounts, &of_one), volumes(1, 0, "2"), "nothing tells about the other");
    let of_others = with_pod(of_one, "2", &["another"]);
    assert_eq!(shown(&mounts, &of_others), volumes(1, 0, "2"));
    let disks = [fuse("1", (8, 0)), fuse("2", (8, 16))];
    assert_eq!(shown(&disks, &of_both), volumes(0, 1, "12"), "one may be gone");
}

#[test]
fn a_name_that_vol_data_proves_beats_one_that_only_a_path_tells() {
    let proven = csi("data", "1", "h", (8, 0));
    let (inline, unread) = (nfs("2", "nas:/data", 51), VolumeMount { csi: None, ..proven.clone() });
    let unread =
        |number| VolumeMount { pod_uid: Some("3".into()), device_number: Some(number), ..unread.clone() };
    for metadata in [Metadata::default(), with_source("csi", "d", "h", None)] {
        for mounts in [[proven.clone(), inline.clone()], [inline.clone(), proven.clone()]] {
            assert_eq!(shown(&mounts, &metadata), volumes(1, 0, "2"));
        }
        let mounts = [unread((8, 0)), proven.clone()];
        assert_eq!(shown(&mounts, &metadata), volumes(2, 0, ""), "a half-written vol_data.json");
        let first = &group(&mounts.map(Arc::new), &metadata).volumes[0].mounts[0];
        assert!(first.mount.csi.is_some(), "who is known gives the figures");
        let elsewhere = VolumeMount { device: "fuse".into(), ..unread((0, 60)) };
        assert_eq!(shown(&[elsewhere, proven.clone()], &metadata), volumes(1, 0, "3"));
    }
}

#[test]
fn a_mount_of_an_earlier_volume_of_the_name_is_left_out() {
    let mut metadata = with_source("nfs", "nfs", "nas:/data", None);
    let volume = Arc::make_mut(&mut metadata.volumes).get_mut("data").unwrap();
    let pods = [("1", MountedVolume::Earlier), ("2", MountedVolume::Current)];
    volume.pods = Some(Arc::new(pods.map(|(uid, volume)| (uid.to_owned(), volume)).into()));
    let mounts = [nfs("1", "nas:/data", 50), nfs("2", "nas:/data", 50)];
    assert_eq!(shown(&mounts, &metadata), volumes(1, 0, "1"));
    assert_eq!(shown(&mounts[..1], &metadata), volumes(0, 0, "1"));
    assert!(metadata.is_answered(&mounts[0]));
}
