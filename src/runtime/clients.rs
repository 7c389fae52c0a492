//! The runtime of everything that talks to a network other than the HTTP server, on one thread of its own.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::blocking_worker::Job;

/// Threads for credentials and name lookups (DNS), which the system offers in a blocking form only.
const MAX_BLOCKING_THREADS: usize = 2;

/// A current-thread runtime and its thread, for as long as the program runs.
#[derive(Debug, Clone)]
pub struct Clients(Handle);

impl Clients {
    /// Starts the thread, and one for blocking work, which never ends: tokio panics when it needs the first one of these
    /// and the system gives none.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_keep_alive(Duration::MAX)
            .build()?;
        catch_silent_panic(|| runtime.spawn_blocking(|| ()))
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
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

/// Catches the panic of a library that has no error to return: it is neither logged nor counted.
fn catch_silent_panic<T>(run: impl FnOnce() -> T) -> thread::Result<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(hook);
    result
}
