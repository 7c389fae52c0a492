//! The HTTP server, and the limits that keep one client from harming another.

mod connection;
mod connection_table;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod limits;
mod response_memory;
mod routes;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use hyper_util::server::graceful::GracefulShutdown;
use nix::errno::Errno;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

pub use limits::Limits;
pub use response_memory::{ResponseMemory, SharedBody};
pub use routes::{Representation, Routes};

use connection::Server;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes that the kernel buffers for a connection while the client's receive window is full. Its own limit is megabytes,
/// which it would take for each of 1,000 clients that do not read. What is in flight does not count.
const MAX_KERNEL_UNSENT_BYTES: u32 = 32 << 10;
/// The pause after an error of `accept` that lasts until something is freed, such as no descriptors left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The minimum time between two warnings about `accept`.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// The connections that a listener accepts, with their clients' addresses.
pub fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<(TcpStream, IpAddr)>> {
    stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, peer)| {
            // Without it responses are only later.
            let _ = stream.set_nodelay(true);
            (stream, peer.ip())
        });
        Some((accepted, listener))
    })
}

/// Opens the port on the first address that allows it, or on every interface: IPv6 with IPv4 mapped, or IPv4 alone
/// where there is no IPv6.
pub fn listen(host: Option<&[IpAddr]>, port: u16) -> io::Result<TcpListener> {
    let everywhere = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.unwrap_or(&everywhere) {
        match listen_on(SocketAddr::new(*address, port)) {
            Ok(listener) => return Ok(listener),
            // Another program has the port: taking it on another address would only hide that.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        SockRef::from(&socket).set_only_v6(!address.ip().is_unspecified())?;
        socket
    } else {
        TcpSocket::new_v4()?
    };
    // A restart must not wait for the connections of the last run.
    socket.set_reuseaddr(true)?;
    // Inherited by its connections.
    SockRef::from(&socket).set_tcp_notsent_lowat(MAX_KERNEL_UNSENT_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

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
