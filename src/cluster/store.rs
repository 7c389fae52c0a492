//! The store: one task that owns what is known of the volumes of this node, and publishes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::api::WatchEvent;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::time::{DelayQueue, delay_queue};

use super::cached_volume::CachedVolume;
use super::client::MAX_CONCURRENT_LOOKUPS;
use super::lookup::Answers;
use super::pod_index::PodIndex;
use super::pods::{MAX_BACKOFF_WINDOW, PodEvent};
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource, CLAIMS, PODS, PVS};
use super::settings::{ApiSettings, ServerStatus};
use crate::runtime::RestartableTask;
use crate::runtime::backoff::Backoff;
use crate::volume::{Metadata, SourceStatus, VolumeMount, is_valid_object_name};

/// The time between two refreshes, of a `PersistentVolume` and its claim each: at most 2 requests a second.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// What changes within this time is published together.
const PUBLISH_DELAY: Duration = Duration::from_millis(10);
/// Where more objects fail, each as if by itself, the server does.
const MAX_FAILING_OBJECTS: usize = 4;
/// Events of pods that are queued, and taken at one time.
pub(super) const MAX_EVENTS: usize = 16;

/// The store.
pub(super) struct Store {
    api: ApiClient,
    settings: ApiSettings,
    mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    pod_events: mpsc::Receiver<PodEvent>,
    metadata: watch::Sender<Arc<Metadata>>,
    server: watch::Sender<ServerStatus>,
    volumes: HashMap<String, CachedVolume>,
    pods: PodIndex,
    /// Whether the watch of pods works, where it was tried.
    pods_success: Option<bool>,
    pods_confirmed: Option<Instant>,
    /// Of failures of the server.
    backoff: Backoff,
    not_before: Instant,
    next_refresh: Instant,
    /// Resources whose failure was logged, and whether they are forbidden.
    logged: BTreeMap<ApiResource, bool>,
}

impl RestartableTask for Store {
    /// Runs until the collector is gone. After a panic, what was being asked is asked again.
    async fn run(&mut self) {
        let mut requests = JoinSet::new();
        let mut due = DelayQueue::new();
        for (name, volume) in &mut self.volumes {
            volume.task = None;
            volume.key = Some(due.insert_at(name.clone(), volume.due));
        }
        self.update_wanted(&mut due);
        let mut publish_at = None;
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            // One request shows whether the server is back.
            let max_requests = if self.backoff.is_failing() { 1 } else { MAX_CONCURRENT_LOOKUPS };
            let (may_ask, not_before) = (requests.len() < max_requests, self.not_before);
            tokio::select! {
                changed = self.mounted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update_wanted(&mut due);
                }
                _ = self.pod_events.recv_many(&mut events, MAX_EVENTS), if self.settings.node_name.is_some() => {
                    if events.drain(..).fold(false, |changed, event| self.take_event(event) | changed) {
                        self.update_wanted(&mut due);
                    }
                }
                Some(ended) = requests.join_next_with_id() => self.take_answers(ended, &mut due),
                Some(name) = next_due(&mut due, not_before), if may_ask => self.ask(&name, &mut due, &mut requests),
                () = sleep_until(publish_at.unwrap_or(not_before)), if publish_at.is_some() => {
                    publish_at = None;
                    self.publish();
                    continue;
                }
            }
            publish_at = publish_at.or(Some(Instant::now() + PUBLISH_DELAY));
        }
    }
}

impl Store {
    pub(super) fn new(
        api: ApiClient,
        settings: ApiSettings,
        mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
        pod_events: mpsc::Receiver<PodEvent>,
        metadata: watch::Sender<Arc<Metadata>>,
        server: watch::Sender<ServerStatus>,
    ) -> Self {
        let now = Instant::now();
        Self {
            api,
            pods: PodIndex::new(settings.node_name.is_some()),
            pods_success: None,
            pods_confirmed: None,
            settings,
            mounted,
            pod_events,
            metadata,
            server,
            volumes: HashMap::new(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_BACKOFF_WINDOW),
            not_before: now,
            next_refresh: now,
            logged: BTreeMap::new(),
        }
    }

