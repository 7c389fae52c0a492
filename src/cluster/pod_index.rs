//! The pods of this node by the uids that the kubelet's paths carry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::slim_pod::SlimPod;
use crate::volume::Pod;

/// Whether the watch shows a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Shown,
    /// Not again yet, since the watch has started from the beginning.
    Unconfirmed,
    Gone,
}

#[derive(Debug)]
struct IndexedPod {
    /// The object's uid, which is not always the one that the path carries.
    owner: Option<String>,
    pod: Arc<Pod>,
    presence: Presence,
}

/// The pods. One that is gone is kept while a volume of it is mounted, so that labels do not flap.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    by_uid: HashMap<String, IndexedPod>,
    /// The watch has started from the beginning, and has not sent every pod yet.
    is_restarting: bool,
    /// Pods that are not known yet will be told.
    pub(super) is_awaited: bool,
}

impl PodIndex {
    pub(super) fn new(is_awaited: bool) -> Self {
        Self { is_awaited, ..Self::default() }
    }

    /// The watch sends every pod again.
    pub(super) fn restart(&mut self) {
        self.is_restarting = true;
        self.change_presence(Presence::Shown, Presence::Unconfirmed);
    }

    /// The watch has sent every pod: those that it did not send are gone. Returns whether it had just restarted.
    pub(super) fn finish_restart(&mut self) -> bool {
        self.change_presence(Presence::Unconfirmed, Presence::Gone);
        std::mem::take(&mut self.is_restarting)
    }

    fn change_presence(&mut self, from: Presence, to: Presence) {
        let entries = self.by_uid.values_mut().filter(|entry| entry.presence == from);
        entries.for_each(|entry| entry.presence = to);
    }

    /// Adds a pod; whether it is another than is known. What is used of it never changes, so an older state from a server
    /// that lags behind does no harm.
    pub(super) fn put(&mut self, pod: SlimPod) -> bool {
        let SlimPod { uid: owner, path_uids, pod, .. } = pod;
        let Some(pod) = pod.map(Arc::new) else { return false };
        let mut is_changed = false;
        for uid in path_uids {
            let known = self.by_uid.get(&uid);
            // Any pod can have any annotation: it replaces neither the pod of that very uid nor another one that is there.
            let is_own = owner.as_ref() == Some(&uid);
            let is_taken = |known: &IndexedPod| {
                known.owner != owner
                    && !is_own
                    && (known.presence == Presence::Shown || known.owner.as_ref() == Some(&uid))
            };
            if known.is_some_and(is_taken) {
                continue;
            }
            let same = known.map(|known| &known.pod).filter(|known| **known == pod);
            is_changed |= same.is_none();
            let pod = Arc::clone(same.unwrap_or(&pod));
            self.by_uid.insert(uid, IndexedPod { owner: owner.clone(), pod, presence: Presence::Shown });
        }
        is_changed
    }

    /// The pod was deleted; whether it was known.
    pub(super) fn remove(&mut self, pod: &SlimPod) -> bool {
        let entries = self.by_uid.values_mut().filter(|entry| entry.owner == pod.uid);
        entries.map(|entry| entry.presence = Presence::Gone).count() > 0
    }

    /// Drops pods that are gone and mount nothing here.
    pub(super) fn drop_gone(&mut self, mounting: &HashSet<&str>) {
        let is_kept =
            |uid: &str, entry: &IndexedPod| entry.presence != Presence::Gone || mounting.contains(uid);
        self.by_uid.retain(|uid, entry| is_kept(uid, entry));
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
