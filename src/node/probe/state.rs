//! What the workers and the scrape's thread share: the round's queue and answers, and who is being asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::statvfs::Target;
use super::subject::Subject;
use crate::volume::{ProbeResult, Reason};

/// A worker that has waited this long for one mount is not waited for when workers are counted.
const HUNG_AFTER: Duration = Duration::from_millis(100);
/// Threads that may hang before mounts that never answered are tried one at a time only: as many as a node may have
/// volumes. One costs some 30 KiB, most of it the kernel's; mounts that nobody asks would lose their figures for good.
const MOST_HUNG: usize = 1024;
/// Threads at most, these trials included.
const MOST_THREADS: usize = 2 * MOST_HUNG;
/// Workers that stay for the next round.
const KEPT_IDLE: usize = 2;

/// One mount to be asked.
#[derive(Debug)]
pub(super) struct Job {
    /// Whose answer it is.
    pub(super) slot: usize,
    pub(super) subject: Arc<Subject>,
}

/// A job that a worker has taken.
pub(super) struct Task {
    job: Job,
    round: u64,
    /// Its place among all that were ever taken.
    number: u64,
    /// It was the mount's first, or the one before was not answered.
    is_trial: bool,
}

impl Task {
    pub(super) fn target(&self) -> &Target {
        &self.job.subject.target
    }
}

/// How many threads mounts that hang may have.
pub(super) struct Limits {
    pub(super) hung: usize,
    pub(super) threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hung: MOST_HUNG, threads: MOST_THREADS }
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) limits: Limits,
    /// Answers to earlier rounds are thrown away.
    round: u64,
    queue: VecDeque<Job>,
    answers: Vec<Option<ProbeResult>>,
    missing: usize,
    /// Since when workers wait, in this or an earlier round, by the number of the task: the longest first.
    asked: BTreeMap<u64, Instant>,
    /// Tasks taken so far.
    tasks: u64,
    /// When a mount that never answered was asked last, if it has not answered yet.
    trial: Option<Instant>,
    pub(super) threads: usize,
    pub(super) idle: usize,
    /// When it was said that measuring is to end.
    pub(super) interrupted: Option<Instant>,
    /// Nobody will ask again.
    pub(super) closed: bool,
    /// A mount of this round answered the last time.
    has_proven: bool,
}

impl State {
    /// A mount still being asked by an earlier round has its answer: time-out.
    pub(super) fn begin(&mut self, jobs: Vec<Job>) {
        self.round += 1;
        self.answers = vec![None; jobs.len()];
        self.queue.clear();
        self.has_proven = jobs.iter().any(|job| job.subject.is_proven());
        for job in jobs {
            if job.subject.is_asked() {
                self.answers[job.slot] = Some(Err(Reason::Timeout.into()));
            } else {
                self.queue.push_back(job);
            }
        }
        self.missing = self.queue.len();
    }

    /// The round is over: who is still being asked timed out, who is still in the queue was skipped.
    pub(super) fn end(&mut self) -> Vec<ProbeResult> {
        self.round += 1;
        for job in self.queue.drain(..) {
            self.answers[job.slot] = Some(Err(Reason::Skipped.into()));
        }
        let answers = std::mem::take(&mut self.answers).into_iter();
        answers.map(|answer| answer.unwrap_or(Err(Reason::Timeout.into()))).collect()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many workers must be woken or started to have this many at work.
    pub(super) fn missing_workers(&self, wanted: usize, now: Instant) -> usize {
        if self.is_blocked(now) {
            return 0;
        }
        let at_work = self.asked.len() - self.hung(now);
        let spare = usize::from(self.is_next_unproven());
        let missing = wanted.saturating_sub(at_work).min(self.queue.len()) + spare;
        missing.min(self.idle + self.limits.threads.saturating_sub(self.threads))
    }

    fn hung(&self, now: Instant) -> usize {
        let hung = |since: &&Instant| now.saturating_duration_since(**since) >= HUNG_AFTER;
        self.asked.values().take_while(hung).count()
    }

    /// The next mount to be asked.
    pub(super) fn take(&mut self, now: Instant) -> Option<Task> {
        // The system may give no more threads: the last one is for those who answer.
        let is_last = self.has_proven && self.threads < self.asked.len() + 2;
        if self.is_blocked(now) || (is_last && self.is_next_unproven()) {
            return None;
        }
        let job = self.queue.pop_front()?;
        let is_trial = !job.subject.is_proven();
        if is_trial {
            self.trial = Some(now);
        }
        job.subject.set_asked(true);
        self.tasks += 1;
        self.asked.insert(self.tasks, now);
        Some(Task { job, round: self.round, number: self.tasks, is_trial })
    }

    /// Whether too many hang for the next mount to be asked now. Proven ones come first in the queue, so nothing behind
    /// it may be asked either. A trial that hangs too makes way for the next one, while threads are left for proven mounts.
    fn is_blocked(&self, now: Instant) -> bool {
        let is_trying = || self.trial.is_some_and(|since| now.saturating_duration_since(since) < HUNG_AFTER);
        self.is_next_unproven()
            && self.asked.len() >= self.limits.hung
            && self.hung(now) >= self.limits.hung
            && (is_trying() || self.threads >= self.limits.threads.saturating_sub(super::MOST_WORKERS))
    }

    fn is_next_unproven(&self) -> bool {
        self.queue.front().is_some_and(|next| !next.subject.is_proven())
    }

    /// Takes an answer; whether it is the last of its round.
    pub(super) fn finish(&mut self, task: &Task, answer: ProbeResult) -> bool {
        self.asked.remove(&task.number);
        task.job.subject.set_asked(false);
        if task.is_trial {
            self.trial = None;
        }
        if task.round != self.round {
            return false;
        }
        self.answers[task.job.slot] = Some(answer);
        self.missing -= 1;
        self.missing == 0
    }

    /// Whether a worker that finds nothing to do should end.
    pub(super) fn is_superfluous(&self) -> bool {
        self.closed || self.idle >= KEPT_IDLE
    }
}
