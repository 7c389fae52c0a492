//! The store: one task that owns what is known of the volumes of this node, and publishes it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::time::DelayQueue;

use super::backoff::Backoff;
use super::cached_volume::CachedVolume;
use super::client::MAX_CONCURRENT_LOOKUPS;
use super::failure_log::FailureLog;
use super::lookup::Answers;
use super::pod_index::PodIndex;
use super::pods::{MAX_BACKOFF_WINDOW, PodEvent};
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource};
use super::{Selections, ServerStatus};
use crate::runtime::RestartableTask;
use crate::volume::{Metadata, SourceStatus, VolumeMount, is_object_name};

/// The time between two refreshes, of a `PersistentVolume` and its claim each: at most 2 requests a second.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// What changes within this time is published together.
const PUBLISH_DELAY: Duration = Duration::from_millis(10);
/// Where more objects fail, each as if by itself, the server does.
const MAX_FAILING_OBJECTS: usize = 4;
/// Events of pods that are taken at one time.
const MAX_EVENTS: usize = 64;

/// Channels to the rest of the program.
pub(super) struct StoreChannels {
    pub(super) mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    pub(super) pod_events: mpsc::Receiver<PodEvent>,
    pub(super) metadata: watch::Sender<Arc<Metadata>>,
    pub(super) server: watch::Sender<ServerStatus>,
}

/// How it goes with the pods.
#[derive(Debug, Clone, Copy, Default)]
struct PodsStatus {
    is_tried: bool,
    is_failing: bool,
    is_forbidden: bool,
    confirmed: Option<Instant>,
}

/// What is not published yet.
#[derive(Debug, Clone, Copy, Default)]
struct Unpublished {
    volumes: bool,
    pods: bool,
    status: bool,
}

/// The store.
pub(super) struct Store {
    api: ApiClient,
    selections: Selections,
    refresh: Duration,
    channels: StoreChannels,
    volumes: HashMap<String, CachedVolume>,
    /// `None` where it is not known whose pods they would be.
    pods: Option<PodIndex>,
    pods_status: PodsStatus,
    /// Of failures of the server.
    backoff: Backoff,
    not_before: Instant,
    next_refresh: Instant,
    log: FailureLog,
    unpublished: Unpublished,
}

impl Store {
    pub(super) fn new(
        api: ApiClient,
        selections: Selections,
        refresh: Duration,
        has_pods: bool,
        channels: StoreChannels,
    ) -> Self {
        let now = Instant::now();
        Self {
            api,
            selections,
            refresh,
            channels,
            volumes: HashMap::new(),
            pods: has_pods.then(PodIndex::default),
            pods_status: PodsStatus::default(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_BACKOFF_WINDOW),
            not_before: now,
            next_refresh: now,
            log: FailureLog::default(),
            unpublished: Unpublished::default(),
        }
    }

    /// Works out what to ask about after the mounts or the pods changed.
    fn update_wanted(&mut self, due: &mut DelayQueue<String>) {
        let now = Instant::now();
        let mounts = self.channels.mounted.borrow_and_update().clone();
        if let Some(pods) = &mut self.pods {
            let mounting: HashSet<&str> =
                mounts.iter().filter_map(|mount| mount.pod_uid.as_deref()).collect();
            self.unpublished.pods |= pods.drop_gone(&mounting);
        }
        let pods = self.pods.as_ref();
        let mut wanted: HashMap<&str, BTreeSet<String>> = HashMap::new();
        for mount in &mounts {
            let pod = mount.pod_uid.as_ref().and_then(|uid| pods?.get(uid));
            if is_object_name(&mount.name) && !pod.is_some_and(|pod| pod.has_inline(mount)) {
                wanted.entry(&mount.name).or_default().insert(mount.pod_uid.clone().unwrap_or_default());
            }
        }
        for name in wanted.keys() {
            if !self.volumes.contains_key(*name) {
                self.volumes.insert((*name).to_owned(), CachedVolume::new(now));
            }
        }
        let awaited = pods.filter(|_| !self.pods_status.is_forbidden);
        for (name, volume) in &mut self.volumes {
            let before = volume.due;
            let uids = wanted.remove(name.as_str()).unwrap_or_default();
            self.unpublished.volumes |= volume.set_pods(uids, awaited, now);
            if volume.task.is_none() && (volume.due != before || volume.key.is_none()) {
                schedule(name, volume, due);
            }
        }
    }

