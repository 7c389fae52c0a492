//! The HTTP server, and the limits that keep one client from harming another.

mod connection;
mod connection_table;
mod limits;
mod listener;
mod response_memory;
mod routes;
mod write_timeout;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use hyper_util::server::graceful::GracefulShutdown;
use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

pub use limits::Limits;
pub use listener::{connections, listen};
pub use response_memory::{ResponseMemory, SharedBody};
pub use routes::{Representation, Routes};

use connection::Server;

/// The pause after an error of `accept` that lasts until something is freed, such as no descriptors left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The minimum time between two warnings about `accept`.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Serves until `stop` completes. Then drops the connections first, which closes the listener, and lets responses in flight finish.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connections: impl Stream<Item = io::Result<(S, IpAddr)>>,
    routes: Arc<Routes>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let server = Arc::new(Server::new(routes, limits));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    let mut connections = Box::pin(connections);
    let mut last_warning: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(accepted) = connections.next() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(server.connect(stream, peer, graceful.watcher()));
                // Lets it read its request: then it is no idle connection that the next one may evict.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if last_warning.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
                    last_warning = Some(Instant::now());
                    tracing::warn!(event = "accept_failed", %error, "cannot accept connections");
                }
                if is_shortage(&error) {
                    server.table.evict_from_largest_peer();
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }
    drop(connections);
    if tokio::time::timeout(limits.stop_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            event = "connections_closed",
            "connections did not end within {:?}: closing them",
            limits.stop_timeout
        );
        server.table.evict_all();
    }
}

/// Whether the system has run out of something, instead of one client having disconnected.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|errno| shortages.contains(&Errno::from_raw(errno)))
}

/// Serves one connection to its end, without a listener.
pub async fn serve_connection<S>(stream: S, routes: Arc<Routes>, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let graceful = GracefulShutdown::new();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Arc::new(Server::new(routes, limits)).connect(stream, peer, graceful.watcher()).await;
}
