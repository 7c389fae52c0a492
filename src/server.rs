//! The HTTP server: its listener, and the limits that keep one client from harming another.

mod paced;
mod page;
mod routes;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

pub use page::Page;
pub use routes::Routes;

use paced::Paced;
use routes::Admission;

/// Connections that may ask for everything. More are let in, but answered to probes only.
const MOST_CONNECTIONS: usize = 64;
/// Connections beyond these; the oldest makes room for the newest, so that a probe always gets in.
const MOST_EXTRA: usize = 16;
/// How long a client may take for a request's head, and stay idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read an answer that does not fit into the kernel's buffers.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head, and pieces of an answer: hyper's least is 8 KiB.
const BUFFER_BYTES: usize = 16 << 10;
/// How long what is in flight may take when the program is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait after an error of `accept`, which may be one that lasts: no descriptors left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
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
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.add(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            Some(_) = connections.tasks.join_next() => {}
        }
    }
    drop(listener);
    connections.stop().await;
}

struct Connections {
    routes: Arc<Routes>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
    extra: VecDeque<AbortHandle>,
    stopping: watch::Sender<bool>,
}

impl Connections {
    fn new(routes: Arc<Routes>) -> Self {
        Self {
            routes,
            slots: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            tasks: JoinSet::new(),
            extra: VecDeque::new(),
            stopping: watch::Sender::new(false),
        }
    }

    fn add(&mut self, stream: TcpStream) {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        let is_extra = slot.is_none();
        let admission = if is_extra { Admission::ProbesOnly } else { Admission::Full };
        let connection = serve(stream, Arc::clone(&self.routes), admission, self.stopping.subscribe());
        let task = self.tasks.spawn(async move {
            connection.await;
            drop(slot);
        });
        if is_extra {
            self.extra.retain(|task| !task.is_finished());
            if self.extra.len() >= MOST_EXTRA
                && let Some(oldest) = self.extra.pop_front()
            {
                oldest.abort();
            }
            self.extra.push_back(task);
        }
    }

    async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!("connections that did not end in time are cut off");
        }
    }
}

async fn serve(
    stream: TcpStream,
    routes: Arc<Routes>,
    admission: Admission,
    mut stopping: watch::Receiver<bool>,
) {
    // Without it answers are only later.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(routes.answer(&request, admission).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Paced::new(stream, READER_TIMEOUT)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