    fn take_event(&mut self, event: PodEvent) {
        let Some(pods) = &mut self.pods else { return };
        match event {
            PodEvent::Restarted => return pods.restart(),
            PodEvent::Changed(pod) => self.unpublished.pods |= pods.put(pod),
            PodEvent::Deleted(pod) => pods.remove(&pod),
            PodEvent::Bookmark => {
                let mounts = self.channels.mounted.borrow();
                if pods.finish_restart()
                    && pods.is_empty()
                    && mounts.iter().any(|mount| mount.pod_uid.is_some())
                {
                    tracing::warn!("the cluster has no pod on this node: is --node-name right?");
                }
            }
            PodEvent::Open => {}
            PodEvent::Failed(error) => {
                self.log.log_failure(ApiResource::Pods, &error);
                self.pods_status.is_tried = true;
                self.pods_status.is_failing = true;
                self.pods_status.is_forbidden |= error.is_forbidden();
                self.report(Some(&error));
                return;
            }
        }
        self.log.log_recovery(ApiResource::Pods);
        if self.pods_status.is_failing && self.backoff.is_failing() {
            // The server answers again: no need to wait for one's own turn.
            self.not_before = Instant::now();
        }
        let confirmed = Some(Instant::now());
        self.pods_status = PodsStatus { is_tried: true, confirmed, ..PodsStatus::default() };
        self.report(None);
    }

    /// Asks about a volume that is due, or drops it if it is long gone.
    fn ask(&mut self, name: String, due: &mut DelayQueue<String>, requests: &mut JoinSet<Answers>) {
        let now = Instant::now();
        let Some(volume) = self.volumes.get_mut(&name) else { return };
        volume.key = None;
        if !volume.is_mounted() {
            self.volumes.remove(&name);
            self.unpublished.volumes = true;
            return;
        }
        if !volume.is_unanswered() && !std::mem::take(&mut volume.has_slot) {
            let slot = self.next_refresh.max(now);
            self.next_refresh = slot + REFRESH_INTERVAL;
            if slot > now {
                (volume.has_slot, volume.due) = (true, slot);
                return schedule(&name, volume, due);
            }
        }
        let request = volume.request(&name, self.pods.as_ref());
        let lookup = request.run(self.api.clone(), self.selections.clone());
        volume.task = Some(requests.spawn(lookup).id());
    }

    /// Takes what a lookup came to.
    fn take_answers(&mut self, ended: Result<(task::Id, Answers), JoinError>, due: &mut DelayQueue<String>) {
        let now = Instant::now();
        let answers = match ended {
            Ok((_, answers)) => answers,
            // A panic, which its hook has logged.
            Err(error) => {
                let is_task = |volume: &CachedVolume| volume.task == Some(error.id());
                let Some((name, _)) = self.volumes.iter().find(|(_, volume)| is_task(volume)) else { return };
                Answers::panicked(name.clone())
            }
        };
        self.unpublished.status = true;
        let (name, failure) = (answers.name.clone(), answers.failure().cloned());
        for (resource, error) in answers.errors() {
            self.log.log_failure(resource, error);
        }
        let (asked_pv, asked_claim) = (answers.pv.is_some(), answers.claim.is_some());
        let Some(volume) = self.volumes.get_mut(&name) else { return };
        volume.task = None;
        self.unpublished.volumes |= volume.take(answers, self.pods.as_ref(), self.refresh, now);
        let failing_objects = self.volumes.values().filter(|volume| volume.is_failing()).count();
        let Some(volume) = self.volumes.get_mut(&name) else { return };
        match &failure {
            // A pause that another request asked for goes on.
            None => self.backoff.reset(),
            Some(failure) if failure.is_of_one_object() && failing_objects <= MAX_FAILING_OBJECTS => {
                volume.due = now + volume.pause_after(failure);
            }
            Some(failure) => {
                // What was under way when another request failed tells nothing new.
                if self.not_before <= now || failure.retry_after().is_some() {
                    let later = now + self.backoff.next_pause(failure.retry_after());
                    self.not_before = self.not_before.max(later);
                }
                volume.due = self.not_before;
            }
        }
        schedule(&name, volume, due);
        self.report(failure.as_ref());
        // As long as one object fails, the others' answers are no news.
        for (resource, is_asked) in
            [(ApiResource::PersistentVolumes, asked_pv), (ApiResource::PersistentVolumeClaims, asked_claim)]
        {
            if is_asked && self.lookup_success(resource) == Some(true) {
                self.log.log_recovery(resource);
            }
        }
    }

    /// Tells whether the server answers, be it with no.
    fn report(&mut self, failure: Option<&RequestError>) {
        self.unpublished.status = true;
        let is_reached = failure.is_none_or(RequestError::is_forbidden);
        self.channels.server.send_if_modified(|server| {
            let is_news = is_reached && !server.is_reached;
            server.is_reached |= is_reached;
            server.failure = failure.cloned().or(server.failure.take());
            is_news
        });
    }

