//! The pods of this node, by the uids that the kubelet's paths carry. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::lookup::{Standing, Version};
use crate::cluster::schema::{self, Identity};
use crate::volume::{Metadata, Pod};

/// What is used of a pod as the API server has it.
#[derive(Debug)]
pub(super) struct ApiPod {
    pub(super) version: Version,
    /// Its own uid, and those of a static pod's directory.
    pub(super) uids: Vec<String>,
    pub(super) pod: Pod,
}

impl From<schema::Pod> for ApiPod {
    fn from(pod: schema::Pod) -> Self {
        let version = pod.version();
        let (uids, pod) = pod.into_domain();
        Self { version, uids, pod }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    version: Version,
    pod: Arc<Pod>,
    /// The object is gone; kept while a volume of it is mounted, for what is known of that must not flap.
    gone: bool,
}

/// All pods of the node.
#[derive(Debug)]
pub(super) struct PodIndex {
    by_uid: HashMap<String, Entry>,
    pub(super) standing: Standing,
    /// Whether the last request came to nothing.
    pub(super) failing: bool,
    /// When the server last said something.
    pub(super) heard: Option<Instant>,
}

impl Default for PodIndex {
    fn default() -> Self {
        Self { by_uid: HashMap::new(), standing: Standing::Unknown, failing: false, heard: None }
    }
}

impl PodIndex {
    /// Takes a pod as it is now; whether anything that is shown changed.
    pub(super) fn put(&mut self, pod: ApiPod) -> bool {
        let ApiPod { version, uids, pod } = pod;
        let pod = Arc::new(pod);
        let mut changed = false;
        for uid in uids {
            match self.by_uid.get_mut(&uid) {
                // Whoever makes a pod can write any annotation: it does not take the place of the pod of that very uid.
                Some(known)
                    if known.version.uid.as_ref() == Some(&uid) && version.uid != known.version.uid => {}
                // One that the server has is there, even if this server lags behind what another one told.
                Some(known) if version.is_before(&known.version) => known.gone = false,
                Some(known) if known.pod == pod => (known.version, known.gone) = (version.clone(), false),
                _ => {
                    let entry = Entry { version: version.clone(), pod: Arc::clone(&pod), gone: false };
                    self.by_uid.insert(uid, entry);
                    changed = true;
                }
            }
        }
        changed
    }

    /// The object of this uid is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        let entries = self.by_uid.values_mut();
        entries.filter(|entry| entry.version.uid.as_deref() == Some(uid)).for_each(|entry| entry.gone = true);
    }

    /// These are all pods that there are; whether anything that is shown changed.
    pub(super) fn replace(&mut self, pods: Vec<ApiPod>) -> bool {
        self.by_uid.values_mut().for_each(|entry| entry.gone = true);
        pods.into_iter().fold(false, |changed, pod| self.put(pod) | changed)
    }

    /// Forgets pods that are gone, but for those of volumes mounted here; whether there were any.
    pub(super) fn drop_gone(&mut self, mounted: &HashSet<&str>) -> bool {
        let before = self.by_uid.len();
        self.by_uid.retain(|uid, entry| !entry.gone || mounted.contains(uid.as_str()));
        before != self.by_uid.len()
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Pod> {
        self.by_uid.get(uid).map(|entry| &*entry.pod)
    }

    /// Adds what is known.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        let pods = self.by_uid.iter().map(|(uid, entry)| (uid.clone(), Arc::clone(&entry.pod)));
        metadata.pods.extend(pods);
    }
}