    /// Works out what to ask about after the mounts or the pods changed.
    fn update_wanted(&mut self, due: &mut DelayQueue<String>) {
        let now = Instant::now();
        let mounts = self.mounted.borrow_and_update().clone();
        self.pods.drop_gone(&mounts.iter().filter_map(|mount| mount.pod_uid.as_deref()).collect());
        let mut wanted: HashMap<&str, BTreeSet<String>> = HashMap::new();
        for mount in &mounts {
            let pod = mount.pod_uid.as_ref().and_then(|uid| self.pods.get(uid));
            // What is mounted can have any name.
            if is_valid_object_name(&mount.name) && !pod.is_some_and(|pod| pod.has_inline(mount)) {
                wanted.entry(&mount.name).or_default().insert(mount.pod_uid.clone().unwrap_or_default());
            }
        }
        for name in wanted.keys() {
            self.volumes.entry((*name).to_owned()).or_insert_with(|| CachedVolume::new(now));
        }
        for (name, volume) in &mut self.volumes {
            let before = volume.due;
            volume.set_pods(wanted.remove(name.as_str()).unwrap_or_default(), &self.pods, now);
            if volume.task.is_none() && (volume.due != before || volume.key.is_none()) {
                schedule(name, volume, due);
            }
        }
    }

    /// Takes an event; whether other pods are known now.
    fn take_event(&mut self, event: PodEvent) -> bool {
        let is_changed = match event {
            PodEvent::Restarted => {
                self.pods.restart();
                return false;
            }
            PodEvent::Failed(error) => {
                self.log_failure(PODS, &error);
                self.pods_success = Some(false);
                self.pods.is_awaited &= !error.is_forbidden();
                self.report(Some(&error));
                return error.is_forbidden();
            }
            PodEvent::Watched(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => self.pods.put(pod),
            PodEvent::Watched(WatchEvent::Deleted(pod)) => self.pods.remove(&pod),
            PodEvent::Watched(WatchEvent::Bookmark(_)) => {
                let is_complete = self.pods.finish_restart();
                let mounts = self.mounted.borrow();
                if is_complete && self.pods.is_empty() && mounts.iter().any(|mount| mount.pod_uid.is_some()) {
                    let node_name = &self.settings.node_name;
                    tracing::warn!(node_name, "the cluster has no pod on this node: is --node-name right?");
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
        self.report(None);
        is_changed || !was_awaited
    }

    /// Logs that a resource fails, once for each reason.
    fn log_failure(&mut self, resource: ApiResource, failure: &RequestError) {
        if self.logged.insert(resource, failure.is_forbidden()) == Some(failure.is_forbidden()) {
            return;
        }
        let ApiResource { name: resource, verb } = resource;
        if failure.is_forbidden() {
            tracing::error!(
                resource, %failure,
                "the API server forbids it: give the service account `{verb} on {resource}`, as manifests/base/rbac.yaml does; going on without"
            );
        } else {
            tracing::warn!(
                resource, %failure,
                "the API server cannot be asked; what is known stays in use, and it is tried again"
            );
        }
    }

    /// Logs that everything about a resource is answered again.
    fn log_recovery(&mut self, resource: ApiResource) {
        if self.logged.remove(&resource).is_some() {
            tracing::info!(resource = resource.name, "the API server answers again");
        }
    }

    /// Asks about a volume that is due, or drops it if its last mount is long gone.
    fn ask(&mut self, name: &str, due: &mut DelayQueue<String>, requests: &mut JoinSet<Answers>) {
        let now = Instant::now();
        let Some(volume) = self.volumes.get_mut(name) else { return };
        volume.key = None;
        if !volume.is_mounted() {
            self.volumes.remove(name);
            return;
        }
        if !volume.is_unanswered() {
            if now < self.next_refresh {
                volume.due = self.next_refresh;
                return schedule(name, volume, due);
            }
            self.next_refresh = now + REFRESH_INTERVAL;
        }
        let request = volume.request(name, &self.pods);
        let lookup = request.run(self.api.clone(), self.settings.selections.clone());
        volume.task = Some(requests.spawn(lookup).id());
    }

    fn take_answers(&mut self, ended: Result<(task::Id, Answers), JoinError>, due: &mut DelayQueue<String>) {
        let now = Instant::now();
        let answers = match ended {
            Ok((_, answers)) => answers,
            // A panic, which its hook has logged.
            Err(error) => {
                let mut volumes = self.volumes.iter_mut();
                if let Some((name, volume)) = volumes.find(|(_, volume)| volume.task == Some(error.id())) {
                    (volume.task, volume.due) = (None, now + volume.backoff.next_pause(None));
                    schedule(name, volume, due);
                }
                return;
            }
        };
        for (resource, error) in answers.errors() {
            self.log_failure(resource, error);
        }
        let failure = answers.errors().map(|(_, error)| error).find(|error| !error.is_forbidden()).cloned();
        self.report(failure.as_ref());
        let name = answers.name.clone();
        let Some(mut volume) = self.volumes.remove(&name) else { return };
        volume.take(answers, &self.pods, now);
        let failing = self.volumes.values().filter(|volume| volume.is_failing()).count();
        let next = match &failure {
            None => {
                // A pause that another request asked for goes on.
                self.backoff.reset();
                now + volume.next_pause(self.settings.label_refresh)
            }
            Some(failure) if failure.is_of_one_object() && failing < MAX_FAILING_OBJECTS => {
                now + volume.backoff.next_pause(None)
            }
            Some(failure) => {
                // What was under way when another request failed tells nothing new.
                if self.not_before <= now || failure.retry_after.is_some() {
                    let later = now + self.backoff.next_pause(failure.retry_after);
                    self.not_before = self.not_before.max(later);
                }
                now
            }
        };
        volume.due = if volume.is_mounted() { next } else { volume.due };
        schedule(&name, &mut volume, due);
        self.volumes.insert(name, volume);
        for resource in [PVS, CLAIMS] {
            // As long as one object fails, the others' answers are no news.
            if self.success(resource) == Some(true) {
                self.log_recovery(resource);
            }
        }
    }

    /// Tells whether the server answers, be it with no.
    fn report(&self, failure: Option<&RequestError>) {
        self.server.send_modify(|(is_reached, last_failure)| {
            *is_reached |= failure.is_none_or(RequestError::is_forbidden);
            *last_failure = failure.cloned().or(last_failure.take());
        });
    }

    /// Whether the last requests about this came to something, if there were any.
    fn success(&self, resource: ApiResource) -> Option<bool> {
        let of_volume = |volume: &CachedVolume| match resource {
            PVS => volume.pv.success(),
            _ => volume.claim.as_ref()?.1.success(),
        };
        match resource {
            PODS => self.pods_success,
            _ => self.volumes.values().filter_map(of_volume).reduce(|a, b| a && b),
        }
    }

    /// Publishes what is known. Maps in which nothing changed stay the same ones.
    fn publish(&self) {
        let before = Arc::clone(&self.metadata.borrow());
        let known = |(name, volume): (&String, &CachedVolume)| Some((name.clone(), volume.metadata()?));
        let source = |resource: ApiResource| {
            Some(SourceStatus { name: resource.name, success: self.success(resource)? })
        };
        let confirmed = self.volumes.values().filter_map(CachedVolume::confirmed);
        let confirmed = confirmed.chain(self.pods_confirmed).min();
        self.metadata.send_replace(Arc::new(Metadata {
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

/// The next volume that is due, but none before this time.
async fn next_due(due: &mut DelayQueue<String>, not_before: Instant) -> Option<String> {
    sleep_until(not_before).await;
    poll_fn(|context| due.poll_expired(context)).await.map(delay_queue::Expired::into_inner)
}

fn schedule(name: &str, volume: &mut CachedVolume, due: &mut DelayQueue<String>) {
    match &volume.key {
        Some(key) => due.reset_at(key, volume.due),
        None => volume.key = Some(due.insert_at(name.to_owned(), volume.due)),
    }
}
