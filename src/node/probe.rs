//! Probes many mounts until one deadline, on threads of their own: a mount that hangs costs one thread, and no other
//! mount its measurement.
//!
//! Hand-written, because a thread pool of a library neither bounds hung jobs per mount nor ranks mounts by how they answered
//! before. The collecting thread queues the mounts and waits; workers take one at a time. While the queue stands, more
//! workers are started. A worker whose mount does not answer is left behind with it, and that mount is not probed again
//! until it answers.

mod kernel;
mod schedule;
mod statvfs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use kernel::{KernelProbe, MountRootProof};
pub use schedule::TimedResult;
pub(super) use statvfs::{Statvfs, probe_error};

use crate::runtime::Deadline;
use crate::volume::{Probe, Reason, VolumeMount};
use schedule::{MAX_THREADS, MAX_WORKERS, RESERVED, Schedule};

/// How long the first worker is alone: it probes a healthy node's mounts in a few microseconds each, and a second one that
/// is not needed would cost more than it helps.
const FIRST_WORKER_ALONE: Duration = Duration::from_millis(1);
/// How long the queue may stand from then on before the number of workers doubles.
const DOUBLING_INTERVAL: Duration = Duration::from_millis(20);
/// A worker needs room for one path, the kernel's figures and a panic's message.
const STACK_BYTES: usize = 128 << 10;

/// Logged once: it would be true for every scrape from then on.
static THREAD_REFUSED: Once = Once::new();

/// The threads, and what is known of mounts from earlier rounds.
pub(super) struct ProbePool {
    shared: Arc<PoolShared>,
}

struct PoolShared {
    probe: Arc<dyn Probe>,
    schedule: Mutex<Schedule>,
    /// There is work.
    work: Condvar,
}

impl ProbePool {
    /// Starts one thread, which stays for mounts that never hung, however few threads the system gives later.
    pub(super) fn new(probe: Arc<dyn Probe>) -> Self {
        let schedule = Mutex::new(Schedule::default());
        let shared = Arc::new(PoolShared { probe, schedule, work: Condvar::new() });
        shared.start_workers(&mut shared.lock(), 1);
        Self { shared }
    }

    /// Probes every mount once, until the deadline: one result each, in the same order. A round that was cut short goes on
    /// with the collection.
    pub(super) fn probe(&mut self, mounts: &[Arc<VolumeMount>], deadline: &Deadline) -> Vec<TimedResult> {
        let mut schedule = self.shared.lock();
        if !schedule.resume(mounts, deadline.started()) {
            schedule.set_mounts(mounts);
            schedule.begin_round(thread::current());
        }
        drop(schedule);
        self.shared.wait(deadline);
        let mut schedule = self.shared.lock();
        if deadline.is_cut() && schedule.outstanding > 0 {
            schedule.results_so_far()
        } else {
            schedule.end_round()
        }
    }
}

impl Drop for ProbePool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.work.notify_all();
    }
}

impl PoolShared {
    /// Poisoning is ignored: no code holding this lock can panic.
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the round's results, and starts more workers while mounts are queued.
    fn wait(self: &Arc<Self>, deadline: &Deadline) {
        let (mut wanted, mut interval, mut are_given) = (1, FIRST_WORKER_ALONE, true);
        while !deadline.is_over() {
            let now = Instant::now();
            let (mut until, mut waking) = (deadline.clone(), 0);
            let mut schedule = self.lock();
            if !schedule.queue.is_empty() {
                let starting;
                (waking, starting) = schedule.missing_workers(wanted, now);
                are_given = are_given && self.start_workers(&mut schedule, starting);
                if !are_given && schedule.is_out_of_threads() {
                    return;
                }
                until = deadline.at_most(now + interval);
                (wanted, interval) = ((wanted * 2).min(MAX_WORKERS), DOUBLING_INTERVAL);
            }
            // A worker that wakes needs the lock at once.
            drop(schedule);
            (0..waking).for_each(|_| self.work.notify_one());
            if until.wait_for(|| (self.lock().outstanding == 0).then_some(())).is_some() {
                return;
            }
        }
    }

    /// Starts threads; whether there may be so many.
    fn start_workers(self: &Arc<Self>, schedule: &mut Schedule, count: usize) -> bool {
        for _ in 0..count {
            if schedule.threads >= MAX_THREADS {
                return false;
            }
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("probe".into()).stack_size(STACK_BYTES);
            // Without another thread the mounts wait for those there are: they may be skipped, not lost.
            if let Err(error) = thread.spawn(move || shared.work()) {
                THREAD_REFUSED.call_once(
                    || tracing::error!(event = "probe_thread_failed", %error, "cannot start a probe thread: some mounts may be skipped"),
                );
                return false;
            }
            schedule.threads += 1;
        }
        true
    }

    /// A worker's life.
    fn work(&self) {
        let mut schedule = self.lock();
        loop {
            let Some((number, mount)) = schedule.next(Instant::now()) else {
                if schedule.is_closed || schedule.idle > RESERVED {
                    schedule.threads -= 1;
                    return;
                }
                schedule.idle += 1;
                schedule = self.work.wait(schedule).unwrap_or_else(PoisonError::into_inner);
                schedule.idle -= 1;
                continue;
            };
            drop(schedule);
            let result = catch_unwind(AssertUnwindSafe(|| self.probe.probe(&mount)))
                .unwrap_or_else(|_| Err(Reason::Other.into()));
            schedule = self.lock();
            if let Some(collecting) = schedule.finish(number, result) {
                drop(schedule);
                collecting.unpark();
                schedule = self.lock();
            }
        }
    }
}

#[cfg(test)]
mod tests;
