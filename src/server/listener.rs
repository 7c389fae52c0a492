//! The listening socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::{Stream, stream};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes that the kernel buffers for a connection while the client's receive window is full. Its own limit is megabytes,
/// which it would take for each of 1,000 clients that do not read. What is in flight does not count.
const MAX_KERNEL_UNSENT_BYTES: u32 = 32 << 10;

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
