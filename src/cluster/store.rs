//! The store: one task that owns the metadata of the volumes of this node, looks it up and publishes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use kube::api::WatchEvent;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::cached_volume::{Answers, CachedVolume};
use super::client::MAX_CONCURRENT_LOOKUPS;
use super::pod_index::PodIndex;
use super::pods::{MAX_BACKOFF_WINDOW, PodEvent};
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource, CLAIMS, PODS, PVS};
use crate::runtime::backoff::Backoff;
use crate::runtime::catch_panic;
use crate::volume::{ClaimRef, Metadata, Selections, SourceStatus, VolumeMount, is_valid_object_name};

/// The time between two refreshes, of a `PersistentVolume` and its claim each: at most 2 requests a second.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Changes within this time are published together.
const PUBLISH_DELAY: Duration = Duration::from_millis(10);
/// If more lookups than this fail in a row, the server is considered failing.
const MAX_FAILURES_IN_A_ROW: u32 = 4;
/// Pod events, or names of resized volumes, that are queued; pod events are applied at one time.
pub(super) const MAX_EVENTS: usize = 16;

/// Settings of the lookups and of the watch of pods.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Whose pods; `None` where it is not known.
    pub node_name: Option<String>,
    /// How old what is known of an object may get.
    pub label_refresh: Duration,
    /// Which labels are used.
    pub selections: Selections,
}

/// Whether the API server was reached, if only for a no; else its last failure, where anything was asked.
pub(super) type ServerStatus = Result<(), Option<RequestError>>;

/// The store's channels to the rest of the program.
pub(super) struct StoreChannels {
    pub(super) mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    /// The names of volumes whose size has changed.
    pub(super) resized: mpsc::Receiver<String>,
    pub(super) pod_events: mpsc::Receiver<PodEvent>,
    pub(super) metadata: watch::Sender<Arc<Metadata>>,
    pub(super) server: watch::Sender<ServerStatus>,
}

/// The store.
pub(super) struct Store {
    api: ApiClient,
    settings: ApiSettings,
    channels: StoreChannels,
    volumes: HashMap<String, CachedVolume>,
    pods: PodIndex,
    /// Whether the watch of pods works, where it was tried.
    pods_success: Option<bool>,
    pods_confirmed: Option<Instant>,
    /// Lookups that failed since the last one that succeeded.
    failures_in_a_row: u32,
    /// Of failures of the server.
    backoff: Backoff,
    not_before: Instant,
    next_refresh: Instant,
    /// Resources whose failure was logged, and whether they are forbidden.
    logged: BTreeMap<ApiResource, bool>,
}

impl Store {
    pub(super) fn new(api: ApiClient, settings: ApiSettings, channels: StoreChannels) -> Self {
        let now = Instant::now();
        Self {
            api,
            pods: PodIndex::new(settings.node_name.is_some()),
            pods_success: None,
            pods_confirmed: None,
            settings,
            channels,
            volumes: HashMap::new(),
            failures_in_a_row: 0,
            backoff: Backoff::new(Duration::from_secs(1), MAX_BACKOFF_WINDOW),
            not_before: now,
            next_refresh: now,
            logged: BTreeMap::new(),
        }
    }

