//! Holds new mounts back until the cluster has answered about them, so that a series begins with its final labels.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::volume::{Metadata, VolumeMount};

/// How long a mount is held back, from its first sight.
pub(crate) const HOLD_BACK: Duration = Duration::from_secs(10);

/// A volume's name and the uid of the pod that mounts it.
type MountKey = (String, Option<String>);

/// The mounts that are held back, and when they were first seen.
#[derive(Debug, Default)]
pub(super) struct HoldBack(HashMap<MountKey, Instant>);

fn key(mount: &VolumeMount) -> MountKey {
    (mount.name.clone(), mount.pod_uid.clone())
}

impl HoldBack {
    /// Holds back mounts that were not there before, until their metadata is answered or they were held back long enough.
    /// A released mount is not held again.
    pub(super) fn update(
        &mut self,
        before: &[Arc<VolumeMount>],
        mounts: &[Arc<VolumeMount>],
        metadata: &Metadata,
        now: Instant,
    ) {
        let held = std::mem::take(&mut self.0);
        let known: HashSet<MountKey> = before.iter().map(|mount| key(mount)).collect();
        let first_seen =
            |key: &MountKey| held.get(key).copied().or_else(|| (!known.contains(key)).then_some(now));
        let seen = mounts.iter().map(|mount| key(mount)).filter_map(|key| Some((first_seen(&key)?, key)));
        let recent = seen.filter(|(first_seen, _)| now < *first_seen + HOLD_BACK);
        self.0 = recent.map(|(first_seen, key)| (key, first_seen)).collect();
        if self.0.is_empty() {
            return;
        }
        for mount in mounts.iter().filter(|mount| metadata.is_answered(mount)) {
            self.0.remove(&key(mount));
        }
    }

    /// Whether this mount is held back.
    pub(super) fn holds(&self, mount: &VolumeMount) -> bool {
        !self.0.is_empty() && self.0.contains_key(&key(mount))
    }

    /// Whether a mount is held back that need not be any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.0.values().any(|first_seen| now >= *first_seen + HOLD_BACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::join::JoinedVolumes;
    use crate::volume::samples::mount;
    use crate::volume::{Lookup, PersistentVolume, Pod, VolumeMetadata};

    const SECOND: Duration = Duration::from_secs(1);

    /// The volumes that are shown, and how many are pending.
    struct Collector(JoinedVolumes, Metadata, Instant);

    impl Collector {
        fn new(awaits_volumes: bool, awaits_pods: bool) -> Self {
            let metadata = Metadata { awaits_volumes, awaits_pods, ..Metadata::default() };
            Self(JoinedVolumes::default(), metadata, Instant::now())
        }

        fn answer(&mut self, name: &str, claim: Option<Lookup<crate::volume::Claim>>) {
            let reference = crate::volume::ClaimRef {
                key: crate::volume::ClaimKey { namespace: "shop".into(), name: name.into() },
                uid: None,
            };
            let pv = PersistentVolume { claim: Some(reference), ..PersistentVolume::default() };
            let volume = VolumeMetadata { pv: Lookup::Found(Arc::new(pv)), claim, pods: None };
            Arc::make_mut(&mut self.1.volumes).insert(name.into(), volume);
        }

        fn tell_pod(&mut self, uid: &str, inline: &[&str]) {
            let inline_volumes = inline.iter().map(|name| ("nfs".into(), (*name).into())).collect();
            Arc::make_mut(&mut self.1.pods)
                .insert(uid.into(), Arc::new(Pod { inline_volumes, ..Pod::default() }));
        }

        fn pass(&mut self, time: Duration) {
            self.2 += time;
        }

        fn collect(&mut self, mounts: &[(&str, &str)]) -> (String, usize) {
            let mounts = mounts.iter().map(|(name, uid)| Arc::new(mount(name, "nfs", uid))).collect();
            self.0.update(mounts, Arc::new(self.1.clone()), self.2);
            let shown: Vec<&str> = self.0.mounts.iter().map(|mount| mount.name.as_str()).collect();
            (shown.concat(), self.0.pending)
        }
    }

    fn shows(names: &str, pending: usize) -> (String, usize) {
        (names.to_owned(), pending)
    }

    #[test]
    fn a_mount_is_held_back_until_its_pv_claim_and_pod_are_answered() {
        let mut collector = Collector::new(true, true);
        let mounts = [("a", "1")];
        assert_eq!(collector.collect(&mounts), shows("", 1));
        collector.answer("a", None);
        assert_eq!(collector.collect(&mounts), shows("", 1), "its claim is not answered");
        collector.answer("a", Some(Lookup::Absent));
        assert_eq!(collector.collect(&mounts), shows("", 1), "its pod is not known");
        assert!(collector.0.left_out_pods.contains("1"));
        collector.tell_pod("1", &[]);
        assert_eq!(collector.collect(&mounts), shows("a", 0));
        assert!(collector.0.left_out_pods.is_empty());
    }

    #[test]
    fn a_mount_is_held_back_for_ten_seconds_and_no_longer() {
        let mut collector = Collector::new(true, true);
        collector.collect(&[("a", "1")]);
        collector.pass(9 * SECOND);
        assert_eq!(collector.collect(&[("a", "1"), ("b", "1")]), shows("", 2));
        collector.pass(SECOND);
        assert_eq!(collector.collect(&[("a", "1"), ("b", "1")]), shows("a", 1));
        // Unmounted and mounted again, it is a new one.
        assert_eq!(collector.collect(&[("b", "1")]), shows("", 1));
        assert_eq!(collector.collect(&[("a", "1"), ("b", "1")]), shows("", 2));
    }

    #[test]
    fn what_was_shown_once_is_not_held_back_again() {
        let mut collector = Collector::new(true, true);
        collector.tell_pod("1", &[]);
        collector.answer("a", Some(Lookup::Absent));
        assert_eq!(collector.collect(&[("a", "1")]), shows("a", 0));
        collector.answer("a", None);
        assert_eq!(collector.collect(&[("a", "1")]), shows("a", 0));
        // A second mount of it waits for its pod; the first one stays.
        assert_eq!(collector.collect(&[("a", "1"), ("a", "2")]), shows("a", 0));
        collector.pass(HOLD_BACK);
        assert_eq!(collector.collect(&[("a", "1"), ("a", "2")]), shows("aa", 0));
    }

    #[test]
    fn where_nothing_more_is_answered_nothing_is_held_back() {
        for (awaits_volumes, awaits_pods, expected) in
            [(false, false, shows("a", 0)), (true, false, shows("", 1)), (false, true, shows("", 1))]
        {
            assert_eq!(Collector::new(awaits_volumes, awaits_pods).collect(&[("a", "1")]), expected);
        }
        let mut collector = Collector::new(true, true);
        collector.tell_pod("1", &["own"]);
        assert_eq!(collector.collect(&[("own", "1")]), shows("", 0), "a pod's own volume");
    }
}
