//! Measuring many mounts by one deadline, on threads of its own: a mount that hangs costs one thread, and no other
//! mount its figures.
//!
//! The scrape's thread puts the mounts in a queue and waits; workers take them, one at a time. While the queue does
//! not empty, more workers are started. A worker whose mount does not answer is left behind with it: it counts as
//! hung, and that mount is not asked again until it answers.

mod state;
mod subject;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use super::statvfs::{Measure, Target};
use crate::volume::{ProbeResult, Reason};
use state::{Job, State};
use subject::Subject;

/// How long the first worker is alone: it asks a healthy node's mounts in a few microseconds each, and a second one that
/// is not needed would cost more than it helps.
const ALONE: Duration = Duration::from_millis(1);
/// How long the queue may stand from then on before there are twice as many workers.
const TICK: Duration = Duration::from_millis(20);
/// How long a round may take once measuring is to end.
const HASTE: Duration = Duration::from_millis(300);
/// Workers at work at one time, those that hang not counted.
const MOST_WORKERS: usize = 64;
/// A thread needs little: one path and the kernel's figures, but also room for a panic's message.
const STACK_BYTES: usize = 128 << 10;

/// Said once: it would be true for every scrape from then on.
static NO_THREAD: Once = Once::new();

/// Measures mounts; keeps the threads, and what it knows of mounts, between rounds.
pub(crate) struct Prober {
    shared: Arc<Shared>,
    /// The mounts to be measured.
    subjects: Vec<Arc<Subject>>,
    /// Mounts that are to be measured no more, but have a thread yet.
    left: Vec<Arc<Subject>>,
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
        let shared = Shared { measure, state: Mutex::default(), work: Condvar::new(), done: Condvar::new() };
        Self { shared: Arc::new(shared), subjects: Vec::new(), left: Vec::new() }
    }

    /// Sets which mounts are measured from now on. What is known of those that were before stays known, as long as they
    /// are measured or a thread waits for them.
    pub(crate) fn watch(&mut self, targets: Vec<Target>) {
        let before = self.subjects.drain(..).chain(self.left.drain(..));
        let mut before: HashMap<Target, Arc<Subject>> =
            before.map(|subject| (subject.target.clone(), subject)).collect();
        let subject = |target| before.remove(&target).unwrap_or_else(|| Arc::new(Subject::new(target)));
        self.subjects = targets.into_iter().map(subject).collect();
        self.left = before.into_values().filter(|subject| subject.is_asked()).collect();
    }

    /// What ends measuring before its deadline.
    pub(crate) fn interrupt(&self) -> Interrupt {
        Interrupt(Arc::clone(&self.shared))
    }

    /// Asks every mount once, and returns at the deadline at the latest: one answer each, in the same order.
    pub(crate) fn measure(&mut self, deadline: Instant) -> Vec<ProbeResult> {
        if self.subjects.is_empty() {
            return Vec::new();
        }
        let jobs = self.jobs();
        let mut state = self.shared.lock();
        state.begin(jobs);
        state = self.shared.wait(state, deadline);
        let answers = state.end();
        drop(state);
        for (subject, answer) in self.subjects.iter().zip(&answers) {
            subject.remember(answer);
        }
        answers
    }

    /// The mounts in the order in which they are asked.
    fn jobs(&self) -> Vec<Job> {
        let jobs = self.subjects.iter().enumerate();
        let mut jobs: Vec<Job> =
            jobs.map(|(slot, subject)| Job { slot, subject: Arc::clone(subject) }).collect();
        jobs.sort_by_key(|job| job.subject.rank());
        jobs
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

/// Ends the round that is under way, and all that follow, before their deadline.
pub struct Interrupt(Arc<Shared>);

impl Interrupt {
    /// What hangs is waited for no longer than mounts need that do not.
    pub fn end_measuring(&self) {
        self.0.lock().interrupted = Some(Instant::now());
        self.0.done.notify_all();
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
        let (mut wanted, mut tick) = (1, ALONE);
        let start = Instant::now();
        loop {
            let now = Instant::now();
            let in_haste = state.interrupted.map(|at| at.max(start) + HASTE);
            let deadline = in_haste.map_or(deadline, |haste| haste.min(deadline));
            if state.is_answered() || now >= deadline {
                return state;
            }
            let mut wait = deadline - now;
            if state.has_work() {
                let waking = self.staff(&mut state, wanted, now);
                wait = wait.min(tick);
                (wanted, tick) = ((wanted * 2).min(MOST_WORKERS), TICK);
                // Who wakes wants the lock at once.
                drop(state);
                (0..waking).for_each(|_| self.work.notify_one());
                state = self.lock();
                if state.is_answered() {
                    return state;
                }
            }
            state = self.done.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts workers until `wanted` are at work, but those that can be woken: how many they are.
    fn staff(self: &Arc<Self>, state: &mut State, wanted: usize, now: Instant) -> usize {
        let missing = state.missing_workers(wanted, now);
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
        missing.min(state.idle)
    }

    /// A worker's life.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(task) = state.take(Instant::now()) else {
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
            let answer = catch_unwind(AssertUnwindSafe(|| self.measure.measure(task.target())))
                .unwrap_or_else(|_| Err(Reason::Other.into()));
            state = self.lock();
            if state.finish(&task, answer) {
                drop(state);
                self.done.notify_one();
                state = self.lock();
            }
        }
    }
}

#[cfg(test)]
mod tests;
