//! Which objects are those of a volume, and which mounts are no volumes by what objects say.

use super::*;
use crate::volume::{ClaimKey, ClaimRef, MountedVolume};

fn key(namespace: &str, name: &str) -> ClaimKey {
    ClaimKey { namespace: namespace.into(), name: name.into() }
}

fn pod(name: &str, inline: &[(&str, &str)]) -> Arc<Pod> {
    let own = |(plugin, name): &(&str, &str)| ((*plugin).to_owned(), (*name).to_owned());
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        inline_volumes: inline.iter().map(own).collect(),
        claims: ["another".to_owned()].into(),
        ..Pod::default()
    })
}

#[test]
fn the_claim_is_what_was_answered_about_the_one_that_the_pv_names() {
    let reference = ClaimRef { key: key("shop", "data"), uid: Some("1".into()) };
    for (answer, is_current) in [
        (None, true),
        (Some(Lookup::Forbidden), true),
        (Some(Lookup::Absent), false),
        (Some(Lookup::Found(Arc::default())), true),
    ] {
        let pv = PersistentVolume { claim: Some(reference.clone()), ..PersistentVolume::default() };
        let metadata = with_volume("pv", Lookup::Found(Arc::new(pv)), answer.clone());
        let claim = group(&[Arc::new(mount("pv", "nfs", "1"))], &metadata).volumes.remove(0).claim.clone();
        assert_eq!(claim, BoundClaim { key: Some(Arc::new(key("shop", "data"))), object: answer });
        // The name may be another claim's by now.
        assert_eq!(claim.current_key().is_some(), is_current, "{claim:?}");
        let is_known = matches!(claim.object, Some(Lookup::Found(_)));
        assert_eq!(claim.object().is_some(), is_known, "{claim:?}");
    }
    let unbound = with_volume("pv", Lookup::Found(Arc::default()), None);
    let volume = group(&[Arc::new(mount("pv", "nfs", "1"))], &unbound).volumes.remove(0);
    assert_eq!(volume.claim, BoundClaim::default());
}

/// The name of a `PersistentVolume` may be another one's by the time that another pod mounts it.
#[test]
fn answers_hold_for_the_pods_that_they_are_about_and_for_those_that_use_the_claim() {
    let reference = ClaimRef { key: key("shop", "alpha"), uid: None };
    let pv = PersistentVolume { claim: Some(reference), ..PersistentVolume::default() };
    let mut metadata = with_volume("pv", Lookup::Found(Arc::new(pv)), Some(Lookup::Absent));
    let volumes = Arc::make_mut(&mut metadata.volumes);
    let pods = ["asked", ""].map(|uid| (uid.to_owned(), MountedVolume::Current));
    volumes.get_mut("pv").unwrap().pods = Some(Arc::new(pods.into()));
    let uses = |namespace: &str, claim: &str, has_more_volumes| {
        let claims = [claim.to_owned()].into();
        Arc::new(Pod { namespace: namespace.into(), claims, has_more_volumes, ..Pod::default() })
    };
    let pods = Arc::make_mut(&mut metadata.pods);
    pods.insert("uses-it".into(), uses("shop", "alpha", false));
    pods.insert("uses-another".into(), uses("shop", "beta", false));
    pods.insert("elsewhere".into(), uses("bank", "alpha", false));
    pods.insert("uses-many".into(), uses("shop", "beta", true));
    for (uid, holds) in [
        ("asked", true),
        ("uses-it", true),
        ("uses-another", false),
        ("elsewhere", false),
        ("uses-many", false),
        ("unknown", false),
    ] {
        let mount = VolumeMount { csi: csi("pv", uid, "h", (8, 0)).csi, ..mount("pv", "csi", uid) };
        assert_eq!(metadata.volume(&mount).is_some(), holds, "{uid}");
        assert_eq!(group(&[Arc::new(mount)], &metadata).volumes[0].pv.is_some(), holds, "{uid}");
    }
    assert!(metadata.volume(&VolumeMount { pod_uid: None, ..mount("pv", "nfs", "") }).is_some());
}

#[test]
fn of_a_pod_with_more_volumes_than_are_kept_a_mount_without_a_handle_is_left_out() {
    let many = Pod { has_more_volumes: true, ..Pod::default() };
    let pods = [("many".to_owned(), Arc::new(many)), ("few".to_owned(), Arc::default())];
    let metadata = Metadata { pods: Arc::new(pods.into()), ..Metadata::default() };
    let unproven = || mount("pv", "nfs", "many");
    assert_eq!(grouped(&[unproven()], &metadata), (vec![], 1));
    assert_eq!(grouped(&[unproven(), mount("pv", "nfs", "few")], &metadata), (vec![("pv".into(), 1)], 1));
    assert_eq!(grouped(&[csi("pv", "many", "h", (8, 0))], &metadata), (vec![("pv".into(), 1)], 0));
    let left_out = group(&[Arc::new(unproven())], &metadata).left_out_pods;
    assert_eq!(left_out, ["many".to_owned()].into());
}

