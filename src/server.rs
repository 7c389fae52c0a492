//! The HTTP server: its listener, and the limits that keep one client from harming another.

mod connections;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod open;
mod paced;
mod routes;
mod slots;
mod unsent;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket};

pub use routes::{Form, Routes};
pub use unsent::Unsent;

use connections::Connections;

/// Wait after an error of `accept` that may last: no descriptors left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How often the log says so.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Opens the port on the first address that lets it, or on every interface: IPv6 with IPv4 mapped, or IPv4 alone
/// where there is no IPv6.
///
/// # Errors
///
/// If the port cannot be opened.
pub fn listen(host: Option<&[IpAddr]>, port: u16) -> io::Result<TcpListener> {
    let everywhere = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.unwrap_or(&everywhere) {
        match listen_on(SocketAddr::new(*address, port)) {
            Ok(listener) => return Ok(listener),
            // Somebody else has the port: to take it on another address would only hide that.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
        socket
    } else {
        TcpSocket::new_v4()?
    };
    // A restart must not wait for the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` is done; then closes the listener first, and lets what is in flight finish.
pub async fn run(listener: TcpListener, routes: Arc<Routes>, stop: impl Future<Output = ()>) {
    let mut connections = Connections::new(routes);
    let mut stop = std::pin::pin!(stop);
    let mut last_warning: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.add(stream, peer.ip());
                // Lets it read its request before the next one may want its place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if last_warning.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
                    last_warning = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections");
                }
                if is_shortage(&error) {
                    connections.make_room();
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
    drop(listener);
    connections.stop().await;
}

/// Whether something of the system has run out, and not just one client gone away.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}
