//! Which mount is probed next, and by how many threads; pure but for the clock that its caller reads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::volume::{ProbeError, ProbeResult, Reason, VolumeMount, are_same};

/// Workers at work at one time, not counting those that hang.
pub(super) const MAX_WORKERS: usize = 64;
/// A worker that has waited this long for one mount does not count as at work.
const HUNG_AFTER: Duration = Duration::from_millis(100);
/// Hung threads before mounts that never answered are tried one at a time only: as many as a node may have volumes. A
/// thread costs some 30 KiB, most of it the kernel's; mounts that are never probed would lose their figures for good.
pub(super) const MAX_HUNG: usize = 1024;
/// All threads, these trials included.
const MAX_THREADS: usize = 2 * MAX_HUNG;

/// How a mount answered the last time, in the order in which mounts are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Answered,
    New,
    TimedOut,
}

/// What is known of a mount from earlier rounds.
#[derive(Debug, Clone, Copy)]
struct Target {
    standing: Standing,
    /// Rounds that skipped it since it was probed last.
    skipped: u32,
    /// The number of its probe that a thread waits for, in this round or since an earlier one.
    in_flight: Option<u64>,
}

impl Target {
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

/// The result of a mount's probe, and how long the probe took, or has taken so far; `None` if it was skipped.
pub type TimedResult = (ProbeResult, Option<Duration>);

/// A probe that a worker has begun.
pub(super) struct InFlight {
    /// Its place among all probes.
    number: u64,
    pub(super) mount: Arc<VolumeMount>,
    /// The round and the position in it that wants the result.
    round: u64,
    position: usize,
}

/// The state of the pool.
#[derive(Default)]
pub(super) struct Schedule {
    pub(super) max_hung: usize,
    /// The mounts of the round, and what is known of each.
    mounts: Vec<Arc<VolumeMount>>,
    targets: Vec<Target>,
    /// Results of earlier rounds are dropped.
    round: u64,
    /// Positions of mounts that wait for a worker.
    pub(super) queue: VecDeque<usize>,
    results: Vec<Option<TimedResult>>,
    /// Results that are not there yet.
    pub(super) outstanding: usize,
    /// When the round began.
    began: Option<Instant>,
    /// The round was cut short, and can be gone on with.
    is_cut: bool,
    /// The thread that waits for the round.
    collecting: Option<Thread>,
    /// A mount of the round answered the last time.
    has_proven: bool,
    /// Probes that workers have begun, with the time: those that wait longest come first.
    pub(super) in_flight: BTreeMap<u64, (Instant, Arc<VolumeMount>)>,
    /// Probes begun so far.
    probes: u64,
    /// The last probe of an unproven mount.
    last_trial: u64,
    pub(super) threads: usize,
    pub(super) idle: usize,
    pub(super) is_closed: bool,
}

impl Schedule {
    pub(super) fn new(max_hung: usize) -> Self {
        Self { max_hung, ..Self::default() }
    }

    /// Sets the mounts of the next rounds. What is known of a mount stays known as long as it is among them; a thread that
    /// waits for it is known until it does not.
    pub(super) fn set_mounts(&mut self, mounts: &[Arc<VolumeMount>]) {
        if are_same(&self.mounts, mounts) {
            return;
        }
        let before = self.mounts.iter().zip(&self.targets);
        let known: HashMap<_, &Target> = before.map(|(mount, target)| (mount.identity(), target)).collect();
        let in_flight = self.in_flight.iter().map(|(number, (_, mount))| (mount.identity(), *number));
        let in_flight: HashMap<_, u64> = in_flight.collect();
        let target = |mount: &Arc<VolumeMount>| match known.get(&mount.identity()) {
            Some(target) => **target,
            None => Target {
                standing: Standing::New,
                skipped: 0,
                in_flight: in_flight.get(&mount.identity()).copied(),
            },
        };
        self.targets = mounts.iter().map(target).collect();
        self.mounts = mounts.to_vec();
    }

    /// Goes on with a round of these mounts that was cut short, if it is one that began after `started`.
    pub(super) fn resume(&mut self, mounts: &[Arc<VolumeMount>], started: Instant) -> bool {
        let is_cut = std::mem::take(&mut self.is_cut);
        let is_same = self.began.is_some_and(|began| began >= started) && are_same(&self.mounts, mounts);
        if is_cut && !is_same {
            self.end_round();
        }
        is_cut && is_same
    }

