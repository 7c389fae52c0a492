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
/// A probe that a round shorter than this began, less than this ago, is waited for by the next round too: a hurried scrape may
/// have less time than a healthy mount takes.
pub(super) const ADOPTED_WITHIN: Duration = Duration::from_millis(500);
/// All threads: as many as a node may have volumes that hang, and these. A thread costs some 30 KiB, most of it the kernel's.
pub(super) const MAX_THREADS: usize = 1024 + MAX_WORKERS;
/// Threads that mounts which are likely to hang leave to others, or half of the threads if there are fewer.
pub(super) const RESERVED: usize = 4;

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
    pub(super) since: Instant,
    pub(super) mount: Arc<VolumeMount>,
    /// The position that its result has in the round that waits for it, if one does.
    pub(super) position: Option<usize>,
}

/// The state of the pool.
#[derive(Default)]
pub(super) struct Schedule {
    /// The mounts of the round, and what is known of each.
    mounts: Vec<Arc<VolumeMount>>,
    targets: Vec<Target>,
    /// Positions of mounts that wait for a worker.
    pub(super) queue: VecDeque<usize>,
    results: Vec<Option<TimedResult>>,
    /// Results that are not there yet.
    pub(super) outstanding: usize,
    /// When the round began, until it has ended.
    began: Option<Instant>,
    /// How long the last round was.
    last_round: Duration,
    /// The thread that waits for the round.
    collecting: Option<Thread>,
    /// A mount of the round answered the last time.
    has_proven: bool,
    /// A mount of the round was skipped in the rounds before.
    is_short: bool,
    /// Probes that workers have begun, by number: those that wait longest come first.
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    /// Probes begun so far.
    pub(super) probes: u64,
    pub(super) threads: usize,
    pub(super) idle: usize,
    pub(super) is_closed: bool,
}

impl Schedule {
    /// Sets the mounts of the next rounds. What is known of a mount stays known as long as it is among them; a thread that
    /// waits for it is known until it does not.
    pub(super) fn set_mounts(&mut self, mounts: &[Arc<VolumeMount>]) {
        if are_same(&self.mounts, mounts) {
            return;
        }
        let before = self.mounts.iter().zip(&self.targets);
        let known: HashMap<_, &Target> = before.map(|(mount, target)| (mount.identity(), target)).collect();
        let in_flight = self.in_flight.iter().map(|(number, probe)| (probe.mount.identity(), *number));
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
        let Some(began) = self.began else { return false };
        let is_same = began >= started && are_same(&self.mounts, mounts);
        if !is_same {
            self.end_round();
        }
        is_same
    }

    /// Queues every mount. One that an earlier round still waits for has its result, timeout, or is adopted.
    pub(super) fn begin_round(&mut self, collecting: Thread) {
        self.began = Some(Instant::now());
        self.collecting = Some(collecting);
        self.results = vec![None; self.targets.len()];
        self.has_proven = self.targets.iter().any(|target| target.standing == Standing::Answered);
        self.is_short = self.targets.iter().any(|target| target.skipped > 0);
        self.queue = self.order().into();
        self.queue.retain(|position| self.targets[*position].in_flight.is_none());
        self.outstanding = self.queue.len();
        if self.last_round < ADOPTED_WITHIN {
            self.adopt_recent();
        }
    }

    /// Waits for the probes that earlier rounds have just begun.
    fn adopt_recent(&mut self) {
        for (position, target) in self.targets.iter().enumerate() {
            let probe = target.in_flight.and_then(|number| self.in_flight.get_mut(&number));
            if let Some(probe) = probe.filter(|probe| probe.since.elapsed() < ADOPTED_WITHIN) {
                probe.position = Some(position);
                self.outstanding += 1;
            }
        }
    }

