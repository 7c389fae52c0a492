//! The store: one task that owns the metadata of the volumes of this node, looks it up and publishes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::cached_volume::{Answers, CachedVolume};
use super::client::MAX_CONCURRENT_LOOKUPS;
use super::pod_index::PodIndex;
use super::pods::MAX_BACKOFF_WINDOW;
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

/// The store.
pub(super) struct Store {
    pub(super) settings: ApiSettings,
    pub(super) mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    /// The names of volumes whose size has changed.
    resized: mpsc::Receiver<String>,
    pub(super) pods: watch::Sender<PodIndex>,
    pub(super) metadata: watch::Sender<Arc<Metadata>>,
    pub(super) server: watch::Sender<ServerStatus>,
    volumes: HashMap<String, CachedVolume>,
    /// Lookups that failed since the last one that succeeded.
    failures_in_a_row: u32,
    /// Of failures of the server.
    backoff: Backoff,
    not_before: Instant,
    next_refresh: Instant,
    /// The changes of pods that the volumes know.
    pod_changes: u64,
    /// Resources whose failure was logged, and whether they are forbidden.
    logged: BTreeMap<&'static str, bool>,
}

impl Store {
    pub(super) fn new(
        settings: ApiSettings,
        mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
        resized: mpsc::Receiver<String>,
    ) -> Self {
        let now = Instant::now();
        let is_awaited = settings.node_name.is_some();
        let metadata = Metadata { awaits_volumes: true, awaits_pods: is_awaited, ..Metadata::default() };
        Self {
            settings,
            mounted,
            resized,
            pods: watch::Sender::new(PodIndex::new(is_awaited)),
            metadata: watch::Sender::new(Arc::new(metadata)),
            server: watch::Sender::new(Err(None)),
            volumes: HashMap::new(),
            failures_in_a_row: 0,
            backoff: Backoff::new(Duration::from_secs(1), MAX_BACKOFF_WINDOW),
            not_before: now,
            next_refresh: now,
            pod_changes: 0,
            logged: BTreeMap::new(),
        }
    }

