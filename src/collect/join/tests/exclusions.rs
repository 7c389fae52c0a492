//! Which volumes are excluded: not by what is not known, nor by what is known of another volume.

use std::time::Duration;

use super::*;
use crate::collect::HOLD_BACK;
use crate::volume::{ClaimKey, ClaimRef};

fn exclusions(fs_types: &str, storage_classes: &str, namespaces: &str) -> Exclusions {
    let [fs_types, storage_classes, namespaces] =
        [fs_types, storage_classes, namespaces].map(|list| list.parse().unwrap());
    Exclusions { fs_types, storage_classes, namespaces }
}

fn of_type(fstype: &str, pod_uid: &str) -> Arc<VolumeMount> {
    Arc::new(VolumeMount { fstype: fstype.into(), ..mount("pv", "nfs", pod_uid) })
}

/// The volume `pv`, of the class `fast` and of a claim in `shop`.
fn bound(claim: Option<Lookup<Claim>>) -> Metadata {
    let key = ClaimKey { namespace: "shop".into(), name: "data".into() };
    let storage_class = Some("fast".to_owned());
    let pv = PersistentVolume {
        claim: Some(ClaimRef { key, uid: None }),
        storage_class,
        ..PersistentVolume::default()
    };
    with_volume("pv", Lookup::Found(Arc::new(pv)), claim)
}

/// How many mounts of `pv` are measured; whether it is excluded; how many names are ambiguous.
fn outcome(
    mounts: &[Arc<VolumeMount>],
    metadata: &Metadata,
    exclusions: &Exclusions,
) -> (usize, bool, usize) {
    let grouped = super::super::group(mounts, metadata, exclusions);
    let measured = grouped.volumes.iter().map(|volume| volume.mounts.len()).sum();
    (measured, grouped.excluded.contains_key("pv"), grouped.ambiguous)
}

#[test]
fn what_is_known_excludes_and_what_is_not_does_not() {
    let mounts = [of_type("nfs4", "1")];
    let known = bound(None);
    let mut of_pod = Metadata::default();
    let pod = Pod { namespace: "shop".into(), ..Pod::default() };
    Arc::make_mut(&mut of_pod.pods).insert("1".into(), Arc::new(pod));
    let unknown = Metadata::default();
    let forbidden = with_volume("pv", Lookup::Forbidden, None);
    for (lists, metadata, is_excluded) in [
        (["nfs", "", ""], &unknown, false),
        (["nfs4", "", ""], &unknown, true),
        (["nfs*", "", ""], &unknown, true),
        (["", "fast", ""], &known, true),
        (["", "*", ""], &unknown, false),
        (["", "*", ""], &forbidden, false),
        (["", "*", "*"], &with_volume("pv", Lookup::Absent, None), false),
        (["", "*", ""], &with_volume("pv", Lookup::Found(Arc::default()), None), false),
        (["", "shop", "fast"], &known, false),
        (["", "", "shop"], &known, true),
        (["", "", "shop"], &of_pod, true),
        (["", "", "*"], &unknown, false),
        (["", "", ""], &known, false),
    ] {
        let [fs_types, classes, namespaces] = lists;
        let expected = (usize::from(!is_excluded), is_excluded, 0);
        assert_eq!(
            outcome(&mounts, metadata, &exclusions(fs_types, classes, namespaces)),
            expected,
            "{lists:?}"
        );
    }
    // The claim is gone, and its volume is still mounted.
    let gone = bound(Some(Lookup::Absent));
    assert_eq!(outcome(&mounts, &gone, &exclusions("", "", "shop")), (0, true, 0));
}

#[test]
fn a_block_volume_has_no_type_of_file_system() {
    let device =
        VolumeMount { mode: VolumeMode::Block, fstype: "devtmpfs".into(), ..mount("pv", "nfs", "1") };
    let mounts = [Arc::new(device)];
    assert_eq!(outcome(&mounts, &bound(None), &exclusions("devtmpfs", "", "")), (1, false, 0));
    assert_eq!(outcome(&mounts, &bound(None), &exclusions("", "fast", "")), (0, true, 0));
}

#[test]
fn of_one_export_the_mounts_of_an_excluded_type_are_not_measured() {
    let mounts = [of_type("nfs", "1"), of_type("nfs4", "2")];
    assert_eq!(outcome(&mounts, &bound(None), &exclusions("nfs", "", "")), (1, false, 0));
    assert_eq!(outcome(&mounts, &bound(None), &exclusions("nfs*", "", "")), (0, true, 0));
}

#[test]
fn exclusions_do_not_make_an_ambiguous_volume_certain() {
    let other = VolumeMount { fstype: "ext4".into(), device: "/dev/sdb".into(), ..mount("pv", "iscsi", "2") };
    let mounts = [of_type("nfs4", "1"), Arc::new(other)];
    assert_eq!(outcome(&mounts, &Metadata::default(), &exclusions("nfs4", "", "")), (0, false, 1));
    assert_eq!(outcome(&mounts, &Metadata::default(), &exclusions("nfs4,ext4", "", "")), (0, true, 0));
}

#[test]
fn where_the_claim_of_an_excluded_volume_is_not_known_its_pods_are_left_out() {
    let grouped = |metadata: &Metadata| {
        let grouped = super::super::group(&[of_type("nfs4", "1")], metadata, &exclusions("nfs4", "", ""));
        let claims: Vec<_> =
            grouped.excluded.into_values().flatten().map(|claim| claim.name.clone()).collect();
        (claims.concat(), grouped.left_out_pods.len())
    };
    assert_eq!(grouped(&bound(None)), ("data".to_owned(), 0));
    assert_eq!(
        grouped(&bound(Some(Lookup::Absent))),
        (String::new(), 1),
        "another claim may have its name by now"
    );
    assert_eq!(grouped(&Metadata::default()), (String::new(), 1));
}

#[test]
fn a_volume_of_which_nothing_is_answered_is_pending_then_measured_and_excluded_when_it_is() {
    let mut joined = JoinedVolumes::new(exclusions("", "fast", ""));
    let waiting = Metadata { awaits_volumes: true, ..Metadata::default() };
    let mounts = || vec![of_type("nfs4", "1")];
    let start = Instant::now();
    let mut outcome = |metadata: Metadata, after| {
        joined.update(mounts(), Arc::new(metadata), start + after);
        (joined.pending, joined.mounts.len(), joined.excluded.len())
    };
    assert_eq!(
        outcome(waiting.clone(), Duration::ZERO),
        (1, 0, 0),
        "a mount that may be excluded is not asked yet"
    );
    assert_eq!(outcome(waiting, HOLD_BACK), (0, 1, 0), "nor left alone for ever");
    assert_eq!(outcome(bound(Some(Lookup::Absent)), 2 * HOLD_BACK), (0, 0, 1));
    // A second pod of it is no volume of its own that is pending.
    let metadata = Metadata { awaits_pods: true, ..bound(Some(Lookup::Absent)) };
    joined.update(
        vec![of_type("nfs4", "1"), of_type("nfs4", "2")],
        Arc::new(metadata),
        start + 3 * HOLD_BACK,
    );
    assert_eq!((joined.pending, joined.mounts.len(), joined.excluded.len()), (0, 0, 1));
}