    /// Queues every mount. One that an earlier round still waits for has its result: timeout.
    pub(super) fn begin_round(&mut self, collecting: Thread) {
        self.round += 1;
        self.began = Some(Instant::now());
        self.collecting = Some(collecting);
        self.results = vec![None; self.targets.len()];
        self.has_proven = self.targets.iter().any(Target::is_proven);
        self.queue = self.order().into();
        self.queue.retain(|position| self.targets[*position].in_flight.is_none());
        self.outstanding = self.queue.len();
    }

    /// The positions of all mounts in the order in which they are probed.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_key(|position| self.targets[*position].rank());
        order
    }

    /// The results: a mount that is still being probed timed out, one that is still queued was skipped.
    pub(super) fn end_round(&mut self) -> Vec<TimedResult> {
        let results = self.results_so_far();
        self.round += 1;
        self.collecting = None;
        self.queue.clear();
        self.results.clear();
        self.targets.iter_mut().zip(&results).for_each(|(target, (result, _))| target.record(*result));
        results
    }

    /// The same of a round that goes on.
    pub(super) fn cut_round(&mut self) -> Vec<TimedResult> {
        self.is_cut = true;
        self.results_so_far()
    }

    fn results_so_far(&self) -> Vec<TimedResult> {
        let queued: HashSet<usize> = self.queue.iter().copied().collect();
        let missing = |position: usize| {
            if queued.contains(&position) {
                return (Err(Reason::Skipped.into()), None);
            }
            let since = self.targets[position].in_flight.and_then(|number| self.in_flight.get(&number));
            (Err(Reason::Timeout.into()), since.map(|(since, _)| since.elapsed()))
        };
        let results = self.results.iter().enumerate();
        results.map(|(position, result)| result.unwrap_or_else(|| missing(position))).collect()
    }

    /// How many workers must be woken or started to have this many at work.
    pub(super) fn missing_workers(&self, wanted: usize, now: Instant) -> usize {
        if self.is_blocked(now) {
            return 0;
        }
        let at_work = self.in_flight.len() - self.hung(now);
        let spare = usize::from(self.is_next_unproven());
        let missing = wanted.saturating_sub(at_work).min(self.queue.len()) + spare;
        missing.min(self.idle + MAX_THREADS.saturating_sub(self.threads))
    }

    fn hung(&self, now: Instant) -> usize {
        let is_hung = |since: Instant| now.saturating_duration_since(since) >= HUNG_AFTER;
        self.in_flight.values().take_while(|(since, _)| is_hung(*since)).count()
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
        if !target.is_proven() {
            self.last_trial = number;
        }
        let mount = Arc::clone(&self.mounts[position]);
        self.in_flight.insert(number, (now, Arc::clone(&mount)));
        Some(InFlight { number, mount, round, position })
    }

    /// Whether too many hang for the next mount to be probed now. Proven mounts come first in the queue, so nothing behind
    /// it may be probed either. A trial that hangs too makes way for the next one, while threads are left for proven mounts.
    fn is_blocked(&self, now: Instant) -> bool {
        let trial = || self.in_flight.get(&self.last_trial);
        let is_trying =
            || trial().is_some_and(|(since, _)| now.saturating_duration_since(*since) < HUNG_AFTER);
        self.is_next_unproven()
            && self.in_flight.len() >= self.max_hung
            && self.hung(now) >= self.max_hung
            && (is_trying() || self.threads >= MAX_THREADS - MAX_WORKERS)
    }

    fn is_next_unproven(&self) -> bool {
        self.queue.front().is_some_and(|position| !self.targets[*position].is_proven())
    }

    /// Takes a result; if it is the last of its round, returns the thread that waits for it.
    pub(super) fn finish(&mut self, probe: &InFlight, result: ProbeResult) -> Option<Thread> {
        let duration = self.in_flight.remove(&probe.number).map(|(since, _)| since.elapsed());
        if probe.round != self.round {
            // A late answer is dropped. Its mount may be at another position by now.
            let is_late = |target: &&mut Target| target.in_flight == Some(probe.number);
            if let Some(target) = self.targets.iter_mut().find(is_late) {
                target.in_flight = None;
            }
            return None;
        }
        self.targets[probe.position].in_flight = None;
        self.results[probe.position] = Some((result, duration));
        self.outstanding -= 1;
        if self.outstanding == 0 { self.collecting.take() } else { None }
    }
}