    /// Runs until the collector is gone. After a panic, the lookups that were in flight are made again.
    pub(super) async fn run(&mut self, api: &ApiClient) {
        self.volumes.values_mut().for_each(|volume| volume.is_looked_up = false);
        let mut pods = self.pods.subscribe();
        self.apply_pods();
        // Also what a panic has left undone.
        self.update_wanted();
        let mut lookups = FuturesUnordered::new();
        let mut publish_at = None;
        loop {
            // One request shows whether the server is back.
            let max_lookups = if self.backoff.is_failing() { 1 } else { MAX_CONCURRENT_LOOKUPS };
            let next = self.next_due().filter(|_| lookups.len() < max_lookups);
            tokio::select! {
                changed = self.mounted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update_wanted();
                }
                Ok(()) = pods.changed() => self.apply_pods(),
                Some(name) = self.resized.recv() => {
                    if let Some(volume) = self.volumes.get_mut(&name) {
                        volume.refresh_resized(self.settings.label_refresh, Instant::now());
                    }
                    continue;
                }
                Some(lookup) = lookups.next() => {
                    let (name, answers): (String, _) = lookup;
                    self.record_answers(&name, answers);
                }
                Some(name) = OptionFuture::from(next.map(async |(name, due)| { sleep_until(due).await; name })) => {
                    let lookup = self.start_lookup(&name, api);
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
        let comes_last = |volume: &CachedVolume| self.backoff.is_failing() && volume.is_failing();
        let order = |volume: &CachedVolume| {
            (time(volume).max(self.not_before), comes_last(volume), time(volume), volume.due)
        };
        let (name, volume) = waiting.min_by_key(|(_, volume)| order(volume))?;
        Some((name.clone(), order(volume).0))
    }

    /// Schedules lookups after the mounts or the pods changed.
    fn update_wanted(&mut self) {
        let now = Instant::now();
        let mounts = self.mounted.borrow_and_update().clone();
        let mounting = mounts.iter().filter_map(|mount| mount.pod_uid.as_deref()).collect();
        self.pods.send_if_modified(|pods| {
            pods.drop_gone(&mounting);
            false
        });
        let pods = self.pods.borrow();
        let mut wanted: HashMap<&str, Vec<Arc<VolumeMount>>> = HashMap::new();
        for mount in &mounts {
            let pod = mount.pod_uid.as_ref().and_then(|uid| pods.get(uid));
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
            volume.set_mounts(wanted.remove(name.as_str()).unwrap_or_default(), &pods, now);
        }
    }

    /// Takes over the pods that the watch has shown, and how it went.
    fn apply_pods(&mut self) {
        let outcome = self.pods.borrow().outcome.clone();
        match outcome {
            Some(Err(error)) => self.record_failure(PODS, None, &error),
            Some(Ok(())) => {
                self.server.send_modify(|status| *status = Ok(()));
                if self.logged.contains_key(PODS.name) && self.backoff.is_failing() {
                    // The server answers again: there is no need to wait for a probe's turn.
                    self.not_before = Instant::now();
                }
            }
            None => {}
        }
        // Most events are about a state that is not used here.
        let changes = self.pods.borrow().changes;
        if std::mem::replace(&mut self.pod_changes, changes) != changes {
            self.update_wanted();
        }
    }

    /// Publishes whether the server answers, even if it refuses. Logs that a resource fails, once for each reason, with the
    /// volume that was asked about if others may be answered.
    fn record_failure(&mut self, resource: ApiResource, pv_name: Option<&str>, failure: &RequestError) {
        self.server.send_modify(|status| match status {
            _ if failure.is_forbidden() => *status = Ok(()),
            Err(last) => *last = Some(failure.clone()),
            Ok(()) => {}
        });
        let ApiResource { name: resource, verb } = resource;
        if self.logged.insert(resource, failure.is_forbidden()) == Some(failure.is_forbidden()) {
            return;
        }
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

    /// Looks up a volume that is due, or drops it if its last mount is long gone.
    fn start_lookup(
        &mut self,
        name: &str,
        api: &ApiClient,
    ) -> Option<impl Future<Output = Answers> + Send + use<>> {
        let volume = self.volumes.get_mut(name)?;
        if !volume.is_mounted() {
            self.volumes.remove(name);
            return None;
        }
        if !volume.is_unanswered() {
            self.next_refresh = Instant::now() + REFRESH_INTERVAL;
        }
        let selections = self.settings.selections.clone();
        Some(volume.look_up(name.to_owned(), &self.pods.borrow(), api.clone(), selections))
    }

    fn record_answers(&mut self, name: &str, answers: thread::Result<Answers>) {
        let now = Instant::now();
        let Some(volume) = self.volumes.get_mut(name) else { return };
        volume.is_looked_up = false;
        // Without answers it panicked, which the panic hook has logged.
        let failures = answers.map(|answers| volume.record(answers, &self.pods.borrow()));
        let due = match &failures {
            Err(_) => now + volume.backoff.next_pause(None),
            Ok(failures) => match failures.iter().map(|(_, error)| error).find(|error| !error.is_forbidden())
            {
                None => {
                    // A pause that another response asked for stays.
                    self.backoff.reset();
                    self.failures_in_a_row = 0;
                    now + volume.next_pause(self.settings.label_refresh)
                }
                Some(failure) => {
                    self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                    if failure.is_of_one_object() && self.failures_in_a_row <= MAX_FAILURES_IN_A_ROW {
                        now + volume.backoff.next_pause(None)
                    } else {
                        // The failure of a request that was in flight when another one failed is no new information.
                        if self.not_before <= now || failure.retry_after().is_some() {
                            let later = now + self.backoff.next_pause(failure.retry_after());
                            self.not_before = self.not_before.max(later);
                        }
                        now
                    }
                }
            },
        };
        if volume.is_mounted() {
            volume.due = due;
        }
        if let Some(claim) = volume.current_claim() {
            self.recheck_earlier_claims(&claim, now);
        }
        if failures.as_ref().is_ok_and(Vec::is_empty) {
            self.server.send_modify(|status| *status = Ok(()));
        }
        for (resource, error) in failures.iter().flatten() {
            self.record_failure(*resource, Some(name), error);
        }
    }

    /// There is this claim, and so none of its name with another uid any more: volumes that had such a one are looked up again.
    fn recheck_earlier_claims(&mut self, claim: &ClaimRef, now: Instant) {
        for volume in self.volumes.values_mut().filter(|volume| volume.is_mounted()) {
            let known = volume.current_claim();
            if known.is_some_and(|known| known.key == claim.key && known.uid != claim.uid) {
                volume.due = volume.due.min(now);
            }
        }
    }

    /// Publishes the metadata, and logs which resources are answered again. A map in which nothing changed stays the same
    /// allocation.
    fn publish(&mut self) {
        let pods = self.pods.borrow();
        let all = |a, b| a && b;
        let sources = [
            (PODS, pods.outcome.as_ref().map(Result::is_ok)),
            (PVS, self.volumes.values().filter_map(|volume| volume.pv.success()).reduce(all)),
            (CLAIMS, self.volumes.values().filter_map(|volume| volume.claim.success()).reduce(all)),
        ];
        let status = |(resource, success): (ApiResource, Option<_>)| {
            Some(SourceStatus { name: resource.name, success: success? })
        };
        let sources: Vec<_> = sources.into_iter().filter_map(status).collect();
        for SourceStatus { name: resource, .. } in sources.iter().filter(|source| source.success) {
            if self.logged.remove(resource).is_some() {
                tracing::info!(event = "kubernetes_recovered", resource, "the API server answers again");
            }
        }
        let confirmed =
            self.volumes.values().flat_map(|volume| [volume.pv.confirmed, volume.claim.confirmed]);
        let oldest = confirmed.chain([pods.confirmed]).flatten().min();
        let known = |(name, volume): (&String, &CachedVolume)| Some((name.clone(), volume.metadata()?));
        let before = Arc::clone(&self.metadata.borrow());
        self.metadata.send_replace(Arc::new(Metadata {
            volumes: kept_if_same(&before.volumes, self.volumes.iter().filter_map(known).collect()),
            pods: kept_if_same(&before.pods, pods.to_map()),
            awaits_volumes: true,
            awaits_pods: pods.is_awaited,
            sources,
            oldest: oldest.and_then(|confirmed| SystemTime::now().checked_sub(confirmed.elapsed())),
        }));
    }
}

fn kept_if_same<T: PartialEq>(before: &Arc<T>, now: T) -> Arc<T> {
    if **before == now { Arc::clone(before) } else { Arc::new(now) }
}
