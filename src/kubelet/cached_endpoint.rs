//! One page of the kubelet and its last answer: requested again when a collection finds the answer old.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio::time::error::Elapsed;

use super::client::{KubeletClient, KubeletPage, Parsed};
use super::error::KubeletError;
use crate::runtime::{Deadline, Job, JobLost};

/// For the whole exchange: connection, handshake, request and answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many intervals an answer is used if no newer one comes.
const MAX_AGE_INTERVALS: u32 = 3;
/// The pause after a failed request, however often somebody scrapes.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A page, which the collecting thread reads; tasks of the `clients` runtime make the requests, one at a time.
pub(super) struct CachedEndpoint<T: 'static> {
    page: &'static KubeletPage<T>,
    client: Arc<KubeletClient>,
    /// The request that is under way, and when it was made.
    request: Option<(Instant, Job<Exchange<T>>)>,
    /// A request was waited for in vain, or timed out, and none has ended since.
    is_hanging: bool,
    answer: Option<Answer<T>>,
    outcome: Option<Outcome>,
    /// Requests that failed, and entries that could not be parsed.
    pub(super) errors: Counter,
}

/// How reading a page goes.
#[derive(Debug, Clone, Copy)]
pub struct EndpointStatus {
    /// The last request succeeded.
    pub success: bool,
    /// When the last answer was received.
    pub answered: Option<SystemTime>,
}

/// What a request came to, and when by both clocks.
type Exchange<T> = (Result<Result<Parsed<T>, KubeletError>, Elapsed>, Instant, SystemTime);

struct Answer<T> {
    value: Arc<T>,
    requested: Instant,
    received: Instant,
    received_at: SystemTime,
}

enum Outcome {
    Success,
    /// An answer of which some entries could not be parsed.
    Malformed,
    Failure(KubeletError, Instant),
}

impl<T: Send + Sync> CachedEndpoint<T> {
    pub(super) fn new(page: &'static KubeletPage<T>, client: &Arc<KubeletClient>) -> Self {
        let (client, errors) = (Arc::clone(client), Counter::default());
        Self { page, client, request: None, is_hanging: false, answer: None, outcome: None, errors }
    }

    /// Makes a request if the answer is old and no request is under way.
    pub(super) fn refresh_if_stale(&mut self, now: Instant) {
        let age = |since: Instant| now.saturating_duration_since(since);
        let is_idle = self.has_ended(&Deadline::after(Duration::ZERO));
        let is_fresh = self
            .answer
            .as_ref()
            .is_some_and(|answer| age(answer.requested) < self.client.args.scrape_interval);
        let is_backing_off = matches!(self.outcome, Some(Outcome::Failure(_, at)) if age(at) < RETRY_DELAY);
        if is_idle && !is_fresh && !is_backing_off {
            let (page, client) = (self.page, Arc::clone(&self.client));
            let request = self.client.clients.run(async move {
                let result = tokio::time::timeout(REQUEST_TIMEOUT, client.get(page)).await;
                (result, Instant::now(), SystemTime::now())
            });
            self.request = Some((now, request));
        }
    }

    /// Waits for a request that is under way; whether none is any more.
    pub(super) fn wait(&mut self, deadline: &Deadline) -> bool {
        let has_ended = self.has_ended(deadline);
        self.is_hanging |= !has_ended && !deadline.is_cut();
        has_ended
    }

    /// The same, but at once where an answer can be used meanwhile or the request is known to hang; `false` if it was waited
    /// for in vain.
    pub(super) fn wait_if_lacking(&mut self, start: Instant, deadline: &Deadline) -> bool {
        let has_ended = self.has_ended(&Deadline::after(Duration::ZERO));
        has_ended || self.is_hanging || self.fresh_answer(start).is_some() || self.wait(deadline)
    }

    /// Whether no request is under way at the deadline. Records the outcome of one that has ended.
    fn has_ended(&mut self, deadline: &Deadline) -> bool {
        let Some((requested, request)) = &mut self.request else { return true };
        let Some(exchange) = request.wait(deadline) else { return false };
        let requested = *requested;
        self.request = None;
        self.record(requested, exchange);
        true
    }

    fn record(&mut self, requested: Instant, exchange: Result<Exchange<T>, JobLost>) {
        let (result, received, received_at) = exchange.unwrap_or_else(|_| {
            let panicked = KubeletError::new("the request panicked; the log has the message", "", None);
            (Ok(Err(panicked)), Instant::now(), SystemTime::now())
        });
        self.is_hanging = result.is_err();
        let outcome = match result.unwrap_or_else(|_| Err(KubeletError::timeout(REQUEST_TIMEOUT))) {
            Ok(Parsed { value, malformed }) => {
                self.answer = Some(Answer { value: Arc::new(value), requested, received, received_at });
                self.errors.inc_by(malformed as u64);
                if malformed > 0 { Outcome::Malformed } else { Outcome::Success }
            }
            Err(error) => {
                self.errors.inc();
                Outcome::Failure(error, received)
            }
        };
        self.log_transition(&outcome);
        self.outcome = Some(outcome);
    }

    /// Logs the first failure, and the recovery.
    fn log_transition(&self, outcome: &Outcome) {
        let path = self.page.path;
        match (&self.outcome, outcome) {
            (Some(Outcome::Failure(before, _)), Outcome::Failure(error, _)) if error.kind == before.kind => {}
            (_, Outcome::Failure(error, _)) => tracing::error!(
                event = "kubelet_request_failed", path, %error, remedy = error.remedy,
                "request to the kubelet failed"
            ),
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
        let answer = self.answer.as_ref()?;
        let age = start.saturating_duration_since(answer.received);
        (age <= self.client.args.scrape_interval * MAX_AGE_INTERVALS).then(|| Arc::clone(&answer.value))
    }

    /// The last answer, however old, if no request failed since: then nobody has scraped since.
    pub(super) fn last_answer(&self) -> Option<Arc<T>> {
        self.answer.as_ref().filter(|_| self.status().success).map(|answer| Arc::clone(&answer.value))
    }

    /// Whether any request has ended yet.
    pub(super) fn has_outcome(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn status(&self) -> EndpointStatus {
        EndpointStatus {
            success: matches!(self.outcome, Some(Outcome::Success | Outcome::Malformed)),
            answered: self.answer.as_ref().map(|answer| answer.received_at),
        }
    }
}
