//! The pods of this node by the uids that the kubelet's paths carry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::slim_pod::SlimPod;
use crate::volume::Pod;

#[derive(Debug)]
struct IndexedPod {
    /// The object's uid, which is not always the one that the path carries.
    uid: Option<String>,
    pod: Arc<Pod>,
    /// The start of the watch that sent it last; `None` once it was deleted.
    seen_in: Option<u64>,
}

/// The pods. One that is gone is kept while a volume of it is mounted, so that labels do not flap.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    by_uid: HashMap<String, IndexedPod>,
    /// How often the watch has started from the beginning, and the last start of which every pod was sent.
    starts: u64,
    complete_start: u64,
    /// Pods that are not known yet will be told.
    pub(super) is_awaited: bool,
}

impl PodIndex {
    pub(super) fn new(is_awaited: bool) -> Self {
        Self { is_awaited, ..Self::default() }
    }

    /// The watch sends every pod again.
    pub(super) fn restart(&mut self) {
        self.starts += 1;
    }

    /// The watch has sent every pod: those that it did not send are gone. Returns whether it had just restarted.
    pub(super) fn finish_restart(&mut self) -> bool {
        std::mem::replace(&mut self.complete_start, self.starts) != self.starts
    }

    /// Adds a pod; whether it is another than is known. What is used of it never changes, so an older state from a server
    /// that lags behind does no harm.
    pub(super) fn put(&mut self, pod: SlimPod) -> bool {
        let SlimPod { uid: owner, path_uids, pod, .. } = pod;
        let Some(pod) = pod.map(Arc::new) else { return false };
        let mut is_changed = false;
        for uid in path_uids {
            let known = self.by_uid.get(&uid);
            // Any pod can have any annotation: it does not replace the pod of that very uid.
            if known.is_some_and(|known| known.uid.as_ref() == Some(&uid) && known.uid != owner) {
                continue;
            }
            let same = known.map(|known| &known.pod).filter(|known| **known == pod);
            is_changed |= same.is_none();
            let pod = Arc::clone(same.unwrap_or(&pod));
            self.by_uid.insert(uid, IndexedPod { uid: owner.clone(), pod, seen_in: Some(self.starts) });
        }
        is_changed
    }

    /// The pod was deleted; whether it was known.
    pub(super) fn remove(&mut self, pod: &SlimPod) -> bool {
        let entries = self.by_uid.values_mut().filter(|entry| entry.uid == pod.uid);
        entries.map(|entry| entry.seen_in = None).count() > 0
    }

    /// Drops pods that are gone and mount nothing here.
    pub(super) fn drop_gone(&mut self, mounting: &HashSet<&str>) {
        let is_there = |entry: &IndexedPod| entry.seen_in >= Some(self.complete_start);
        self.by_uid.retain(|uid, entry| is_there(entry) || mounting.contains(uid.as_str()));
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.by_uid.get(uid).map(|entry| &entry.pod)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// All pods.
    pub(super) fn to_map(&self) -> HashMap<String, Arc<Pod>> {
        self.by_uid.iter().map(|(uid, entry)| (uid.clone(), Arc::clone(&entry.pod))).collect()
    }
}
