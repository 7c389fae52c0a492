//! How long the program waits, and which thread may block on what.
//!
//! | thread | may block on | never |
//! | --- | --- | --- |
//! | `serve` runtime (main thread) | nothing | parses objects, touches a file of the node |
//! | `clients` runtime | parsing one object | touches a volume |
//! | `collect` | its [`Deadline`] | waits for the API server |
//! | probes | a mount, indefinitely | holds a lock meanwhile |
//! | `host-files` ([`BlockingWorker`]) | a file of the node, indefinitely | |
//!
//! Hand-written, because a thread that waits for other threads, a deadline and a cancellation at once is what neither std
//! nor tokio offers outside of a runtime.

pub(crate) mod backoff;
mod blocking_worker;
mod clients;
mod reloaded_file;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub use blocking_worker::{BlockingWorker, Job, JobPanicked};
pub use clients::{Clients, RestartableTask, restart_on_panic, restart_task_on_panic};
pub(crate) use reloaded_file::{Reload, ReloadedFile};

/// Ends the waits of all deadlines that were made from it, now and later.
#[derive(Debug, Clone, Default)]
pub struct CancelHandle(Arc<Cancellation>);

#[derive(Debug, Default)]
struct Cancellation {
    is_cancelled: AtomicBool,
    waiting: Mutex<Vec<Thread>>,
}

impl CancelHandle {
    /// From now on nothing is waited for.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().for_each(Thread::unpark);
    }

    /// Whether [`Self::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }
}

/// Until when one collection may wait. Passed down to everything that waits.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    cancel: CancelHandle,
}

impl Deadline {
    /// A deadline that `cancel` can end early.
    #[must_use]
    pub fn new(at: Instant, cancel: &CancelHandle) -> Self {
        Self { at, cancel: cancel.clone() }
    }

    /// A deadline that nothing ends early.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        Self::new(Instant::now() + wait, &CancelHandle::default())
    }

    /// The same cancellation at another time.
    #[must_use]
    pub fn at(&self, at: Instant) -> Self {
        Self { at, cancel: self.cancel.clone() }
    }

    /// When it is reached, unless it is cancelled.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.at
    }

    /// How much of it is left; nothing once it is cancelled.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.cancel.is_cancelled() {
            return Duration::ZERO;
        }
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it is reached or cancelled.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Waits until `ready` returns a value; `None` once the deadline is over. Whoever makes it ready calls
    /// [`Thread::unpark`] on this thread. `ready` is called at least once.
    pub fn wait_for<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let _registration = Registration::new(&self.cancel);
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

/// The current thread, while a cancellation has to wake it.
struct Registration<'a>(&'a Cancellation);

impl<'a> Registration<'a> {
    fn new(CancelHandle(cancellation): &'a CancelHandle) -> Self {
        let mut waiting = cancellation.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(thread::current());
        Self(cancellation)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let this = thread::current().id();
        if let Some(at) = waiting.iter().position(|thread| thread.id() == this) {
            waiting.swap_remove(at);
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
    }
}
