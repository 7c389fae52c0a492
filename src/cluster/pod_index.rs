//! The pods of this node by the uids that the kubelet's paths carry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::request_error::RequestError;
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
    /// Of several that claim a uid, the kubelet's own is the one that stays.
    by_uid: HashMap<String, Vec<IndexedPod>>,
    /// Pods that are not known yet will be told.
    pub(super) is_awaited: bool,
    /// Counts the changes of what is known of pods.
    pub(super) changes: u64,
    /// The last outcome of the watch.
    pub(super) outcome: Option<Result<(), RequestError>>,
    pub(super) confirmed: Option<Instant>,
}

impl PodIndex {
    pub(super) fn new(is_awaited: bool) -> Self {
        Self { is_awaited, ..Self::default() }
    }

    /// The watch works.
    pub(super) fn record_success(&mut self) {
        self.changes += u64::from(!std::mem::replace(&mut self.is_awaited, true));
        (self.outcome, self.confirmed) = (Some(Ok(())), Some(Instant::now()));
    }

    /// The watch failed, and will be tried again.
    pub(super) fn record_failure(&mut self, error: RequestError) {
        let is_awaited = self.is_awaited && !error.is_forbidden();
        self.changes += u64::from(is_awaited != self.is_awaited);
        self.is_awaited = is_awaited;
        self.outcome = Some(Err(error));
    }

    /// The watch sends every pod again.
    pub(super) fn restart(&mut self) {
        self.change_presence(Presence::Shown, Presence::Unconfirmed);
    }

    /// The watch has sent every pod: those that it did not send are gone.
    pub(super) fn finish_restart(&mut self) {
        self.change_presence(Presence::Unconfirmed, Presence::Gone);
    }

    fn change_presence(&mut self, from: Presence, to: Presence) {
        let entries = self.by_uid.values_mut().flatten().filter(|entry| entry.presence == from);
        entries.for_each(|entry| entry.presence = to);
        self.changes += 1;
    }

    /// Adds a pod. What is used of it never changes, so an older state from a server that lags behind does no harm.
    pub(super) fn put(&mut self, pod: SlimPod) {
        let SlimPod { uid: owner, path_uids, pod, .. } = pod;
        let pod = Arc::new(pod);
        for uid in path_uids {
            let entries = self.by_uid.entry(uid.clone()).or_default();
            let is_shown = |entry: &IndexedPod| entry.owner == owner && entry.presence == Presence::Shown;
            if entries.iter().any(|entry| is_shown(entry) && entry.pod == pod) {
                continue;
            }
            self.changes += 1;
            let same = resolve(&uid, entries).filter(|known| **known == pod).unwrap_or(&pod);
            let entry = IndexedPod { owner: owner.clone(), pod: Arc::clone(same), presence: Presence::Shown };
            // Pods that are gone are replaced, except the one whose own uid this is.
            entries.retain(|entry| {
                entry.owner != owner
                    && (entry.presence != Presence::Gone || entry.owner.as_ref() == Some(&uid))
            });
            entries.push(entry);
        }
    }

    /// The pod was deleted.
    pub(super) fn remove(&mut self, pod: &SlimPod) {
        let entries = self.by_uid.values_mut().flatten().filter(|entry| entry.owner == pod.uid);
        entries.for_each(|entry| entry.presence = Presence::Gone);
        self.changes += 1;
    }

    /// Drops pods that are gone and mount nothing here.
    pub(super) fn drop_gone(&mut self, mounting: &HashSet<&str>) {
        self.by_uid.retain(|uid, entries| {
            let is_kept = |entry: &IndexedPod| entry.presence != Presence::Gone || mounting.contains(&**uid);
            entries.retain(is_kept);
            !entries.is_empty()
        });
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        resolve(uid, self.by_uid.get(uid)?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// All pods.
    pub(super) fn to_map(&self) -> HashMap<String, Arc<Pod>> {
        let pods = self.by_uid.iter();
        pods.filter_map(|(uid, entries)| Some((uid.clone(), Arc::clone(resolve(uid, entries)?)))).collect()
    }
}

/// Of the pods that claim a uid, the one that has it: the pod whose own uid it is, else the only one that is there, else the only
/// one that was.
fn resolve<'a>(uid: &str, entries: &'a [IndexedPod]) -> Option<&'a Arc<Pod>> {
    let own = entries.iter().find(|entry| entry.owner.as_deref() == Some(uid));
    let is_only = |entries: Vec<&'a IndexedPod>| (entries.len() == 1).then(|| entries[0]);
    let present = entries.iter().filter(|entry| entry.presence != Presence::Gone).collect();
    let only = || is_only(present).or_else(|| is_only(entries.iter().collect()));
    own.or_else(only).map(|entry| &entry.pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_that_tells_nothing_new_is_no_change() {
        let pod = |phase: &str| -> SlimPod {
            let metadata = json!({"namespace": "shop", "name": "app", "uid": "uid"});
            let pod = json!({"metadata": metadata, "spec": {}, "status": {"phase": phase}});
            serde_json::from_str(&pod.to_string()).unwrap()
        };
        let mut index = PodIndex::new(true);
        index.put(pod("Pending"));
        assert_eq!(index.changes, 1);
        index.put(pod("Running"));
        index.record_success();
        assert_eq!(index.changes, 1);
        index.remove(&pod("Running"));
        assert_eq!(index.changes, 2);
        index.put(pod("Running"));
        assert_eq!(index.changes, 3, "it is there again");
    }
}
