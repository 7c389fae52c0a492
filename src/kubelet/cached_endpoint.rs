//! One page of the kubelet and its last answer: requested again when a collection finds the answer old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::counter::Counter;

use super::client::{KubeletClient, KubeletPage, Parsed};
use super::error::KubeletError;
use crate::runtime::{Clients, Deadline, catch_panic};

/// How many intervals an answer is used if no newer one comes.
const MAX_AGE_INTERVALS: u32 = 3;
/// The pause after a failed request, however often somebody scrapes.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The collecting thread's side of a page; tasks of the `clients` runtime make the requests, one at a time.
pub(super) struct CachedEndpoint<T: 'static> {
    page: &'static KubeletPage<T>,
    interval: Duration,
    clients: Clients,
    client: Arc<KubeletClient>,
    history: Arc<Mutex<History<T>>>,
    /// The outcome that the log has.
    reported: Option<Outcome>,
}

/// How reading a page goes.
#[derive(Debug, Clone, Copy)]
pub struct EndpointStatus {
    /// The last request succeeded.
    pub success: bool,
    /// When the last answer was received.
    pub answered: Option<SystemTime>,
}

/// What came of all requests so far.
struct History<T> {
    is_requesting: bool,
    /// A request was waited for in vain, or timed out, and none has ended since.
    is_hanging: bool,
    answer: Option<Answer<T>>,
    outcome: Option<Outcome>,
    /// Requests that failed, and entries that could not be parsed.
    errors: Counter,
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
    Failure(KubeletError, Instant),
}

impl<T: Send + Sync> CachedEndpoint<T> {
    pub(super) fn new(
        page: &'static KubeletPage<T>,
        interval: Duration,
        clients: &Clients,
        client: &Arc<KubeletClient>,
    ) -> Self {
        let history = History {
            is_requesting: false,
            is_hanging: false,
            answer: None,
            outcome: None,
            errors: Counter::default(),
        };
        let (clients, client) = (clients.clone(), Arc::clone(client));
        Self { page, interval, clients, client, history: Arc::new(Mutex::new(history)), reported: None }
    }

    /// Makes a request if the answer is old and no request is under way.
    pub(super) fn refresh_if_stale(&self, now: Instant) {
        if !self.history().start_request_if_due(now, self.interval) {
            return;
        }
        let (page, client, history) = (self.page, Arc::clone(&self.client), Arc::clone(&self.history));
        let waiter = thread::current();
        self.clients.spawn(async move {
            let result = catch_panic(client.get(page)).await;
            let result = result.unwrap_or(Err(KubeletError::Panicked));
            lock(&history).record(now, result);
            waiter.unpark();
        });
    }

    /// Waits for a request that is under way; whether none is any more.
    pub(super) fn wait(&mut self, deadline: &Deadline) -> bool {
        let is_idle = deadline.wait_for(|| (!self.history().is_requesting).then_some(())).is_some();
        self.history().is_hanging |= !is_idle && !deadline.is_cut();
        self.report_transition();
        is_idle
    }

    /// The same, but at once where an answer can be used meanwhile or the request is known to hang; `false` if it was waited
    /// for in vain.
    pub(super) fn wait_if_lacking(&mut self, start: Instant, deadline: &Deadline) -> bool {
        if self.fresh_answer(start).is_none() && !self.history().is_hanging {
            return self.wait(deadline);
        }
        self.report_transition();
        true
    }

    /// Logs the first failure, and the recovery.
    fn report_transition(&mut self) {
        let Some(outcome) = self.history().outcome.clone() else {
            return;
        };
        let KubeletPage { path, rbac_resource, .. } = self.page;
        let before = self.reported.replace(outcome.clone());
        match (before, outcome) {
            (Some(Outcome::Failure(before, _)), Outcome::Failure(error, _)) if error.is_like(&before) => {}
            (_, Outcome::Failure(error, _)) => {
                let remedy = error.remedy(rbac_resource);
                tracing::error!(
                    event = "kubelet_request_failed", path, %error, remedy,
                    "request to the kubelet failed"
                );
            }
            (Some(Outcome::Malformed), Outcome::Malformed)
            | (None | Some(Outcome::Success), Outcome::Success) => {}
            (_, Outcome::Malformed) => tracing::warn!(
                event = "kubelet_entries_skipped",
                path,
                "skipped entries of the kubelet's response that do not parse"
            ),
            (_, Outcome::Success) => {
                tracing::info!(event = "kubelet_recovered", path, "the kubelet answers again");
            }
        }
    }

    /// The last answer, if it is not too old for a collection that began at `start`.
    pub(super) fn fresh_answer(&self, start: Instant) -> Option<Arc<T>> {
        let history = self.history();
        let answer = history.answer.as_ref()?;
        let age = start.saturating_duration_since(answer.received);
        (age <= self.interval * MAX_AGE_INTERVALS).then(|| Arc::clone(&answer.value))
    }

    /// The last answer, however old, if no request failed since: then nobody has scraped since.
    pub(super) fn last_answer(&self) -> Option<Arc<T>> {
        let history = self.history();
        history.answer.as_ref().filter(|_| history.has_succeeded()).map(|answer| Arc::clone(&answer.value))
    }

    /// Whether any request has ended yet.
    pub(super) fn has_outcome(&self) -> bool {
        self.history().outcome.is_some()
    }

    pub(super) fn status(&self) -> EndpointStatus {
        let history = self.history();
        EndpointStatus {
            success: history.has_succeeded(),
            answered: history.answer.as_ref().map(|answer| answer.received_at),
        }
    }

    pub(super) fn errors(&self) -> Counter {
        self.history().errors.clone()
    }

    fn history(&self) -> MutexGuard<'_, History<T>> {
        lock(&self.history)
    }
}

/// Poisoning is ignored: no code holding this lock can panic.
fn lock<T>(history: &Mutex<History<T>>) -> MutexGuard<'_, History<T>> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> History<T> {
    fn start_request_if_due(&mut self, now: Instant, interval: Duration) -> bool {
        let age = |since: Instant| now.saturating_duration_since(since);
        let is_fresh = self.answer.as_ref().is_some_and(|answer| age(answer.requested) < interval);
        let is_backing_off = matches!(self.outcome, Some(Outcome::Failure(_, at)) if age(at) < RETRY_DELAY);
        let is_due = !self.is_requesting && !is_fresh && !is_backing_off;
        self.is_requesting |= is_due;
        is_due
    }

    fn record(&mut self, requested: Instant, result: Result<Parsed<T>, KubeletError>) {
        let received = Instant::now();
        self.is_requesting = false;
        self.is_hanging = matches!(result, Err(KubeletError::Timeout(_)));
        self.outcome = Some(match result {
            Ok(Parsed { value, malformed }) => {
                let (value, received_at) = (Arc::new(value), SystemTime::now());
                self.answer = Some(Answer { value, requested, received, received_at });
                self.errors.inc_by(malformed as u64);
                if malformed > 0 { Outcome::Malformed } else { Outcome::Success }
            }
            Err(error) => {
                self.errors.inc();
                Outcome::Failure(error, received)
            }
        });
    }

    fn has_succeeded(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Success | Outcome::Malformed))
    }
}
