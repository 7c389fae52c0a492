//! What is wanted of the API server and what it said: the volumes of this node, their objects and its pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Cache, Reply};
use super::client::Resource;
use super::lookup::Standing;
use super::pace::{Next, Pace};
use super::pod_index::PodIndex;
use super::report::Report;
use crate::volume::{self, Metadata, VolumeMount};

/// How long a volume is held back for answers, from its first sight.
pub(super) const HOLD_BACK: Duration = Duration::from_secs(10);

/// Everything that collections and requests share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) cache: Cache,
    /// `None` where it is not known whose pods they would be.
    pub(super) pods: Option<PodIndex>,
    pub(super) pace: Pace,
    pub(super) report: Report,
    /// The mounts that were seen last.
    mounts: Vec<Arc<VolumeMount>>,
    /// Names that may be of `PersistentVolume`s, with the pods that mount them.
    wanted: HashMap<String, Vec<String>>,
    /// Those not shown yet, and since when they are there.
    held: HashMap<String, Instant>,
    metadata: Arc<Metadata>,
    /// Something is not in `metadata` yet.
    pub(super) changed: bool,
}

impl State {
    pub(super) fn new(cache: Cache, pods: Option<PodIndex>) -> Self {
        Self {
            cache,
            pods,
            pace: Pace::default(),
            report: Report::default(),
            mounts: Vec::new(),
            wanted: HashMap::new(),
            held: HashMap::new(),
            metadata: Arc::default(),
            changed: false,
        }
    }

    /// These are the mounts now; whether they are others than before.
    pub(super) fn see(&mut self, mounts: &[Arc<VolumeMount>], now: Instant) -> bool {
        if volume::are_same(&self.mounts, mounts) {
            return false;
        }
        self.mounts = mounts.to_vec();
        self.want(now);
        true
    }

    /// Works out what is wanted, after mounts or pods changed.
    pub(super) fn want(&mut self, now: Instant) {
        let Self { cache, pods, mounts, wanted, held, changed, .. } = self;
        if let Some(pods) = pods {
            let mounted: HashSet<&str> = mounts.iter().filter_map(|mount| mount.pod_uid.as_deref()).collect();
            *changed |= pods.drop_gone(&mounted);
        }
        let mut now_wanted: HashMap<String, Vec<String>> = HashMap::new();
        for mount in mounts.iter() {
            let pod = mount.pod_uid.as_ref().and_then(|uid| pods.as_ref()?.get(uid));
            if !pod.is_some_and(|pod| pod.has_inline(mount)) {
                now_wanted.entry(mount.name.clone()).or_default().extend(mount.pod_uid.clone());
            }
        }
        *changed |= cache.want(&now_wanted.keys().map(String::as_str).collect(), now);
        held.retain(|name, _| now_wanted.contains_key(name));
        let new = now_wanted.keys().filter(|name| !wanted.contains_key(*name));
        held.extend(new.map(|name| (name.clone(), now)));
        *wanted = now_wanted;
    }

    /// Whether any mount is of a pod.
    pub(super) fn has_mounts_of_pods(&self) -> bool {
        self.mounts.iter().any(|mount| mount.pod_uid.is_some())
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.pace.next(&mut self.cache, now)
    }

    pub(super) fn take(&mut self, reply: Reply, now: Instant) {
        self.changed |= self.cache.take(reply, now);
    }

    /// Whether nothing is held back any more.
    pub(super) fn is_settled(&mut self, now: Instant) -> bool {
        let Self { cache, pods, wanted, held, changed, .. } = self;
        let before = held.len();
        held.retain(|name, since| {
            let pods_known = wanted.get(name).is_none_or(|uids| are_known(pods.as_ref(), uids));
            now < *since + HOLD_BACK && !(pods_known && cache.is_answered(name))
        });
        *changed |= before != held.len();
        held.is_empty()
    }

    /// What is known now; the same one as before while nothing changes.
    pub(super) fn metadata(&mut self, now: Instant) -> Arc<Metadata> {
        self.is_settled(now);
        let pending_before = self.metadata.pending.len();
        if std::mem::take(&mut self.changed) || pending_before != self.held.len() {
            let mut metadata =
                Metadata { pending: self.held.keys().cloned().collect(), ..Metadata::default() };
            self.cache.describe(&mut metadata);
            self.pods.iter().for_each(|pods| pods.describe(&mut metadata));
            self.metadata = Arc::new(metadata);
        }
        Arc::clone(&self.metadata)
    }

    /// Whether requests of each kind come to something, where any was made.
    pub(super) fn success(&self) -> Vec<(Resource, bool)> {
        let pods = self.pods.as_ref().filter(|pods| pods.failing || pods.standing != Standing::Unknown);
        let pods = pods.map(|pods| (Resource::Pods, !pods.failing && pods.standing != Standing::Forbidden));
        let looked_up = [Resource::PersistentVolumes, Resource::PersistentVolumeClaims].into_iter();
        let looked_up = looked_up.filter_map(|resource| {
            let health = self.cache.health(resource);
            health.tried.then_some((resource, !health.failing))
        });
        pods.into_iter().chain(looked_up).collect()
    }

    /// The age of the oldest of what is in use.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let pods = self.pods.as_ref().and_then(|pods| pods.heard);
        let oldest = [self.cache.oldest(), pods].into_iter().flatten().min()?;
        Some(now.saturating_duration_since(oldest))
    }
}

fn are_known(pods: Option<&PodIndex>, uids: &[String]) -> bool {
    pods.is_none_or(|pods| {
        pods.standing == Standing::Forbidden || uids.iter().all(|uid| pods.get(uid).is_some())
    })
}

#[cfg(test)]
mod tests;
