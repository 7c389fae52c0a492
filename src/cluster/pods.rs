//! The watch of this node's pods, kept open for as long as the program runs.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::WatchEvent;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::pod_index::PodIndex;
use super::request_error::RequestError;
use super::requests::{ApiClient, PODS};
use super::slim_pod::SlimPod;
use crate::runtime::backoff::{self, Backoff};
use crate::volume::VolumeMount;

/// How long one watch lasts, in seconds. Nodes differ, so that their watches do not end together.
const WATCH_SECONDS: RangeInclusive<u32> = 240..=290;
/// How much longer a watch may last before the server counts as gone.
const WATCH_GRACE: Duration = Duration::from_secs(10);
/// A watch that ends sooner and got no further has failed.
const MIN_WATCH_TIME: Duration = Duration::from_secs(5);
/// The nodes of a cluster come back to a server that was restarted within this time.
const RECONNECT_WINDOW: Duration = Duration::from_secs(10);
/// With this and the store's own, a node averages at most 2 requests a minute while the server fails.
pub(super) const MAX_BACKOFF_WINDOW: Duration = Duration::from_secs(200);
/// The same where pods must not be read.
const FORBIDDEN_WINDOW: Duration = Duration::from_mins(2);
const MAX_FORBIDDEN_WINDOW: Duration = Duration::from_mins(32);

/// Watches the pods of one node.
pub(super) struct PodWatcher {
    api: ApiClient,
    node_name: String,
    pods: watch::Sender<PodIndex>,
    mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    /// From where to go on; `None` from the beginning. A version is good only after the first bookmark: until then pods are
    /// sent in any order of their versions.
    version: Option<String>,
    /// The watch has stayed open for a while.
    is_open: bool,
}

impl PodWatcher {
    pub(super) fn new(
        api: ApiClient,
        node_name: String,
        pods: watch::Sender<PodIndex>,
        mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    ) -> Self {
        Self { api, node_name, pods, mounted, version: None, is_open: false }
    }

    /// Watches for as long as the program runs. After a panic, which may have lost an event, from the beginning.
    pub(super) async fn run(&mut self) {
        self.version = None;
        let mut backoff = Backoff::new(RECONNECT_WINDOW, MAX_BACKOFF_WINDOW);
        let mut forbidden = Backoff::new(FORBIDDEN_WINDOW, MAX_FORBIDDEN_WINDOW);
        let mut has_expired = false;
        loop {
            let seconds = backoff::between(&WATCH_SECONDS);
            let (started, version) = (Instant::now(), self.version.clone());
            let result = self.watch(seconds).await;
            if self.is_open || (result.is_ok() && self.version != version) {
                has_expired = false;
                backoff.reset();
                forbidden.reset();
                if result.is_ok() {
                    let is_whole = started.elapsed() >= Duration::from_secs(seconds.into());
                    if !is_whole {
                        // The server is stopping, for all nodes at once.
                        sleep(backoff::up_to(RECONNECT_WINDOW)).await;
                    }
                    continue;
                }
            }
            let failure = |text: &str| RequestError::Connect(text.into());
            let mut error = result.err().unwrap_or_else(|| failure("the watch ended at once"));
            // The version is too old, or may be what the server does not understand.
            if error.is_status(410) || error.is_status(400) {
                self.version = None;
            }
            if error.is_status(410) {
                if !std::mem::replace(&mut has_expired, true) {
                    continue;
                }
                error = failure("the watch expires again and again");
            }
            let backoff = if error.is_forbidden() { &mut forbidden } else { &mut backoff };
            let pause = backoff.next_pause(error.retry_after());
            self.pods.send_modify(|pods| pods.record_failure(error));
            sleep(pause).await;
        }
    }

    /// One watch, until it ends.
    async fn watch(&mut self, seconds: u32) -> Result<(), RequestError> {
        self.is_open = false;
        if self.version.is_none() {
            self.pods.send_modify(PodIndex::restart);
        }
        let events = self.api.watch_pods(&self.node_name, seconds, self.version.as_deref()).await?;
        let max_time = Duration::from_secs(seconds.into()) + WATCH_GRACE;
        let result = timeout(max_time, self.read(events)).await;
        let result = result.unwrap_or(Err(RequestError::Timeout("the watch lasts longer than it was to")));
        if let Some(error) = result.as_ref().err().filter(|error| !error.is_status(410)) {
            self.api.count(PODS, Some(error));
        }
        result
    }

    async fn read(
        &mut self,
        events: impl Stream<Item = kube::Result<WatchEvent<SlimPod>>>,
    ) -> Result<(), RequestError> {
        let mut events = pin!(events);
        let open_at = Instant::now() + MIN_WATCH_TIME;
        let mut is_warned = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sleep_until(open_at), if !self.is_open => {
                    self.is_open = true;
                    self.pods.send_modify(PodIndex::record_success);
                    continue;
                }
            };
            match event {
                None => return Ok(()),
                Some(Ok(WatchEvent::Error(status))) => return Err(kube::Error::Api(status).into()),
                Some(Ok(event)) => self.apply(event),
                Some(Err(error)) if is_of_one_event(&error) => {
                    let failure = RequestError::from(error);
                    self.api.count(PODS, Some(&failure));
                    // Once: where one event makes no sense, all may.
                    if !std::mem::replace(&mut is_warned, true) {
                        tracing::warn!(event = "pod_events_skipped", error = %failure, "skipped events of the pod watch that do not parse");
                    }
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    fn apply(&mut self, event: WatchEvent<SlimPod>) {
        let has_all_pods = self.version.is_some();
        let version = match &event {
            WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version.clone()),
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) => {
                pod.resource_version.clone().filter(|_| has_all_pods)
            }
            WatchEvent::Error(_) => None,
        };
        self.version = version.filter(|version| is_version(version)).or(self.version.take());
        self.pods.send_modify(|pods| {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pods.put(pod),
                WatchEvent::Deleted(pod) => pods.remove(&pod),
                WatchEvent::Bookmark(_) => {
                    pods.finish_restart();
                    let has_pods = self.mounted.borrow().iter().any(|mount| mount.pod_uid.is_some());
                    if !has_all_pods && pods.is_empty() && has_pods {
                        let node = &self.node_name;
                        tracing::warn!(
                            event = "node_has_no_pods",
                            node,
                            "no pods on this node: check --node-name"
                        );
                    }
                }
                WatchEvent::Error(_) => {}
            }
            pods.record_success();
        });
    }
}

/// Whether it can be asked for: any other would fail every watch from there on.
fn is_version(text: &str) -> bool {
    text.parse::<u64>().is_ok()
}

/// Whether the events after this one are as good as ever. kube takes any JSON object that is no event for a status.
fn is_of_one_event(error: &kube::Error) -> bool {
    matches!(error, kube::Error::SerdeError(_))
        || matches!(error, kube::Error::Api(status) if status.code == 0)
}