    /// The positions of all mounts in the order in which they are probed: those that answered come first, then new ones;
    /// within these, the ones that were skipped most often.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_key(|position| {
            let Target { standing, skipped, .. } = self.targets[*position];
            (standing, Reverse(skipped))
        });
        order
    }

    /// The results: a mount that is still being probed timed out, one that is still queued was skipped.
    pub(super) fn end_round(&mut self) -> Vec<TimedResult> {
        let results = self.results_so_far();
        self.last_round = self.began.map(|began| began.elapsed()).unwrap_or_default();
        (self.began, self.collecting) = (None, None);
        self.queue.clear();
        self.results.clear();
        self.in_flight.values_mut().for_each(|probe| probe.position = None);
        self.targets.iter_mut().zip(&results).for_each(|(target, (result, _))| target.record(*result));
        results
    }

    /// The same of a round that can be gone on with.
    pub(super) fn results_so_far(&self) -> Vec<TimedResult> {
        let queued: HashSet<usize> = self.queue.iter().copied().collect();
        let missing = |position: usize| {
            if queued.contains(&position) {
                return (Err(Reason::Skipped.into()), None);
            }
            let probe = self.targets[position].in_flight.and_then(|number| self.in_flight.get(&number));
            (Err(Reason::Timeout.into()), probe.map(|probe| probe.since.elapsed()))
        };
        let results = self.results.iter().enumerate();
        results.map(|(position, result)| result.unwrap_or_else(|| missing(position))).collect()
    }

    /// How many workers must be woken, and how many threads started, to have this many at work.
    pub(super) fn missing_workers(&self, wanted: usize, now: Instant) -> (usize, usize) {
        let missing = wanted.saturating_sub(self.at_work(now)).min(self.queue.len());
        // Where no mount may have one of the free threads, they are too few.
        let spare = if missing > 0 && self.next_with_thread().is_none() { RESERVED } else { 0 };
        let free = self.threads - self.in_flight.len();
        (missing.min(self.idle), (missing + spare).saturating_sub(free))
    }

    /// Workers that do not hang.
    fn at_work(&self, now: Instant) -> usize {
        let is_hung = |since: Instant| now.saturating_duration_since(since) >= HUNG_AFTER;
        self.in_flight.len() - self.in_flight.values().take_while(|probe| is_hung(probe.since)).count()
    }

    /// The next mount for a worker, and the number of its probe.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, Arc<VolumeMount>)> {
        if self.queue.is_empty() || self.at_work(now) >= MAX_WORKERS {
            return None;
        }
        let position = self.queue.remove(self.next_with_thread()?)?;
        self.probes += 1;
        self.targets[position].in_flight = Some(self.probes);
        let mount = Arc::clone(&self.mounts[position]);
        let probe = InFlight { since: now, mount: Arc::clone(&mount), position: Some(position) };
        self.in_flight.insert(self.probes, probe);
        Some((self.probes, mount))
    }

    /// Where the first mount is in the queue that may have one of the threads that are left. The last one is for mounts that
    /// answered, the others that are reserved also for new ones that come while others are skipped, or of another server:
    /// the mounts of one server hang together.
    fn next_with_thread(&self) -> Option<usize> {
        let free = self.threads.saturating_sub(self.in_flight.len());
        let for_proven = usize::from(self.has_proven);
        let reserved = for_proven.max(RESERVED.min(self.threads / 2));
        if free > reserved {
            return (!self.queue.is_empty()).then_some(0);
        }
        let busy: HashSet<_> = self.in_flight.values().filter_map(|probe| probe.mount.server()).collect();
        let left_to_others = |position: usize| {
            let server = if busy.is_empty() { None } else { self.mounts[position].server() };
            let target = &self.targets[position];
            match target.standing {
                _ if server.as_ref().is_some_and(|server| busy.contains(server)) => reserved,
                Standing::Answered => 0,
                Standing::New if target.skipped == 0 && (self.is_short || server.is_some()) => for_proven,
                _ => reserved,
            }
        };
        self.queue.iter().position(|position| free > left_to_others(*position))
    }

    /// Whether the round waits for nothing but threads that others' probes have.
    pub(super) fn is_out_of_threads(&self) -> bool {
        self.outstanding == self.queue.len() && self.next_with_thread().is_none()
    }

    /// Takes a result; if it is the last of its round, returns the thread that waits for it.
    pub(super) fn finish(&mut self, number: u64, result: ProbeResult) -> Option<Thread> {
        let InFlight { since, position, .. } = self.in_flight.remove(&number)?;
        let Some(position) = position else {
            // A late answer is dropped. Its mount may be at another position by now.
            let is_late = |target: &&mut Target| target.in_flight == Some(number);
            self.targets.iter_mut().find(is_late).into_iter().for_each(|target| target.in_flight = None);
            return None;
        };
        self.targets[position].in_flight = None;
        self.results[position] = Some((result, Some(since.elapsed())));
        self.outstanding -= 1;
        if self.outstanding == 0 { self.collecting.take() } else { None }
    }
}
