//! A page of the kubelet's, asked for anew when its last answer is old.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::client::{Client, Page};
use super::failure::Failure;
use crate::aside::Aside;
use crate::remote::Pieces;

/// For so many intervals an answer is used when none comes after it.
const MOST_INTERVALS: u32 = 3;
/// The pause after an attempt that failed, however often somebody scrapes.
const PAUSE: Duration = Duration::from_secs(1);

/// No node has so many volumes of claims: an answer with more has no end, and is not kept.
pub(super) const MOST_ENTRIES: usize = 10_000;

/// What was read of an answer.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    /// Entries that could not be understood.
    pub(super) malformed: usize,
}

/// What is known of a page.
#[derive(Debug)]
pub(super) enum State<T> {
    /// It says this.
    Known(Arc<T>),
    /// It said this, too long ago, and is asked again only now: nobody wanted to know.
    Old(Arc<T>),
    /// It was not asked yet, or has not answered.
    NotYet,
    /// It cannot be had, and what it said is too old.
    Unknown,
}

/// A page, and its last answer.
pub(super) struct Polled<T> {
    page: Page,
    interval: Duration,
    asking: Aside<Vec<PathBuf>, Outcome<T>>,
    /// When it was asked for the last time.
    asked: Option<Instant>,
    last: Option<Good<T>>,
    /// How the last attempt that ended ended.
    ended: Option<Ended>,
    errors: u64,
}

/// What an attempt came to, and when: nobody may look for long.
struct Outcome<T> {
    result: Result<Parsed<T>, Failure>,
    came: Instant,
    came_at: SystemTime,
}

impl<T> From<Result<Parsed<T>, Failure>> for Outcome<T> {
    /// It came just now.
    fn from(result: Result<Parsed<T>, Failure>) -> Self {
        Self { result, came: Instant::now(), came_at: SystemTime::now() }
    }
}

struct Good<T> {
    value: Arc<T>,
    asked: Instant,
    came: Instant,
    came_at: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    Well,
    Malformed,
    Failed(Failure, Instant),
}

impl<T: Send + Sync + 'static> Polled<T> {
    /// Starts the thread that asks.
    pub(super) fn start(
        page: Page,
        client: Client,
        interval: Duration,
        parse: fn(Pieces) -> Result<Parsed<T>, String>,
    ) -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(2).build()?;
        let ask = move |directories: Vec<PathBuf>| {
            Outcome::from(runtime.block_on(client.get(page, &directories, parse)))
        };
        let asking = Aside::start("kubelet", ask)?;
        Ok(Self { page, interval, asking, asked: None, last: None, ended: None, errors: 0 })
    }

    pub(super) fn interrupt(&self) -> impl Fn() + Send + Sync + 'static {
        self.asking.interrupt()
    }

    /// Asks, if the last answer is old and nothing is under way.
    pub(super) fn refresh(&mut self, now: Instant, directories: &[PathBuf]) {
        self.wait(now);
        let age = |since: Instant| now.saturating_duration_since(since);
        let is_fresh = self.last.as_ref().is_some_and(|last| age(last.asked) < self.interval);
        let is_pausing = matches!(self.ended, Some(Ended::Failed(_, at)) if age(at) < PAUSE);
        if !is_fresh && !is_pausing && self.asking.busy_since().is_none() {
            self.asked = Some(now);
            self.asking.ask(directories.to_vec());
        }
    }

    /// Waits for an attempt that is under way; whether there is none any more.
    pub(super) fn wait(&mut self, deadline: Instant) -> bool {
        if self.asking.busy_since().is_none() {
            return true;
        }
        let outcome = self.asking.answer(deadline.saturating_duration_since(Instant::now()));
        match outcome {
            Some(outcome) => self.take(outcome),
            None if self.asking.busy_since().is_some() => return false,
            None => self.take(Err(Failure::Fault).into()),
        }
        true
    }

    fn take(&mut self, outcome: Outcome<T>) {
        let Outcome { result, came, came_at } = outcome;
        let ended = match result {
            Ok(Parsed { value, malformed }) => {
                self.last =
                    Some(Good { value: Arc::new(value), asked: self.asked.unwrap_or(came), came, came_at });
                self.errors += malformed as u64;
                if malformed > 0 { Ended::Malformed } else { Ended::Well }
            }
            Err(failure) => {
                self.errors += 1;
                Ended::Failed(failure, came)
            }
        };
        self.report(&ended);
        self.ended = Some(ended);
    }

    /// Says what begins and ceases to fail, once each.
    fn report(&self, ended: &Ended) {
        let page = self.page.path();
        match (&self.ended, ended) {
            (Some(Ended::Failed(before, _)), Ended::Failed(now, _)) if now.is_like(before) => {}
            (_, Ended::Failed(failure, _)) => {
                let remedy = failure.remedy(self.page);
                tracing::error!(page, %failure, remedy, "the kubelet cannot be asked");
            }
            (None | Some(Ended::Well | Ended::Failed(..)), Ended::Malformed) => {
                tracing::warn!(
                    page,
                    "entries of the kubelet's answer cannot be understood, and are left out"
                );
            }
            (Some(Ended::Failed(..) | Ended::Malformed), Ended::Well) => {
                tracing::info!(page, "the kubelet answers again");
            }
            (None | Some(Ended::Well), Ended::Well) | (Some(Ended::Malformed), Ended::Malformed) => {}
        }
    }

    /// What is known for a collection that began then.
    pub(super) fn state(&self, start: Instant) -> State<T> {
        let most = self.interval * MOST_INTERVALS;
        match &self.last {
            Some(last) if start.saturating_duration_since(last.came) <= most => {
                State::Known(Arc::clone(&last.value))
            }
            Some(last) if self.success() => State::Old(Arc::clone(&last.value)),
            _ if self.ended.is_none() => State::NotYet,
            _ => State::Unknown,
        }
    }

    /// Whether the last attempt that ended brought an answer.
    pub(super) fn success(&self) -> bool {
        matches!(self.ended, Some(Ended::Well | Ended::Malformed))
    }

    /// Attempts that failed and entries that were left out, since the start.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// When the last good answer came.
    pub(super) fn came(&self) -> Option<SystemTime> {
        self.last.as_ref().map(|last| last.came_at)
    }
}
