//! The runtime of everything that talks to a network other than the HTTP server, on one thread of its own.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

/// The pause before a task that panicked runs again.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// Threads for name lookups (DNS), which the system offers in a blocking form only.
const MAX_BLOCKING_THREADS: usize = 2;

/// A current-thread runtime and its thread, for as long as the program runs.
#[derive(Debug, Clone)]
pub struct Clients(Handle);

impl Clients {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread or the runtime's descriptors.
    pub fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(MAX_BLOCKING_THREADS).build()?;
        let clients = Self(runtime.handle().clone());
        thread::Builder::new()
            .name("clients".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(clients)
    }

    /// Runs a task on that thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

/// A task that can run again after a panic. A trait, because the compiler cannot tell that the future of an async closure
/// that borrows may be sent to another thread.
pub trait RestartableTask: Send {
    /// Runs it to its end.
    fn run(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs a task until it ends without a panic. A panic is logged and counted by the panic hook; the task then starts again
/// after a pause, with its state as the panic left it.
pub async fn restart_on_panic(mut task: impl RestartableTask) {
    while catch_panic(task.run()).await.is_err() {
        tokio::time::sleep(RESTART_DELAY).await;
    }
}

/// Runs a future, and catches its panic.
///
/// # Errors
///
/// If it panics. The panic hook has logged and counted it.
pub async fn catch_panic<T>(future: impl Future<Output = T>) -> thread::Result<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsOnce<'a>(&'a mut u32);

    impl RestartableTask for PanicsOnce<'_> {
        async fn run(&mut self) {
            *self.0 += 1;
            tokio::task::yield_now().await;
            assert!(*self.0 > 1, "the first run fails");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_runs_again_with_what_it_knew() {
        let mut runs = 0;
        let started = tokio::time::Instant::now();
        restart_on_panic(PanicsOnce(&mut runs)).await;
        assert_eq!((runs, started.elapsed()), (2, RESTART_DELAY));
    }
}
