//! Which mount is probed next, and by how many threads; pure but for the clock that its caller reads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::volume::{ProbeError, ProbeResult, Reason, VolumeMount};

/// Workers at work at one time, not counting those that hang.
pub(super) const MAX_WORKERS: usize = 64;
/// A worker that has waited this long for one mount does not count as at work.
const HUNG_AFTER: Duration = Duration::from_millis(100);
/// Hung threads before mounts that never answered are tried one at a time only: as many as a node may have volumes. A
/// thread costs some 30 KiB, most of it the kernel's; mounts that are never probed would lose their figures for good.
const MAX_HUNG: usize = 1024;
/// All threads, these trials included.
const MAX_THREADS: usize = 2 * MAX_HUNG;
/// Workers that stay for the next round.
const MAX_IDLE: usize = 2;

/// How a mount answered the last time, in the order in which mounts are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Answered,
    New,
    TimedOut,
}

/// A mount, and what is known of it from earlier rounds.
#[derive(Debug, Clone)]
struct Target {
    mount: Arc<VolumeMount>,
    standing: Standing,
    /// Rounds that skipped it since it was probed last.
    skipped: u32,
    /// The number of its probe that a thread waits for, in this round or since an earlier one.
    in_flight: Option<u64>,
}

impl Target {
    fn new(mount: &Arc<VolumeMount>) -> Self {
        Self { mount: Arc::clone(mount), standing: Standing::New, skipped: 0, in_flight: None }
    }

    /// Whether it answered the last time: it may be waited for without fear.
    fn is_proven(&self) -> bool {
        self.standing == Standing::Answered
    }

    /// Those that answered come first, then new ones; within these, the ones that were skipped most often.
    fn rank(&self) -> (Standing, Reverse<u32>) {
        (self.standing, Reverse(self.skipped))
    }

    fn record(&mut self, result: ProbeResult) {
        self.standing = match result {
            Err(ProbeError { reason: Reason::Skipped, .. }) => {
                self.skipped = self.skipped.saturating_add(1);
                return;
            }
            // With an error number it is an answer: of a client that itself gave up.
            Err(ProbeError { reason: Reason::Timeout, errno: None }) => Standing::TimedOut,
            _ => Standing::Answered,
        };
        self.skipped = 0;
    }
}

/// A probe that a worker has begun.
pub(super) struct InFlight {
    /// Its place among all probes.
    number: u64,
    mount: Arc<VolumeMount>,
    /// The round and the position in it that wants the result.
    round: u64,
    position: usize,
    /// The mount never answered before, or not the last time.
    is_trial: bool,
}

impl InFlight {
    pub(super) fn mount(&self) -> &VolumeMount {
        &self.mount
    }
}

pub(super) struct Limits {
    pub(super) hung: usize,
    pub(super) threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hung: MAX_HUNG, threads: MAX_THREADS }
    }
}

/// How many threads there are, and how many of them are inside a probe.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolStats {
    pub(super) threads: usize,
    pub(super) in_flight: usize,
}

/// The state of the pool.
#[derive(Default)]
pub(super) struct Schedule {
    pub(super) limits: Limits,
    /// The mounts of the round.
    targets: Vec<Target>,
    /// Mounts of earlier rounds that a thread still waits for.
    left_behind: Vec<Target>,
    /// Results of earlier rounds are dropped.
    round: u64,
    /// Positions of mounts that wait for a worker.
    queue: VecDeque<usize>,
    results: Vec<Option<ProbeResult>>,
    /// How long each probe of the round took, or has taken by its end; `None` for mounts that were skipped.
    pub(super) durations: Vec<Option<Duration>>,
    outstanding: usize,
    /// The thread that waits for the round.
    collecting: Option<Thread>,
    /// A mount of the round answered the last time.
    has_proven: bool,
    /// Probes that workers have begun, with the time: those that wait longest come first.
    in_flight: BTreeMap<u64, Instant>,
    /// Probes begun so far.
    probes: u64,
    /// When an unproven mount was probed last, if it has not answered yet.
    trial: Option<Instant>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl Schedule {
    /// Sets the mounts of the next rounds. What is known of a mount stays known as long as it is among them or a thread
    /// waits for it.
    pub(super) fn set_mounts(&mut self, mounts: &[Arc<VolumeMount>]) {
        let is_same = |(target, mount): (&Target, &Arc<VolumeMount>)| Arc::ptr_eq(&target.mount, mount);
        if self.targets.len() == mounts.len() && self.targets.iter().zip(mounts).all(is_same) {
            return;
        }
        let known: Vec<Target> = self.targets.drain(..).chain(self.left_behind.drain(..)).collect();
        let by_identity: HashMap<_, &Target> =
            known.iter().map(|target| (target.mount.identity(), target)).collect();
        let target = |mount: &Arc<VolumeMount>| match by_identity.get(&mount.identity()) {
            Some(known) => Target { mount: Arc::clone(mount), ..Target::clone(known) },
            None => Target::new(mount),
        };
        self.targets = mounts.iter().map(target).collect();
        let kept: HashSet<u64> = self.targets.iter().filter_map(|target| target.in_flight).collect();
        let is_left_behind = |target: &Target| target.in_flight.is_some_and(|number| !kept.contains(&number));
        self.left_behind = known.into_iter().filter(is_left_behind).collect();
    }

    /// Queues every mount. One that an earlier round still waits for has its result: timeout.
    pub(super) fn begin_round(&mut self, collecting: Thread) {
        self.round += 1;
        self.collecting = Some(collecting);
        self.results = vec![None; self.targets.len()];
        self.durations = vec![None; self.targets.len()];
        self.has_proven = self.targets.iter().any(Target::is_proven);
        self.queue = self.order().into();
        self.queue.retain(|position| {
            let is_free = self.targets[*position].in_flight.is_none();
            if !is_free {
                self.results[*position] = Some(Err(Reason::Timeout.into()));
            }
            is_free
        });
        self.outstanding = self.queue.len();
    }

    /// The positions of all mounts in the order in which they are probed.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_key(|position| self.targets[*position].rank());
        order
    }

