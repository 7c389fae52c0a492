use super::*;
use crate::volume::samples::mount;
use crate::volume::{Claim, CsiVolume, Lookup, PersistentVolume, Pod, VolumeMode};

mod exclusions;
mod identity;
mod objects;

fn group(mounts: &[Arc<VolumeMount>], metadata: &Metadata) -> JoinedVolumes {
    super::group(mounts, metadata, &Exclusions::default())
}

fn grouped(mounts: &[VolumeMount], metadata: &Metadata) -> (Vec<(String, usize)>, usize) {
    let grouped = group(&mounts.iter().cloned().map(Arc::new).collect::<Vec<_>>(), metadata);
    let volumes = grouped.volumes.iter();
    (volumes.map(|v| (v.pv_name.clone(), v.mounts.len())).collect(), grouped.ambiguous)
}

/// What the cluster says of one name.
fn with_volume(name: &str, pv: Lookup<PersistentVolume>, claim: Option<Lookup<Claim>>) -> Metadata {
    let volume = VolumeMetadata { pv, claim, pods: None };
    Metadata { volumes: Arc::new([(name.to_owned(), volume)].into()), ..Metadata::default() }
}

fn csi(name: &str, pod_uid: &str, handle: &str, device_number: (u32, u32)) -> VolumeMount {
    VolumeMount {
        csi: Some(CsiVolume { driver: "d".into(), handle: handle.into() }),
        device_number: Some(device_number),
        device: "s3fs".into(),
        ..mount(name, "csi", pod_uid)
    }
}

#[test]
fn one_pv_in_several_pods_is_one_volume() {
    let none = Metadata::default();
    let mounts = [mount("b", "nfs", "1"), mount("a", "nfs", "1"), mount("b", "nfs", "2")];
    assert_eq!(grouped(&mounts, &none), (vec![("a".into(), 1), ("b".into(), 2)], 0));
    let fuse = [csi("pv", "1", "h", (0, 51)), csi("pv", "2", "h", (0, 52))];
    assert_eq!(grouped(&fuse, &none), (vec![("pv".into(), 2)], 0), "the handle tells, not the device");
    let mut unshared = [mount("pv", "nfs", "1"), mount("pv", "nfs", "2")];
    unshared[1].device_number = Some((0, 51));
    assert_eq!(grouped(&unshared, &none), (vec![("pv".into(), 2)], 0), "one export, mounted twice");
}

#[test]
fn names_of_different_volumes_are_ambiguous() {
    let none = Metadata::default();
    let base = mount("data", "nfs", "1");
    let other = |change: &dyn Fn(&mut VolumeMount)| {
        let mut other = mount("data", "nfs", "2");
        change(&mut other);
        [base.clone(), other, mount("fine", "nfs", "3")]
    };
    let ambiguous = (vec![("fine".to_owned(), 1)], 1);
    assert_eq!(grouped(&other(&|m| m.plugin = "iscsi".into()), &none), ambiguous);
    assert_eq!(grouped(&other(&|m| m.mode = VolumeMode::Block), &none), ambiguous);
    assert_eq!(grouped(&other(&|m| m.root = Some("/sub".into())), &none), ambiguous);
    let elsewhere = |m: &mut VolumeMount| {
        m.device_number = Some((0, 51));
        m.device = "other:/export".into();
    };
    assert_eq!(grouped(&other(&elsewhere), &none), ambiguous);
    let handles = [csi("pv", "1", "h1", (8, 0)), csi("pv", "2", "h2", (8, 0))];
    assert_eq!(grouped(&handles, &none), (vec![], 1));
    let disks = [csi("pv", "1", "h", (8, 0)), csi("pv", "2", "h", (8, 16))];
    assert_eq!(grouped(&disks, &none), (vec![], 1), "one may be gone");
    let mut vague = [mount("data", "nfs", "1"), mount("data", "nfs", "2")];
    for (minor, mount) in (51..).zip(&mut vague) {
        mount.device = "tmpfs".into();
        mount.device_number = Some((0, minor));
    }
    vague[0].device_number = None;
    assert_eq!(grouped(&vague[..1], &none), (vec![("data".into(), 1)], 0), "a mount is of its own volume");
    assert_eq!(grouped(&vague, &none), (vec![], 1), "a source that names no place tells nothing");
}

#[test]
fn a_volume_about_which_nothing_changed_stays_the_same_one() {
    let mounts = |names: &[&str]| -> Vec<Arc<VolumeMount>> {
        names.iter().enumerate().map(|(pod, name)| Arc::new(mount(name, "nfs", &pod.to_string()))).collect()
    };
    let mut joined = JoinedVolumes::default();
    let first = mounts(&["a", "b", "c"]);
    joined.update(first.clone(), Arc::default(), Instant::now());
    let before = joined.volumes.clone();
    let metadata = with_volume("b", Lookup::Found(Arc::default()), None);
    let next = [&first[..2], &mounts(&["", "", "", "d"])[3..]].concat();
    joined.update(next, Arc::new(metadata), Instant::now());
    let same = |name: &str| {
        let find = |volumes: &[Arc<Volume>]| volumes.iter().find(|v| v.pv_name == name).cloned();
        Some(Arc::ptr_eq(&find(&before)?, &find(&joined.volumes)?))
    };
    assert_eq!(["a", "b", "c", "d"].map(same), [Some(true), Some(false), None, None]);
    assert_eq!(joined.mounts.iter().map(|mount| mount.name.as_str()).collect::<Vec<_>>(), ["a", "b", "d"]);
}
