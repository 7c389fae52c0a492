//! One endpoint of the kubelet and its last answer: requested again when a collection finds the answer old.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};

use super::client::KubeletClient;
use super::error::KubeletError;
use super::path::KubeletPath;
use crate::runtime::{Clients, Deadline, catch_panic};

/// How many intervals an answer is used if no newer one comes.
const MAX_AGE_INTERVALS: u32 = 3;
/// The pause after a failed request, however often somebody scrapes.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Entries of one answer; no node has that many volumes. A longer answer is an error.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// A parsed answer.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    /// Entries that could not be parsed.
    pub(super) malformed: usize,
}

/// What can be used of an endpoint's answers.
#[derive(Debug)]
pub(super) enum CachedAnswer<T> {
    Fresh(Arc<T>),
    /// Too old, but the last request succeeded: nobody has scraped since.
    Stale(Arc<T>),
    /// No request has ended yet.
    NotYet,
    /// The last request failed, and the answer before it is too old.
    Unavailable,
}

/// The collecting thread's side of an endpoint; a task of the `clients` runtime makes the requests.
pub(super) struct CachedEndpoint<T> {
    path: KubeletPath,
    interval: Duration,
    requests: mpsc::UnboundedSender<RefreshRequest>,
    /// Requests sent so far.
    requested: u64,
    history: watch::Receiver<History<T>>,
    /// The outcome that the log has.
    reported: Option<Outcome>,
}

struct RefreshRequest {
    started: Instant,
    /// The kubelet's directories as they are reached here.
    directories: Vec<PathBuf>,
    /// The thread that waits for the answer.
    waiter: Thread,
}

/// What came of all requests so far.
struct History<T> {
    /// Requests that have ended.
    ended: u64,
    answer: Option<Answer<T>>,
    outcome: Option<Outcome>,
    errors: u64,
}

struct Answer<T> {
    value: Arc<T>,
    requested: Instant,
    received: Instant,
    received_at: SystemTime,
}

#[derive(Debug, Clone)]
enum Outcome {
    Success,
    /// An answer of which some entries could not be parsed.
    Malformed,
    Failure(Arc<KubeletError>, Instant),
}

impl<T: Send + Sync + 'static> CachedEndpoint<T> {
    /// Starts the task that makes the requests.
    pub(super) fn start(
        clients: &Clients,
        client: KubeletClient,
        path: KubeletPath,
        interval: Duration,
        parse: fn(&[u8]) -> Result<Parsed<T>, String>,
    ) -> Self {
        let (requests, mut queue) = mpsc::unbounded_channel::<RefreshRequest>();
        let (sender, history) = watch::channel(History { ended: 0, answer: None, outcome: None, errors: 0 });
        clients.spawn(async move {
            while let Some(RefreshRequest { started, directories, waiter }) = queue.recv().await {
                let result = catch_panic(client.get(path, directories, parse)).await;
                let result = result.unwrap_or(Err(KubeletError::Panicked));
                sender.send_modify(|history| history.record(started, result));
                waiter.unpark();
            }
        });
        Self { path, interval, requests, requested: 0, history, reported: None }
    }

    /// Makes a request if the answer is old and no request is under way.
    pub(super) fn refresh_if_stale(&mut self, now: Instant, directories: &[PathBuf]) {
        let is_due = {
            let history = self.history.borrow();
            let age = |since: Instant| now.saturating_duration_since(since);
            let is_fresh =
                history.answer.as_ref().is_some_and(|answer| age(answer.requested) < self.interval);
            let is_backing_off =
                matches!(history.outcome, Some(Outcome::Failure(_, at)) if age(at) < RETRY_DELAY);
            history.ended == self.requested && !is_fresh && !is_backing_off
        };
        let request =
            || RefreshRequest { started: now, directories: directories.to_vec(), waiter: thread::current() };
        // The task lives as long as the program.
        if is_due && self.requests.send(request()).is_ok() {
            self.requested += 1;
        }
    }

    /// Waits for a request that is under way; whether none is any more.
    pub(super) fn wait(&mut self, deadline: &Deadline) -> bool {
        let (history, requested) = (&self.history, self.requested);
        let is_idle = deadline.wait_for(|| (history.borrow().ended == requested).then_some(())).is_some();
        self.report_transition();
        is_idle
    }

    /// Logs the first failure, and the recovery.
    fn report_transition(&mut self) {
        let Some(outcome) = self.history.borrow().outcome.clone() else {
            return;
        };
        let path = self.path.as_str();
        let before = self.reported.replace(outcome.clone());
        match (before, outcome) {
            (Some(Outcome::Failure(before, _)), Outcome::Failure(error, _)) if error.is_like(&before) => {}
            (_, Outcome::Failure(error, _)) => {
                let remedy = error.remedy(self.path);
                tracing::error!(page = path, failure = %error, remedy, "the kubelet cannot be asked");
            }
            (None | Some(Outcome::Success | Outcome::Failure(..)), Outcome::Malformed) => {
                tracing::warn!(
                    page = path,
                    "entries of the kubelet's answer cannot be understood, and are left out"
                );
            }
            (Some(Outcome::Failure(..) | Outcome::Malformed), Outcome::Success) => {
                tracing::info!(page = path, "the kubelet answers again");
            }
            (None | Some(Outcome::Success), Outcome::Success)
            | (Some(Outcome::Malformed), Outcome::Malformed) => {}
        }
    }

    /// What a collection that began at `start` can use.
    pub(super) fn answer(&self, start: Instant) -> CachedAnswer<T> {
        let history = self.history.borrow();
        match &history.answer {
            Some(answer)
                if start.saturating_duration_since(answer.received) <= self.interval * MAX_AGE_INTERVALS =>
            {
                CachedAnswer::Fresh(Arc::clone(&answer.value))
            }
            Some(answer) if history.has_succeeded() => CachedAnswer::Stale(Arc::clone(&answer.value)),
            _ if history.outcome.is_none() => CachedAnswer::NotYet,
            _ => CachedAnswer::Unavailable,
        }
    }

    /// Whether the last request that ended brought an answer.
    pub(super) fn has_succeeded(&self) -> bool {
        self.history.borrow().has_succeeded()
    }

    /// Failed requests and malformed entries since the start.
    pub(super) fn errors(&self) -> u64 {
        self.history.borrow().errors
    }

    /// When the last answer was received.
    pub(super) fn received_at(&self) -> Option<SystemTime> {
        self.history.borrow().answer.as_ref().map(|answer| answer.received_at)
    }
}

impl<T> History<T> {
    fn record(&mut self, requested: Instant, result: Result<Parsed<T>, KubeletError>) {
        let received = Instant::now();
        self.ended += 1;
        self.outcome = Some(match result {
            Ok(Parsed { value, malformed }) => {
                let (value, received_at) = (Arc::new(value), SystemTime::now());
                self.answer = Some(Answer { value, requested, received, received_at });
                self.errors += malformed as u64;
                if malformed > 0 { Outcome::Malformed } else { Outcome::Success }
            }
            Err(error) => {
                self.errors += 1;
                Outcome::Failure(Arc::new(error), received)
            }
        });
    }

    fn has_succeeded(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Success | Outcome::Malformed))
    }
}
