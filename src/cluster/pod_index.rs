//! The pods of this node by the uids that the kubelet's paths carry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::convert::Version;
use super::slim_pod::SlimPod;
use crate::volume::Pod;

#[derive(Debug)]
struct IndexedPod {
    version: Version,
    pod: Arc<Pod>,
    /// Seen since the watch last started from the beginning.
    is_seen: bool,
    /// The object is gone; kept while a volume of it is mounted, so that labels do not flap.
    is_gone: bool,
}

/// The pods.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    by_uid: HashMap<String, IndexedPod>,
    is_restarted: bool,
    /// Pods that are not known yet will be told.
    is_awaited: bool,
}

impl PodIndex {
    /// Whether pods that are not known yet will be told.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    pub(super) fn set_awaited(&mut self, is_awaited: bool) {
        self.is_awaited = is_awaited;
    }

    /// The watch sends every pod again.
    pub(super) fn restart(&mut self) {
        self.is_restarted = true;
        self.by_uid.values_mut().for_each(|entry| entry.is_seen = false);
    }

    /// The watch has sent every pod: those that it did not send are gone. Returns whether it had just restarted.
    pub(super) fn finish_restart(&mut self) -> bool {
        if std::mem::take(&mut self.is_restarted) {
            self.by_uid.values_mut().for_each(|entry| entry.is_gone |= !entry.is_seen);
            return true;
        }
        false
    }

    /// Adds or replaces a pod.
    pub(super) fn put(&mut self, pod: SlimPod) {
        let version = pod.version();
        let Some((uids, pod)) = pod.into_domain() else { return };
        let pod = Arc::new(pod);
        for uid in uids {
            let mut pod = Arc::clone(&pod);
            if let Some(known) = self.by_uid.get_mut(&uid) {
                // Any pod can have any annotation: it does not replace the pod of that very uid.
                if known.version.uid.as_ref() == Some(&uid) && version.uid != known.version.uid {
                    continue;
                }
                if version.is_before(&known.version) {
                    // A server that lags behind sends an older state.
                    (known.is_seen, known.is_gone) = (true, false);
                    continue;
                }
                if known.pod == pod {
                    pod = Arc::clone(&known.pod);
                }
            }
            let indexed = IndexedPod { version: version.clone(), pod, is_seen: true, is_gone: false };
            self.by_uid.insert(uid, indexed);
        }
    }

    /// Marks the pod of this uid as gone.
    pub(super) fn remove(&mut self, pod: &SlimPod) {
        let uid = pod.version().uid;
        let entries = self.by_uid.values_mut().filter(|entry| uid.is_some() && entry.version.uid == uid);
        entries.for_each(|entry| entry.is_gone = true);
    }

    /// Drops pods that are gone and mount nothing here.
    pub(super) fn drop_gone(&mut self, mounting: &HashSet<&str>) {
        self.by_uid.retain(|uid, entry| !entry.is_gone || mounting.contains(uid.as_str()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, uid: &str, version: u64, hash: Option<&str>) -> SlimPod {
        let metadata = json!({"namespace": "shop", "name": name, "uid": uid, "resourceVersion": version.to_string(),
            "annotations": {"kubernetes.io/config.hash": hash}});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn an_older_state_from_a_lagging_server_changes_nothing() {
        let mut index = PodIndex::default();
        for (name, version) in [("new", 9), ("old", 3)] {
            index.put(pod(name, "u", version, None));
            assert_eq!(index.get("u").unwrap().name, "new");
        }
    }

    #[test]
    fn after_a_restart_pods_that_were_not_sent_again_are_dropped_unless_they_mount_a_volume() {
        let mut index = PodIndex::default();
        for uid in ["sent", "mounts", "gone"] {
            index.put(pod(uid, uid, 1, None));
        }
        index.restart();
        index.put(pod("sent", "sent", 1, None));
        index.drop_gone(&HashSet::new());
        assert!(index.get("gone").is_some(), "not before all were sent");
        assert!(index.finish_restart() && !index.finish_restart());
        index.drop_gone(&HashSet::from(["mounts"]));
        assert!(index.get("sent").is_some() && index.get("mounts").is_some() && index.get("gone").is_none());
        index.remove(&pod("sent", "sent", 2, None));
        index.drop_gone(&HashSet::new());
        assert!(index.is_empty());
    }

    #[test]
    fn an_annotation_does_not_replace_the_pod_of_that_uid() {
        let mut index = PodIndex::default();
        index.put(pod("victim", "victim", 1, None));
        index.put(pod("thief", "thief", 2, Some("victim")));
        assert_eq!(index.get("victim").unwrap().name, "victim");
        let mut index = PodIndex::default();
        index.put(pod("thief", "thief", 2, Some("victim")));
        index.put(pod("victim", "victim", 1, None));
        assert_eq!(index.get("victim").unwrap().name, "victim", "in whichever order");
        // A static pod is known by its hash, whichever object carries it.
        index.put(pod("static", "x", 1, Some("hash")));
        index.put(pod("static", "y", 2, Some("hash")));
        index.remove(&pod("static", "x", 3, None));
        index.drop_gone(&HashSet::new());
        assert!(index.get("hash").is_some() && index.get("x").is_none());
    }
}