#[test]
fn pods_are_found_by_the_uid_in_the_path() {
    // A StatefulSet's pod, the one before it, which had its name, and one that nobody knows.
    let mounts = ["old", "new", "unknown"].map(|uid| Arc::new(mount("pv", "nfs", uid)));
    let found = |known: &[&'static str]| {
        let pods = Arc::new(known.iter().map(|uid| ((*uid).into(), pod("web-0", &[]))).collect());
        let metadata = Metadata { pods, ..Metadata::default() };
        let volume = Arc::clone(&group(&mounts, &metadata).volumes[0]);
        let uid_of = |found: &Arc<Pod>| known.iter().find(|uid| Arc::ptr_eq(found, &metadata.pods[**uid]));
        volume.mounts.iter().map(|of| of.pod.as_ref().and_then(uid_of).copied()).collect::<Vec<_>>()
    };
    assert_eq!(found(&["old", "new"]), [Some("old"), Some("new"), None]);
    assert_eq!(found(&["new"]), [None, Some("new"), None]);
    assert_eq!(found(&["old"]), [Some("old"), None, None]);
    assert_eq!(found(&[]), [None; 3]);
}

#[test]
fn a_pods_own_volume_is_no_pv() {
    let mut elsewhere = mount("data", "nfs", "2");
    elsewhere.device = "other:/export".into();
    elsewhere.device_number = Some((0, 51));
    let nfs = || [mount("data", "nfs", "1"), elsewhere.clone()];
    let csi = || [csi("data", "1", "h1", (0, 51)), csi("data", "2", "h2", (0, 52))];
    let cases = [
        (nfs(), "nfs", "data", (vec![("data".to_owned(), 1)], 0)),
        (nfs(), "iscsi", "data", (vec![], 1)),
        (nfs(), "nfs", "other", (vec![], 1)),
        (csi(), "csi", "data", (vec![("data".to_owned(), 1)], 0)),
        (csi(), "nfs", "data", (vec![], 1)),
    ];
    for (mounts, plugin, name, expected) in &cases {
        let mut metadata = Metadata::default();
        // Whoever it is that has the name: it is a PV that is not mounted in pod 1.
        for has_pv in [false, true] {
            if has_pv {
                metadata = with_volume("data", Lookup::Found(Arc::default()), None);
            }
            metadata.pods = Arc::new([("1".to_owned(), pod("p", &[(plugin, name)]))].into());
            assert_eq!(grouped(mounts, &metadata), *expected, "{plugin} {name}, has a PV: {has_pv}");
        }
        metadata.pods = Arc::default();
        assert_eq!(grouped(mounts, &metadata), (vec![], 1), "of an unknown pod");
    }
}

/// The kubelet gives a pod's own volume that CSI serves a name that nobody else knows.
#[test]
fn a_name_that_is_no_pvs_is_a_migrated_volume_of_a_pod_that_has_one() {
    const NAME: &str = "pd.csi.storage.gke.io-disk-1";
    type Own = &'static [(&'static str, &'static str)];
    type Case = (&'static str, &'static str, &'static str, bool, Option<Own>, bool);
    const MIGRATED: Own = &[("nfs", "a"), ("gce-pd", "b")];
    let cases: [Case; 9] = [
        ("it is", "csi", NAME, false, Some(MIGRATED), false),
        ("of its own name", "csi", NAME, false, Some(&[("csi", NAME)]), false),
        ("not answered", "csi", "", false, Some(MIGRATED), true),
        ("another is absent", "csi", "other", false, Some(MIGRATED), true),
        ("not migrated", "csi", NAME, false, Some(&[("nfs", "b"), ("csi", "c")]), true),
        ("a pod without one", "csi", NAME, false, Some(&[]), true),
        ("an unknown pod", "csi", NAME, false, None, true),
        ("not mounted by CSI", "gce-pd", NAME, false, Some(MIGRATED), true),
        ("the object of a PV that was deleted is known", "csi", NAME, true, Some(MIGRATED), true),
    ];
    for (what, plugin, absent, has_pv, own, is_volume) in cases {
        let mut metadata = if has_pv {
            with_volume(NAME, Lookup::Found(Arc::default()), None)
        } else {
            with_volume(absent, Lookup::Absent, None)
        };
        metadata.awaits_volumes = true;
        if let Some(own) = own {
            metadata.pods = Arc::new([("1".to_owned(), pod("p", own))].into());
        }
        let grouped = group(&[Arc::new(mount(NAME, plugin, "1"))], &metadata);
        assert_eq!(grouped.volumes.len(), usize::from(is_volume), "{what}");
        assert_eq!(grouped.ambiguous, 0, "{what}");
        assert!(grouped.volumes.iter().all(|volume| volume.pv.is_some() == has_pv), "{what}");
    }
}