    /// Whether requests about this come to something, if any was made.
    fn lookup_success(&self, resource: ApiResource) -> Option<bool> {
        let mut success = None;
        for volume in self.volumes.values() {
            let (is_tried, is_good) = match resource {
                ApiResource::PersistentVolumes => (volume.pv.is_tried(), volume.pv.is_good()),
                _ => match volume.claim() {
                    Some(claim) => (claim.is_tried(), claim.is_good()),
                    None => continue,
                },
            };
            if is_tried {
                success = Some(success.unwrap_or(true) && is_good);
            }
        }
        success
    }

    /// Publishes what is known. Maps in which nothing changed stay the same ones.
    fn publish(&mut self) {
        let unpublished = std::mem::take(&mut self.unpublished);
        let before = Arc::clone(&self.channels.metadata.borrow());
        let volumes = if unpublished.volumes {
            let known =
                self.volumes.iter().filter_map(|(name, volume)| Some((name.clone(), volume.metadata()?)));
            Arc::new(known.collect())
        } else {
            Arc::clone(&before.volumes)
        };
        let pods = match &self.pods {
            Some(pods) if unpublished.pods => Arc::new(pods.to_map()),
            _ => Arc::clone(&before.pods),
        };
        let PodsStatus { is_tried, is_failing, is_forbidden, confirmed } = self.pods_status;
        let success = [
            (ApiResource::Pods, is_tried.then_some(!is_failing && !is_forbidden)),
            (ApiResource::PersistentVolumes, self.lookup_success(ApiResource::PersistentVolumes)),
            (ApiResource::PersistentVolumeClaims, self.lookup_success(ApiResource::PersistentVolumeClaims)),
        ];
        let source = |(resource, success): (ApiResource, Option<bool>)| {
            Some(SourceStatus { name: resource.as_str(), success: success? })
        };
        let confirmed = self.volumes.values().filter_map(CachedVolume::confirmed).chain(confirmed);
        let (now, system_now) = (Instant::now(), SystemTime::now());
        self.channels.metadata.send_replace(Arc::new(Metadata {
            volumes,
            pods,
            awaits_volumes: true,
            awaits_pods: self.pods.is_some() && !is_forbidden,
            sources: success.into_iter().filter_map(source).collect(),
            oldest: confirmed.min().and_then(|confirmed| system_now.checked_sub(now - confirmed)),
        }));
    }
}

impl RestartableTask for Store {
    /// Runs until the collector is gone. After a panic it is called again: what was being asked then is asked again.
    async fn run(&mut self) {
        let mut requests = JoinSet::new();
        let mut due = DelayQueue::new();
        for (name, volume) in &mut self.volumes {
            (volume.task, volume.has_slot) = (None, false);
            volume.key = Some(due.insert_at(name.clone(), volume.due));
        }
        self.update_wanted(&mut due);
        let mut publish_at = None;
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            let Unpublished { volumes, pods, status } = self.unpublished;
            if publish_at.is_none() && (volumes || pods || status) {
                publish_at = Some(Instant::now() + PUBLISH_DELAY);
            }
            // One request shows whether the server is back.
            let max_requests = if self.backoff.is_failing() { 1 } else { MAX_CONCURRENT_LOOKUPS };
            let (may_ask, not_before) = (requests.len() < max_requests, self.not_before);
            tokio::select! {
                changed = self.channels.mounted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update_wanted(&mut due);
                }
                _ = self.channels.pod_events.recv_many(&mut events, MAX_EVENTS), if self.pods.is_some() => {
                    events.drain(..).for_each(|event| self.take_event(event));
                    self.update_wanted(&mut due);
                }
                Some(ended) = requests.join_next_with_id() => self.take_answers(ended, &mut due),
                Some(name) = next_due(&mut due, not_before), if may_ask => {
                    self.ask(name, &mut due, &mut requests);
                }
                () = sleep_until(publish_at.unwrap_or(not_before)), if publish_at.is_some() => {
                    publish_at = None;
                    self.publish();
                }
            }
        }
    }
}

/// The next volume that is due, but none before this time.
async fn next_due(due: &mut DelayQueue<String>, not_before: Instant) -> Option<String> {
    sleep_until(not_before).await;
    poll_fn(|context| due.poll_expired(context)).await.map(tokio_util::time::delay_queue::Expired::into_inner)
}

fn schedule(name: &str, volume: &mut CachedVolume, due: &mut DelayQueue<String>) {
    match &volume.key {
        Some(key) => due.reset_at(key, volume.due),
        None => volume.key = Some(due.insert_at(name.to_owned(), volume.due)),
    }
}