    /// Runs until the collector is gone. After a panic, the lookups that were in flight are made again.
    pub(super) async fn run(&mut self) {
        self.volumes.values_mut().for_each(|volume| volume.is_looked_up = false);
        self.update_wanted();
        let mut lookups = FuturesUnordered::new();
        let mut publish_at = None;
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            // One request shows whether the server is back.
            let max_lookups = if self.backoff.is_failing() { 1 } else { MAX_CONCURRENT_LOOKUPS };
            let next = self.next_due().filter(|_| lookups.len() < max_lookups);
            tokio::select! {
                changed = self.channels.mounted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update_wanted();
                }
                _ = self.channels.pod_events.recv_many(&mut events, MAX_EVENTS), if self.settings.node_name.is_some() => {
                    if events.drain(..).fold(false, |changed, event| self.apply_event(event) | changed) {
                        self.update_wanted();
                    }
                }
                Some(name) = self.channels.resized.recv() => {
                    if let Some(volume) = self.volumes.get_mut(&name) {
                        volume.refresh_resized(self.settings.label_refresh, Instant::now());
                    }
                    continue;
                }
                Some((name, answers)) = lookups.next() => self.record_answers(name, answers),
                Some(name) = OptionFuture::from(next.map(async |(name, due)| { sleep_until(due).await; name })) => {
                    let lookup = self.start_lookup(&name);
                    lookups.extend(lookup.map(async |lookup| (name, catch_panic(Box::pin(lookup)).await)));
                }
                Some(()) = OptionFuture::from(publish_at.map(sleep_until)) => {
                    publish_at = None;
                    self.publish();
                    continue;
                }
            }
            publish_at = publish_at.or(Some(Instant::now() + PUBLISH_DELAY));
        }
    }

    /// The volume that is to be looked up next, and when.
    fn next_due(&self) -> Option<(String, Instant)> {
        // Refreshes wait for their turn, those that were due first first.
        let time = |volume: &CachedVolume| {
            let is_early = volume.due < self.next_refresh && !volume.is_unanswered();
            if is_early { self.next_refresh } else { volume.due }
        };
        let waiting = self.volumes.iter().filter(|(_, volume)| !volume.is_looked_up);
        // While the server fails, those that did not fail come first: objects that always do must not keep them waiting.
        let comes_last = |volume: &CachedVolume| self.backoff.is_failing() && volume.objects.is_failing();
        let order = |volume: &CachedVolume| {
            (time(volume).max(self.not_before), comes_last(volume), time(volume), volume.due)
        };
        let (name, volume) = waiting.min_by_key(|(_, volume)| order(volume))?;
        Some((name.clone(), order(volume).0))
    }

    /// Schedules lookups after the mounts or the pods changed.
    fn update_wanted(&mut self) {
        let now = Instant::now();
        let mounts = self.channels.mounted.borrow_and_update().clone();
        self.pods.drop_gone(&mounts.iter().filter_map(|mount| mount.pod_uid.as_deref()).collect());
        let mut wanted: HashMap<&str, Vec<Arc<VolumeMount>>> = HashMap::new();
        for mount in &mounts {
            let pod = mount.pod_uid.as_ref().and_then(|uid| self.pods.get(uid));
            // What is mounted can have any name.
            if is_valid_object_name(&mount.name) && !pod.is_some_and(|pod| pod.has_inline(mount)) {
                wanted.entry(&mount.name).or_default().push(Arc::clone(mount));
            }
        }
        for name in wanted.keys() {
            let new = || CachedVolume::new(now, self.settings.label_refresh);
            self.volumes.entry((*name).to_owned()).or_insert_with(new);
        }
        for (name, volume) in &mut self.volumes {
            volume.set_mounts(wanted.remove(name.as_str()).unwrap_or_default(), &self.pods, now);
        }
    }

    /// Applies an event; whether the known pods changed.
    fn apply_event(&mut self, event: PodEvent) -> bool {
        let is_changed = match event {
            PodEvent::Restarted => {
                self.pods.restart();
                return false;
            }
            PodEvent::Failed(error) => {
                self.record_failure(PODS, None, &error);
                self.pods_success = Some(false);
                self.pods.is_awaited &= !error.is_forbidden();
                return error.is_forbidden();
            }
            PodEvent::Watched(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => self.pods.put(pod),
            PodEvent::Watched(WatchEvent::Deleted(pod)) => self.pods.remove(&pod),
            PodEvent::Watched(WatchEvent::Bookmark(_)) => {
                let is_complete = self.pods.finish_restart();
                let has_pods = self.channels.mounted.borrow().iter().any(|mount| mount.pod_uid.is_some());
                if is_complete && self.pods.is_empty() && has_pods {
                    let node = &self.settings.node_name;
                    tracing::warn!(
                        event = "node_has_no_pods",
                        node,
                        "no pods on this node: check --node-name"
                    );
                }
                is_complete
            }
            PodEvent::Watched(WatchEvent::Error(_)) | PodEvent::Open => false,
        };
        let was_awaited = std::mem::replace(&mut self.pods.is_awaited, true);
        self.log_recovery(PODS);
        if self.pods_success.replace(true) == Some(false) && self.backoff.is_failing() {
            // The server answers again: there is no need to wait for a probe's turn.
            self.not_before = Instant::now();
        }
        self.pods_confirmed = Some(Instant::now());
        self.channels.server.send_modify(|status| *status = Ok(()));
        is_changed || !was_awaited
    }

    /// Publishes whether the server answers, even if it refuses. Logs that a resource fails, once for each reason, with the
    /// volume that was asked about if others may be answered.
    fn record_failure(&mut self, resource: ApiResource, pv_name: Option<&str>, failure: &RequestError) {
        self.channels.server.send_modify(|status| match status {
            _ if failure.is_forbidden() => *status = Ok(()),
            Err(last) => *last = Some(failure.clone()),
            Ok(()) => {}
        });
        if self.logged.insert(resource, failure.is_forbidden()) == Some(failure.is_forbidden()) {
            return;
        }
        let ApiResource { name: resource, verb } = resource;
        let pv_name = pv_name.filter(|_| failure.is_of_one_object());
        if failure.is_forbidden() {
            tracing::error!(
                event = "kubernetes_forbidden", resource, verb, error = %failure,
                "the API server refused the request: allow the service account to `{verb} {resource}`, as manifests/base/rbac.yaml does"
            );
        } else {
            tracing::warn!(
                event = "kubernetes_request_failed", resource, pv_name, error = %failure,
                "request to the API server failed: keeping the last known objects and retrying"
            );
        }
    }

    /// Logs that everything about a resource is answered again.
    fn log_recovery(&mut self, resource: ApiResource) {
        if self.logged.remove(&resource).is_some() {
            let resource = resource.name;
            tracing::info!(event = "kubernetes_recovered", resource, "the API server answers again");
        }
    }

    /// Looks up a volume that is due, or drops it if its last mount is long gone.
    fn start_lookup(&mut self, name: &str) -> Option<impl Future<Output = Answers> + Send + use<>> {
        let now = Instant::now();
        let volume = self.volumes.get_mut(name)?;
        if !volume.is_mounted() {
            self.volumes.remove(name);
            return None;
        }
        if !volume.is_unanswered() {
            self.next_refresh = now + REFRESH_INTERVAL;
        }
        let selections = self.settings.selections.clone();
        Some(volume.look_up(name.to_owned(), &self.pods, self.api.clone(), selections))
    }

    fn record_answers(&mut self, name: String, answers: thread::Result<Answers>) {
        let now = Instant::now();
        let Some(mut volume) = self.volumes.remove(&name) else { return };
        volume.is_looked_up = false;
        let due = match answers {
            Ok(answers) => self.record_outcome(&name, &mut volume, answers, now),
            // A panic, which its hook has logged.
            Err(_) => now + volume.backoff.next_pause(None),
        };
        volume.due = if volume.is_mounted() { due } else { volume.due };
        let claim = volume.objects.current_claim();
        self.volumes.insert(name, volume);
        if let Some(claim) = claim {
            self.recheck_earlier_claims(&claim, now);
        }
        for resource in [PVS, CLAIMS] {
            // Not while any object still fails.
            if self.success(resource) == Some(true) {
                self.log_recovery(resource);
            }
        }
    }

    /// There is this claim, and so none of its name with another uid any more: volumes that had such a one are looked up again.
    fn recheck_earlier_claims(&mut self, claim: &ClaimRef, now: Instant) {
        for volume in self.volumes.values_mut().filter(|volume| volume.is_mounted()) {
            let known = volume.objects.current_claim();
            if known.is_some_and(|known| known.key == claim.key && known.uid != claim.uid) {
                volume.due = volume.due.min(now);
            }
        }
    }

    /// Records answers about a volume, which is taken out of the others meanwhile; returns when it is due again.
    fn record_outcome(
        &mut self,
        name: &str,
        volume: &mut CachedVolume,
        answers: Answers,
        now: Instant,
    ) -> Instant {
        if answers.failures.is_empty() {
            self.channels.server.send_modify(|status| *status = Ok(()));
        }
        for (resource, error) in &answers.failures {
            self.record_failure(*resource, Some(name), error);
        }
        let mut errors = answers.failures.iter().map(|(_, error)| error);
        let failure = errors.find(|error| !error.is_forbidden()).cloned();
        volume.record(answers, &self.pods);
        let Some(failure) = failure else {
            // A pause that another response asked for stays.
            self.backoff.reset();
            self.failures_in_a_row = 0;
            return now + volume.next_pause(self.settings.label_refresh);
        };
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if failure.is_of_one_object() && self.failures_in_a_row <= MAX_FAILURES_IN_A_ROW {
            return now + volume.backoff.next_pause(None);
        }
        // The failure of a request that was in flight when another one failed is no new information.
        if self.not_before <= now || failure.retry_after.is_some() {
            let later = now + self.backoff.next_pause(failure.retry_after);
            self.not_before = self.not_before.max(later);
        }
        now
    }

    /// Whether the last requests for this resource succeeded, if there were any.
    fn success(&self, resource: ApiResource) -> Option<bool> {
        let objects = self.volumes.values().map(|volume| &volume.objects);
        match resource {
            PODS => self.pods_success,
            PVS => objects.filter_map(|objects| objects.pv.success()).reduce(|a, b| a && b),
            _ => objects.filter_map(|objects| objects.claim.success()).reduce(|a, b| a && b),
        }
    }

    /// Publishes the metadata. A map in which nothing changed stays the same allocation.
    fn publish(&self) {
        let before = Arc::clone(&self.channels.metadata.borrow());
        let known = |(name, volume): (&String, &CachedVolume)| Some((name.clone(), volume.metadata()?));
        let source = |resource: ApiResource| {
            Some(SourceStatus { name: resource.name, success: self.success(resource)? })
        };
        let confirmed = self.volumes.values().filter_map(CachedVolume::confirmed);
        let confirmed = confirmed.chain(self.pods_confirmed).min();
        self.channels.metadata.send_replace(Arc::new(Metadata {
            volumes: kept_if_same(&before.volumes, self.volumes.iter().filter_map(known).collect()),
            pods: kept_if_same(&before.pods, self.pods.to_map()),
            awaits_volumes: true,
            awaits_pods: self.pods.is_awaited,
            sources: [PODS, PVS, CLAIMS].into_iter().filter_map(source).collect(),
            oldest: confirmed.and_then(|confirmed| SystemTime::now().checked_sub(confirmed.elapsed())),
        }));
    }
}

fn kept_if_same<T: PartialEq>(before: &Arc<T>, now: T) -> Arc<T> {
    if **before == now { Arc::clone(before) } else { Arc::new(now) }
}