    /// The results: a mount that is still being probed timed out, one that is still queued was skipped.
    pub(super) fn end_round(&mut self) -> Vec<ProbeResult> {
        self.round += 1;
        self.collecting = None;
        for position in self.queue.drain(..) {
            self.results[position] = Some(Err(Reason::Skipped.into()));
        }
        for (target, duration) in self.targets.iter().zip(&mut self.durations) {
            let since = target.in_flight.and_then(|number| self.in_flight.get(&number));
            *duration = duration.or(since.map(Instant::elapsed));
        }
        let results = std::mem::take(&mut self.results).into_iter();
        let results: Vec<_> = results.map(|result| result.unwrap_or(Err(Reason::Timeout.into()))).collect();
        for (target, result) in self.targets.iter_mut().zip(&results) {
            target.record(*result);
        }
        results
    }

    pub(super) fn is_complete(&self) -> bool {
        self.outstanding == 0
    }

    pub(super) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    pub(super) fn set_idle(&mut self, is_idle: bool) {
        self.idle = if is_idle { self.idle + 1 } else { self.idle - 1 };
    }

    pub(super) fn thread_started(&mut self) {
        self.threads += 1;
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether a worker that has nothing to do ends; it counts as ended then.
    pub(super) fn retire_if_superfluous(&mut self) -> bool {
        let is_superfluous = self.is_closed || self.idle >= MAX_IDLE;
        if is_superfluous {
            self.threads -= 1;
        }
        is_superfluous
    }

    /// How many workers must be woken or started to have this many at work.
    pub(super) fn missing_workers(&self, wanted: usize, now: Instant) -> usize {
        if self.is_blocked(now) {
            return 0;
        }
        let at_work = self.in_flight.len() - self.hung(now);
        let spare = usize::from(self.is_next_unproven());
        let missing = wanted.saturating_sub(at_work).min(self.queue.len()) + spare;
        missing.min(self.idle + self.limits.threads.saturating_sub(self.threads))
    }

    fn hung(&self, now: Instant) -> usize {
        let is_hung = |since: &&Instant| now.saturating_duration_since(**since) >= HUNG_AFTER;
        self.in_flight.values().take_while(is_hung).count()
    }

    /// The next mount for a worker.
    pub(super) fn next(&mut self, now: Instant) -> Option<InFlight> {
        // The system may give no more threads: the last one is for mounts that answer.
        let is_last = self.has_proven && self.threads < self.in_flight.len() + 2;
        if self.is_blocked(now) || (is_last && self.is_next_unproven()) {
            return None;
        }
        let position = self.queue.pop_front()?;
        self.probes += 1;
        let (number, round) = (self.probes, self.round);
        let target = &mut self.targets[position];
        target.in_flight = Some(number);
        let (mount, is_trial) = (Arc::clone(&target.mount), !target.is_proven());
        if is_trial {
            self.trial = Some(now);
        }
        self.in_flight.insert(number, now);
        Some(InFlight { number, mount, round, position, is_trial })
    }

    /// Whether too many hang for the next mount to be probed now. Proven mounts come first in the queue, so nothing behind
    /// it may be probed either. A trial that hangs too makes way for the next one, while threads are left for proven mounts.
    fn is_blocked(&self, now: Instant) -> bool {
        let is_trying = || self.trial.is_some_and(|since| now.saturating_duration_since(since) < HUNG_AFTER);
        self.is_next_unproven()
            && self.in_flight.len() >= self.limits.hung
            && self.hung(now) >= self.limits.hung
            && (is_trying() || self.threads >= self.limits.threads.saturating_sub(MAX_WORKERS))
    }

    fn is_next_unproven(&self) -> bool {
        self.queue.front().is_some_and(|position| !self.targets[*position].is_proven())
    }

    /// Takes a result; if it is the last of its round, returns the thread that waits for it.
    pub(super) fn finish(&mut self, probe: &InFlight, result: ProbeResult) -> Option<Thread> {
        let since = self.in_flight.remove(&probe.number);
        if probe.is_trial {
            self.trial = None;
        }
        if probe.round == self.round {
            self.targets[probe.position].in_flight = None;
            self.results[probe.position] = Some(result);
            self.durations[probe.position] = since.map(|since| since.elapsed());
            self.outstanding -= 1;
            return self.is_complete().then(|| self.collecting.clone()).flatten();
        }
        // A late answer is dropped. Its mount may be at another position by now.
        let all = self.targets.iter_mut().chain(&mut self.left_behind);
        all.filter(|target| target.in_flight == Some(probe.number))
            .for_each(|target| target.in_flight = None);
        self.left_behind.retain(|target| target.in_flight.is_some());
        None
    }

    #[cfg(test)]
    pub(super) fn stats(&self) -> PoolStats {
        PoolStats { threads: self.threads, in_flight: self.in_flight.len() }
    }
}
