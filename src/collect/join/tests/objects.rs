//! Which objects are those of a volume, and which mounts are no volumes by what objects say.

use super::*;
use crate::volume::{ClaimKey, ClaimRef};

fn key(namespace: &str, name: &str) -> ClaimKey {
    ClaimKey { namespace: namespace.into(), name: name.into() }
}

fn pod(name: &str, inline: &[(&str, &str)]) -> Arc<Pod> {
    let own = |(plugin, name): &(&str, &str)| ((*plugin).to_owned(), (*name).to_owned());
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        inline_volumes: inline.iter().map(own).collect(),
    })
}

/// One mount of `pv` by NFS, and all that the cluster has.
fn volume_of(metadata: &Metadata) -> Arc<Volume> {
    let mut grouped = group(&[Arc::new(mount("pv", "nfs", "1"))], metadata);
    assert_eq!((grouped.volumes.len(), grouped.ambiguous, grouped.pending), (1, 0, 0));
    grouped.volumes.remove(0)
}

#[test]
fn a_claim_is_that_which_the_pv_names_if_it_has_the_uid() {
    type Named = (&'static str, &'static str, Option<&'static str>);
    type Case = (&'static str, Option<Named>, &'static [Named], Option<usize>);
    const FIRST: Named = ("shop", "data", Some("1"));
    const SECOND: Named = ("shop", "data", Some("2"));
    const ANY: Named = ("shop", "data", None);
    const OTHER: Named = ("shop", "other", Some("3"));
    const ELSEWHERE: Named = ("bank", "data", Some("4"));
    const OF_POD: Named = ("shop", "web-0-cache", Some("5"));
    const OF_ITS_NAME: Named = ("shop", "pv", Some("6"));
    let cases: [Case; 9] = [
        ("bound", Some(FIRST), &[OTHER, ELSEWHERE, FIRST], Some(2)),
        ("only others", Some(FIRST), &[OTHER, ELSEWHERE], None),
        ("only others, and any uid", Some(ANY), &[OTHER, ELSEWHERE], None),
        ("bound before it was claimed", Some(ANY), &[FIRST], Some(0)),
        ("a claim of unknown uid", Some(FIRST), &[ANY], Some(0)),
        ("released, or the claim is deleted while it is mounted", Some(FIRST), &[], None),
        ("released, and another has the name", Some(FIRST), &[SECOND], None),
        ("a generic ephemeral volume's", Some(OF_POD), &[FIRST, OF_POD], Some(1)),
        ("unbound", None, &[FIRST, OF_ITS_NAME], None),
    ];
    for (what, reference, claims, expected) in cases {
        let claim = reference
            .map(|(namespace, name, uid)| ClaimRef { key: key(namespace, name), uid: uid.map(Into::into) });
        let mut metadata = Metadata::default();
        let pv = PersistentVolume { claim: claim.clone(), ..PersistentVolume::default() };
        metadata.persistent_volumes.insert("pv".into(), Arc::new(pv));
        // The pod's own list never has a generic ephemeral volume.
        metadata.pods.insert("1".into(), pod("web-0", &[]));
        for (namespace, name, uid) in claims {
            let claim = Claim { uid: uid.map(Into::into), ..Claim::default() };
            metadata.claims.insert(key(namespace, name), vec![Arc::new(claim)]);
        }
        let volume = volume_of(&metadata);
        let expected = expected.map(|at| &metadata.claims[&key(claims[at].0, claims[at].1)][0]);
        assert_eq!(volume.claim.object().map(std::ptr::from_ref), expected.map(Arc::as_ptr), "{what}");
        // What the object says of its claim stays, whether there is one or not.
        assert_eq!(volume.claim.key(), claim.as_ref().map(|claim| &claim.key), "{what}");
        // The name alone is another matter: it may be another claim's by now.
        let is_anothers = what == "released, and another has the name";
        let named = claim.as_ref().map(|claim| &claim.key).filter(|_| !is_anothers);
        assert_eq!(volume.claim.current_key().map(|key| &**key), named, "{what}");
        metadata.gone_claims.extend(claim);
        let volume = volume_of(&metadata);
        assert_eq!(volume.claim.current_key(), None, "{what}, and certainly gone");
        assert_eq!(volume.claim.object().map(std::ptr::from_ref), expected.map(Arc::as_ptr), "{what}");
    }
}

#[test]
fn pods_are_found_by_the_uid_in_the_path() {
    // A StatefulSet's pod, the one before it, which had its name, and one that nobody knows.
    let mounts = ["old", "new", "unknown"].map(|uid| Arc::new(mount("pv", "nfs", uid)));
    let found = |known: &[&'static str]| {
        let pods = known.iter().map(|uid| ((*uid).into(), pod("web-0", &[]))).collect();
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
        metadata.pods.insert("1".into(), pod("p", &[(plugin, name)]));
        // Whoever it is that has the name: it is a PV that is not mounted in pod 1.
        for has_pv in [false, true] {
            if has_pv {
                metadata.persistent_volumes.insert("data".into(), Arc::default());
            }
            assert_eq!(grouped(mounts, &metadata), *expected, "{plugin} {name}, has a PV: {has_pv}");
        }
        metadata.pods.clear();
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
        let absent = [absent.to_owned()].into();
        let mut metadata = Metadata { absent, ..Metadata::default() };
        if has_pv {
            metadata.persistent_volumes.insert(NAME.into(), Arc::default());
        }
        if let Some(own) = own {
            metadata.pods.insert("1".into(), pod("p", own));
        }
        let grouped = group(&[Arc::new(mount(NAME, plugin, "1"))], &metadata);
        assert_eq!(grouped.volumes.len(), usize::from(is_volume), "{what}");
        assert_eq!((grouped.ambiguous, grouped.pending), (0, 0), "{what}");
        assert!(grouped.volumes.iter().all(|volume| volume.pv.is_some() == has_pv), "{what}");
    }
}

#[test]
fn what_is_pending_is_left_out_and_counted_by_name() {
    let mut mounts = vec![mount("a", "nfs", "1"), mount("b", "nfs", "1"), mount("b", "nfs", "2")];
    mounts.extend([mount("c", "nfs", "1"), mount("c", "iscsi", "2"), mount("own", "nfs", "1")]);
    let mounts: Vec<_> = mounts.into_iter().map(Arc::new).collect();
    let mut metadata = Metadata::default();
    metadata.pods.insert("1".into(), pod("p", &[("nfs", "own")]));
    let found = |metadata: &Metadata| {
        let grouped = group(&mounts, metadata);
        let names: Vec<_> = grouped.volumes.iter().map(|volume| volume.pv_name.clone()).collect();
        (names.concat(), grouped.ambiguous, grouped.pending)
    };
    assert_eq!(found(&metadata), ("ab".into(), 1, 0));
    metadata.pending = ["b", "not mounted"].map(Into::into).into();
    assert_eq!(found(&metadata), ("a".into(), 1, 1));
    // Who is not answered yet may turn out to be one, and who is known to be a pod's own is not waited for.
    metadata.pending = ["a", "b", "c", "own"].map(Into::into).into();
    assert_eq!(found(&metadata), (String::new(), 0, 3));
}
