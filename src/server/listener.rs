//! The listening socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes that the kernel buffers for a connection while the client's receive window is full. Its own limit is megabytes,
/// which it would take for each of 1,000 clients that do not read. What is in flight does not count.
const MAX_KERNEL_UNSENT_BYTES: u32 = 32 << 10;

/// Where connections come from.
pub trait Accept {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection, and tells its client's address. May be cancelled.
    ///
    /// # Errors
    ///
    /// If a connection failed before it was accepted, or the system lacks what one needs.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, IpAddr)>>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Without it responses are only later.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.ip()))
    }
}

/// Opens the port on the first address that allows it, or on every interface: IPv6 with IPv4 mapped, or IPv4 alone
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
