//! Until when a thread may wait, and how its waits are cancelled.
//!
//! Hand-written, because a thread that waits for other threads, a deadline and a cancellation at once is what neither std
//! nor tokio offers outside of a runtime.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a cancelled deadline still lasts: healthy mounts need no more, so that a program that is told to stop answers
/// with their measurements.
const CANCEL_GRACE: Duration = Duration::from_millis(300);

/// Ends the waits of all deadlines that were made from it, now and later. One thread waits for them.
#[derive(Debug, Clone, Default)]
pub struct CancelHandle(Arc<Cancellation>);

#[derive(Debug, Default)]
struct Cancellation {
    cancelled_at: OnceLock<Instant>,
    /// The thread that waited last: it may wait now. To wake one that does not costs nothing.
    waiting: Mutex<Option<Thread>>,
}

impl CancelHandle {
    /// From now on nothing is waited for longer than the grace period.
    pub fn cancel(&self) {
        self.0.cancelled_at.get_or_init(Instant::now);
        self.waiting_thread().iter().for_each(Thread::unpark);
    }

    fn waiting_thread(&self) -> MutexGuard<'_, Option<Thread>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time at which waits end early, set while they last. Whoever sets it calls [`Thread::unpark`] on the waiting thread.
#[derive(Debug, Clone, Default)]
pub struct Cutoff(Arc<Mutex<Option<Instant>>>);

impl Cutoff {
    /// Ends the waits at this time, if they do not end before.
    pub fn bring_forward(&self, at: Instant) {
        let mut cutoff = self.lock();
        *cutoff = Some(cutoff.map_or(at, |cutoff| cutoff.min(at)));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when one collection may wait. Passed down to everything that waits.
#[derive(Debug, Clone)]
pub struct Deadline {
    started: Instant,
    at: Instant,
    cancel: CancelHandle,
    cutoff: Cutoff,
}

impl Deadline {
    /// A deadline that `cancel` can end early.
    pub fn new(at: Instant, cancel: &CancelHandle) -> Self {
        Self { started: Instant::now(), at, cancel: cancel.clone(), cutoff: Cutoff::default() }
    }

    /// A deadline that nothing ends early.
    pub fn after(wait: Duration) -> Self {
        Self::new(Instant::now() + wait, &CancelHandle::default())
    }

    /// The same cancellation at another time.
    #[must_use]
    pub fn at(&self, at: Instant) -> Self {
        Self { at, ..self.clone() }
    }

    /// The same cancellation, at this time if it is earlier.
    #[must_use]
    pub fn at_most(&self, at: Instant) -> Self {
        self.at(at.min(self.at))
    }

    /// The same cancellation, at this time if it is later.
    #[must_use]
    pub fn at_least(&self, at: Instant) -> Self {
        self.at(at.max(self.at))
    }

    /// The same for a collection that goes on with what began at `started`, and that `cutoff` ends early.
    #[must_use]
    pub fn resuming(self, started: Instant, cutoff: Cutoff) -> Self {
        Self { started, cutoff, ..self }
    }

    /// When the collection began, or the one that it goes on with.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether its cutoff was before it and is reached: what is outstanding may still be waited for later.
    pub fn is_cut(&self) -> bool {
        self.cutoff.lock().is_some_and(|cutoff| cutoff < self.at && cutoff <= Instant::now())
    }

    /// When it is reached: earlier than it was meant to if it is cancelled.
    pub fn instant(&self) -> Instant {
        let at = self.cutoff.lock().map_or(self.at, |cutoff| self.at.min(cutoff));
        let cancelled = self.cancel.0.cancelled_at.get();
        cancelled.map_or(at, |cancelled| at.min(self.started.max(*cancelled) + CANCEL_GRACE))
    }

    /// How much of it is left.
    pub fn remaining(&self) -> Duration {
        self.instant().saturating_duration_since(Instant::now())
    }

    /// Whether it is reached.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Waits until `ready` returns a value; `None` once the deadline is over. Whoever makes it ready calls
    /// [`Thread::unpark`] on this thread. `ready` is called at least once.
    pub fn wait_for<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        *self.cancel.waiting_thread() = Some(thread::current());
        loop {
            if let Some(value) = ready() {
                return Some(value);
            }
            let remaining = self.remaining();
            if remaining.is_zero() {
                return None;
            }
            thread::park_timeout(remaining);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_mins(10);

    #[test]
    fn waits_until_it_is_ready() {
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::current();
        let other = thread::spawn(move || {
            sender.send(7).unwrap();
            waiter.unpark();
        });
        assert_eq!(Deadline::after(LONG).wait_for(|| receiver.try_recv().ok()), Some(7));
        other.join().unwrap();
    }

    #[test]
    fn a_deadline_that_is_over_still_takes_what_is_ready() {
        let over = Deadline::after(Duration::ZERO);
        assert!(over.is_over());
        assert_eq!(over.wait_for(|| Some(1)), Some(1));
        assert_eq!(over.wait_for(|| None::<u8>), None);
    }

    #[test]
    fn a_cutoff_ends_waits_that_are_under_way() {
        let cutoff = Cutoff::default();
        let deadline = Deadline::after(LONG).resuming(Instant::now(), cutoff.clone());
        let waiter = thread::current();
        let other = thread::spawn({
            let cutoff = cutoff.clone();
            move || {
                cutoff.bring_forward(Instant::now() + Duration::from_millis(20));
                waiter.unpark();
            }
        });
        assert_eq!(deadline.wait_for(|| None::<u8>), None);
        other.join().unwrap();
        assert!(deadline.is_cut() && deadline.at(Instant::now() + LONG).is_over());
        cutoff.bring_forward(Instant::now() + LONG);
        assert!(deadline.is_over(), "it only comes nearer");
        let (over, later) = (Deadline::after(Duration::ZERO), Cutoff::default());
        later.bring_forward(over.instant() + Duration::from_millis(1));
        thread::sleep(Duration::from_millis(2));
        assert!(!over.resuming(Instant::now(), later).is_cut(), "it was over before");
    }

    #[test]
    fn cancelling_ends_waits_that_are_under_way_and_all_later_ones() {
        let cancel = CancelHandle::default();
        let deadline = Deadline::new(Instant::now() + LONG, &cancel);
        let (sender, is_waiting) = mpsc::channel();
        let waiting = deadline.clone();
        let other = thread::spawn(move || {
            waiting.wait_for(|| {
                sender.send(()).unwrap();
                None::<u8>
            })
        });
        is_waiting.recv().unwrap();
        cancel.cancel();
        assert_eq!(other.join().unwrap(), None);
        assert_eq!(deadline.wait_for(|| None::<u8>), None);
        assert!(deadline.is_over() && deadline.at(Instant::now() + LONG).is_over());
        assert!(!Deadline::new(Instant::now() + LONG, &cancel).is_over(), "a later one has its grace period");
    }
}
