//! One thread for work that may block indefinitely, such as reading a file of a directory that hangs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::thread;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::deadline::Deadline;

type Work = Box<dyn FnOnce() + Send>;

/// The thread. It takes one job after the other, and ends with the last clone of its handle.
#[derive(Debug, Clone)]
pub struct BlockingWorker(Sender<Work>);

/// A job, until its result is taken.
#[derive(Debug)]
pub struct Job<T>(oneshot::Receiver<T>);

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
        let run = move || queue.into_iter().for_each(|work| work());
        thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self(jobs))
    }

    /// Queues a job. This thread is woken when it ends.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        let (sender, result) = oneshot::channel();
        let caller = thread::current();
        let work = move || {
            // A panic loses one job. It owns all its data, so nothing half-changed survives it.
            match catch_unwind(AssertUnwindSafe(job)) {
                // The caller may have stopped waiting.
                Ok(value) => drop(sender.send(value)),
                Err(_) => drop(sender),
            }
            caller.unpark();
        };
        // The thread lives as long as a handle does: this cannot fail.
        let _ = self.0.send(Box::new(work));
        Job(result)
    }
}

impl<T> Job<T> {
    /// Waits for the result until the deadline; `None` while the job has not ended. Must be called on the thread that the
    /// job wakes.
    #[must_use]
    pub fn wait(&mut self, deadline: &Deadline) -> Option<Result<T, JobPanicked>> {
        deadline.wait_for(|| match self.0.try_recv() {
            Ok(result) => Some(Ok(result)),
            Err(TryRecvError::Closed) => Some(Err(JobPanicked)),
            Err(TryRecvError::Empty) => None,
        })
    }

    /// Waits for the result as a task does.
    ///
    /// # Errors
    ///
    /// If the job panics.
    pub async fn result(self) -> Result<T, JobPanicked> {
        self.0.await.map_err(|_| JobPanicked)
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
        let mut job = worker.run(move || {
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
        let (mut panics, mut divides) = (divide(0), divide(2));
        assert_eq!(panics.wait(&Deadline::after(LONG)), Some(Err(JobPanicked)));
        assert_eq!(divides.wait(&Deadline::after(LONG)), Some(Ok(42)));
    }
}
