//! Measuring many mounts by one deadline, on threads of its own: a mount that hangs costs one thread, and no other
//! mount its figures.
//!
//! The scrape's thread puts the mounts in a queue and waits; workers take them, one at a time. While the queue does
//! not empty, more workers are started. A worker whose mount does not answer is left behind with it: it counts as
//! hung, and that mount is not asked again until it answers.

mod state;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use super::statvfs::{Measure, Target};
use crate::volume::{Answer, Failure, Reason};
use state::{Job, State};

/// Workers that a round starts with: the calls of a healthy node take microseconds.
const FIRST_WORKERS: usize = 2;
/// How long the queue may stand before there are twice as many workers.
const TICK: Duration = Duration::from_millis(20);
/// Workers at work at one time, those that hang not counted.
const MOST_WORKERS: usize = 64;
/// A thread needs little: one path and the kernel's figures, but also room for a panic's message.
const STACK_BYTES: usize = 128 << 10;

/// Said once: it would be true for every scrape from then on.
static NO_THREAD: Once = Once::new();

/// What is known of a mount from earlier rounds, for the order in which mounts are asked: those that answered, then
/// new ones, then the rest; within these, whoever was left out most often goes first.
#[derive(Debug, Clone, Copy, Default)]
struct History {
    /// The last answer that was asked for came in time; `None` if none was ever asked for.
    answered: Option<bool>,
    /// Rounds since that left it out.
    skipped: u32,
}

/// Measures mounts; keeps the threads, and what it knows of mounts, between rounds.
pub(crate) struct Prober {
    shared: Arc<Shared>,
    history: HashMap<Arc<Target>, History>,
}

struct Shared {
    measure: Arc<dyn Measure>,
    state: Mutex<State>,
    /// There is work.
    work: Condvar,
    /// The last answer of a round has come.
    done: Condvar,
}

impl Prober {
    pub(crate) fn new(measure: Arc<dyn Measure>) -> Self {
        Self {
            shared: Arc::new(Shared {
                measure,
                state: Mutex::default(),
                work: Condvar::new(),
                done: Condvar::new(),
            }),
            history: HashMap::new(),
        }
    }

    /// Asks every mount once, and returns at the deadline at the latest: one answer each, in the same order.
    pub(crate) fn measure(&mut self, targets: &[Arc<Target>], deadline: Instant) -> Vec<Answer> {
        if targets.is_empty() {
            return Vec::new();
        }
        let order = self.order(targets);
        let mut state = self.shared.lock();
        state.begin(targets.len(), order);
        state = self.shared.wait(state, deadline);
        let answers = state.end();
        drop(state);
        self.remember(targets, &answers);
        answers
    }

    fn order(&self, targets: &[Arc<Target>]) -> Vec<Job> {
        let mut jobs: Vec<(History, Job)> = targets
            .iter()
            .enumerate()
            .map(|(slot, target)| {
                let history = self.history.get(target).copied().unwrap_or_default();
                let job = Job { slot, target: Arc::clone(target), proven: history.answered == Some(true) };
                (history, job)
            })
            .collect();
        jobs.sort_by_key(|(history, _)| {
            let class = match history.answered {
                Some(true) => 0,
                None => 1,
                Some(false) => 2,
            };
            (class, std::cmp::Reverse(history.skipped))
        });
        jobs.into_iter().map(|(_, job)| job).collect()
    }

    fn remember(&mut self, targets: &[Arc<Target>], answers: &[Answer]) {
        let mut before = std::mem::take(&mut self.history);
        for (target, answer) in targets.iter().zip(answers) {
            let mut history = before.remove(target).unwrap_or_default();
            match answer {
                Err(Failure { reason: Reason::Skipped, .. }) => history.skipped += 1,
                // With an error number it is an answer: of a client that itself waits no longer.
                Err(Failure { reason: Reason::Timeout, errno: None }) => {
                    history = History { answered: Some(false), skipped: 0 };
                }
                _ => history = History { answered: Some(true), skipped: 0 },
            }
            self.history.insert(Arc::clone(target), history);
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    /// No code that can panic runs under this lock, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the round's answers, and sees to it that there are enough workers.
    fn wait<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> MutexGuard<'a, State> {
        let mut wanted = FIRST_WORKERS;
        loop {
            let now = Instant::now();
            if state.is_answered() || now >= deadline {
                return state;
            }
            let mut wait = deadline - now;
            if state.has_work() {
                self.staff(&mut state, wanted, now);
                wanted = (wanted * 2).min(MOST_WORKERS);
                wait = wait.min(TICK);
            }
            state = self.done.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wakes or starts workers until `wanted` are at work.
    fn staff(self: &Arc<Self>, state: &mut State, wanted: usize, now: Instant) {
        let missing = state.missing_workers(wanted, now);
        for _ in 0..missing.min(state.idle) {
            self.work.notify_one();
        }
        for _ in state.idle..missing {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name("probe".into()).stack_size(STACK_BYTES);
            // Without another thread the mounts wait for those there are: they may be skipped, not lost.
            if let Err(error) = thread.spawn(move || shared.work()) {
                NO_THREAD.call_once(
                    || tracing::error!(%error, "no thread to measure mounts; some may be skipped"),
                );
                break;
            }
            state.threads += 1;
        }
    }

    /// A worker's life.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some((round, job)) = state.take(Instant::now()) else {
                if state.is_superfluous() {
                    state.threads -= 1;
                    return;
                }
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let answer = catch_unwind(AssertUnwindSafe(|| self.measure.measure(&job.target)))
                .unwrap_or_else(|_| Err(Reason::Other.into()));
            state = self.lock();
            if state.finish(round, &job, answer) {
                self.done.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests;
