//! The runtime of everything that talks to a network other than the HTTP server, on one thread of its own.

use std::io;
use std::panic::AssertUnwindSafe;
use std::thread;

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::blocking_worker::Job;

/// Threads for name lookups (DNS), which the system offers in a blocking form only.
const MAX_BLOCKING_THREADS: usize = 2;

/// A current-thread runtime and its thread, for as long as the program runs.
#[derive(Debug, Clone)]
pub struct Clients(Handle);

impl Clients {
    /// Starts the thread.
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

    /// Runs a task on that thread. The calling thread is woken when it ends.
    pub fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Job<T> {
        let (sender, result) = oneshot::channel();
        let caller = thread::current();
        self.0.spawn(async move {
            // A panic drops the sender.
            drop(catch_panic(task).await.map(|value| sender.send(value)));
            caller.unpark();
        });
        Job(result)
    }
}

/// Runs a future, and catches its panic.
pub async fn catch_panic<T>(future: impl Future<Output = T>) -> thread::Result<T> {
    AssertUnwindSafe(future).catch_unwind().await
}
