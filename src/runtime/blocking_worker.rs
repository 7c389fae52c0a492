//! One thread for work that may block indefinitely, such as reading a file of a directory that hangs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, Thread};

use tokio::sync::oneshot;

use super::deadline::Deadline;

type Work = Box<dyn FnOnce() + Send>;

/// The thread. It takes one job after the other, and ends with the last clone of its handle.
#[derive(Debug, Clone)]
pub struct BlockingWorker(Sender<Work>);

/// A job, until its result is taken.
#[derive(Debug)]
pub struct Job<T>(Receiver<T>);

/// A job that ended without a result, because it panicked. The panic hook has logged and counted it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job panicked")]
pub struct JobPanicked;

impl BlockingWorker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Work>();
        let run = move || {
            for work in queue {
                // A panic loses one job. It owns all its data, so nothing half-changed survives it.
                let _ = catch_unwind(AssertUnwindSafe(work));
            }
        };
        thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self(jobs))
    }

    /// Queues a job for a task to wait for.
    ///
    /// # Errors
    ///
    /// If the job panics.
    pub async fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobPanicked> {
        let (sender, result) = oneshot::channel();
        // The task may have stopped waiting.
        self.queue(move || drop(sender.send(job())));
        result.await.map_err(|_| JobPanicked)
    }

    fn queue(&self, work: impl FnOnce() + Send + 'static) {
        // The thread lives as long as a handle does: this cannot fail.
        let _ = self.0.send(Box::new(work));
    }

    /// Queues a job for this thread to wait for, which is woken when it ends.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        let (sender, result) = mpsc::channel();
        // Dropped last, so that a job that panics wakes its waiter as well.
        let wake = WakeOnDrop(thread::current());
        self.queue(move || {
            let _wake = wake;
            let sender = sender;
            // The thread may have stopped waiting.
            let _ = sender.send(job());
        });
        Job(result)
    }
}

struct WakeOnDrop(Thread);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl<T> Job<T> {
    /// Waits for the result until the deadline; `None` while the job has not ended. Must be called on the thread that the
    /// job wakes.
    #[must_use]
    pub fn wait(&self, deadline: &Deadline) -> Option<Result<T, JobPanicked>> {
        deadline.wait_for(|| match self.0.try_recv() {
            Ok(result) => Some(Ok(result)),
            Err(TryRecvError::Disconnected) => Some(Err(JobPanicked)),
            Err(TryRecvError::Empty) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LONG: Duration = Duration::from_mins(10);

    #[test]
    fn a_job_that_blocks_is_taken_later() {
        let worker = BlockingWorker::start("test").unwrap();
        let (go_on, gate) = mpsc::channel();
        let job = worker.run(move || {
            gate.recv().unwrap();
            42
        });
        assert_eq!(job.wait(&Deadline::after(Duration::ZERO)), None);
        go_on.send(()).unwrap();
        assert_eq!(job.wait(&Deadline::after(LONG)), Some(Ok(42)));
    }

    #[test]
    fn a_panic_loses_one_job() {
        let worker = BlockingWorker::start("test").unwrap();
        let divide = |by: u32| worker.run(move || 84 / by);
        let (panics, divides) = (divide(0), divide(2));
        assert_eq!(panics.wait(&Deadline::after(LONG)), Some(Err(JobPanicked)));
        assert_eq!(divides.wait(&Deadline::after(LONG)), Some(Ok(42)));
    }
}
