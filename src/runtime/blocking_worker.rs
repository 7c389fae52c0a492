//! One thread for work that may block indefinitely, such as reading a file of a directory that hangs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::deadline::Deadline;

type Work = Box<dyn FnOnce() + Send>;

/// Jobs that wait while one blocks; later ones are lost.
const MAX_WAITING_JOBS: usize = 16;

/// The thread. It takes one job after the other, and ends with the last clone of its handle.
#[derive(Debug, Clone)]
pub struct BlockingWorker {
    jobs: SyncSender<Work>,
    /// When the job that it runs began.
    began: Arc<Mutex<Option<Instant>>>,
}

/// A job, until its result is taken.
#[derive(Debug)]
pub struct Job<T>(pub(super) oneshot::Receiver<T>);

/// A job without a result: it panicked, which the panic hook has logged and counted, or too many waited before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the thread that reads files of the node is busy with one that does not end, or panicked")]
pub struct JobLost;

impl BlockingWorker {
    /// Starts the thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Work>(MAX_WAITING_JOBS);
        let run = move || queue.into_iter().for_each(|work| work());
        thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { jobs, began: Arc::default() })
    }

    /// Queues a job. This thread is woken when it ends.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
        let (sender, result) = oneshot::channel();
        let caller = thread::current();
        let began = Arc::clone(&self.began);
        let set_began = move |at| *began.lock().unwrap_or_else(PoisonError::into_inner) = at;
        let work = move || {
            if sender.is_closed() {
                return;
            }
            set_began(Some(Instant::now()));
            // A panic loses one job. It owns all its data, so nothing half-changed survives it.
            let outcome = catch_unwind(AssertUnwindSafe(work));
            set_began(None);
            // The caller may have stopped waiting. A panic drops the sender.
            drop(outcome.map(|value| sender.send(value)));
            caller.unpark();
        };
        // A job that is refused drops its sender, which tells its caller.
        let _ = self.jobs.try_send(Box::new(work));
        Job(result)
    }

    /// How long it has been running its job; zero between jobs.
    pub fn busy_time(&self) -> Duration {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

impl<T> Job<T> {
    /// Waits for the result until the deadline; `None` while the job has not ended. Must be called on the thread that the
    /// job wakes.
    pub fn wait(&mut self, deadline: &Deadline) -> Option<Result<T, JobLost>> {
        deadline.wait_for(|| match self.0.try_recv() {
            Ok(result) => Some(Ok(result)),
            Err(TryRecvError::Closed) => Some(Err(JobLost)),
            Err(TryRecvError::Empty) => None,
        })
    }

    /// Waits for the result as a task does.
    pub async fn result(self) -> Result<T, JobLost> {
        self.0.await.map_err(|_| JobLost)
    }
}

/// One job at a time. It is waited for when it is started; where it does not end in time, a later call has its result.
#[derive(Debug)]
pub struct SingleJob<T>(Option<Job<T>>);

impl<T> Default for SingleJob<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> SingleJob<T> {
    /// The result of the job that was started before, if it has ended; where there is none, starts one and waits for it.
    pub fn wait(&mut self, deadline: &Deadline, start: impl FnOnce() -> Option<Job<T>>) -> Option<T> {
        let (mut job, deadline) = match self.0.take() {
            Some(job) => (job, Deadline::after(Duration::ZERO)),
            None => (start()?, deadline.clone()),
        };
        let result = job.wait(&deadline);
        if result.is_none() {
            self.0 = Some(job);
        }
        // What is lost is started again.
        result?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        while worker.busy_time().is_zero() {
            thread::yield_now();
        }
        go_on.send(()).unwrap();
        assert_eq!(job.wait(&Deadline::after(LONG)), Some(Ok(42)));
        assert_eq!(worker.busy_time(), Duration::ZERO);
    }

    #[test]
    fn jobs_behind_one_that_blocks_are_bounded_and_run_only_if_somebody_waits() {
        let worker = BlockingWorker::start("test").unwrap();
        let (go_on, gate) = mpsc::channel::<()>();
        let (began, begins) = mpsc::channel();
        let mut blocked = worker.run(move || {
            began.send(()).unwrap();
            gate.recv()
        });
        begins.recv().unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = || {
            let runs = Arc::clone(&runs);
            worker.run(move || runs.fetch_add(1, Ordering::SeqCst))
        };
        let mut waiting: Vec<_> = (0..MAX_WAITING_JOBS).map(|_| count()).collect();
        assert_eq!(count().wait(&Deadline::after(LONG)), Some(Err(JobLost)));
        waiting.truncate(1);
        drop(go_on);
        assert!(blocked.wait(&Deadline::after(LONG)).is_some());
        assert_eq!(waiting[0].wait(&Deadline::after(LONG)), Some(Ok(0)));
        assert_eq!(worker.run(|| 42).wait(&Deadline::after(LONG)), Some(Ok(42)));
        assert_eq!(runs.load(Ordering::SeqCst), 1, "nobody waits for the others");
    }

    #[test]
    fn a_panic_loses_one_job() {
        let worker = BlockingWorker::start("test").unwrap();
        let divide = |by: u32| worker.run(move || 84 / by);
        let (mut panics, mut divides) = (divide(0), divide(2));
        assert_eq!(panics.wait(&Deadline::after(LONG)), Some(Err(JobLost)));
        assert_eq!(divides.wait(&Deadline::after(LONG)), Some(Ok(42)));
    }
}
