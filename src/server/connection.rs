//! One connection: its requests, their responses, and what ends it.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connection_table::{Connection, ConnectionTable};
use super::limits::Limits;
use super::response_memory::UnsentBody;
use super::routes::Routes;

/// The size of the buffer for a request's head; hyper's minimum is 8 KiB.
const BUFFER_BYTES: usize = 16 << 10;

/// What all connections share.
pub(super) struct Server {
    routes: Arc<Routes>,
    limits: Limits,
    pub(super) table: Arc<ConnectionTable>,
}

impl Server {
    pub(super) fn new(routes: Arc<Routes>, limits: Limits) -> Self {
        Self { routes, limits, table: Arc::default() }
    }

    /// Adds a connection to the table, in the place of another one if it is full; the future serves it to its end.
    pub(super) fn connect<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        self: &Arc<Self>,
        stream: S,
        peer: IpAddr,
        stopping: Watcher,
    ) -> impl Future<Output = ()> + use<S> {
        while self.table.len() >= self.limits.connections && self.table.evict_from_largest_peer() {}
        let (connection, evicted) = self.table.add(peer);
        let connection = Arc::new(connection);
        let stream = WriteTimeout::new(stream, Arc::clone(&connection), self.limits.write_timeout);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(BUFFER_BYTES);
        let server = Arc::clone(self);
        let service = service_fn(move |request| {
            let (server, connection) = (Arc::clone(&server), Arc::clone(&connection));
            async move { Ok::<_, Infallible>(server.respond(request, &connection).await) }
        });
        async move {
            tokio::select! {
                biased;
                _ = evicted => tracing::debug!(event = "connection_evicted", "closing a connection in favor of others"),
                ended = stopping.watch(http.serve_connection(TokioIo::new(stream), service)) => {
                    if let Err(error) = ended {
                        tracing::debug!(event = "connection_failed", %error, "connection ended early");
                    }
                }
            }
        }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<Full<UnsentBody>> {
        connection.begin_request();
        let mut response = self.routes.respond(&request).await;
        // Behind a request with a body, hyper 1.12 may send an error response in the middle of this one.
        if !request.body().is_end_stream() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let body = response.body();
        while body.unsent_bytes() > self.limits.unsent_bytes && self.table.evict_slowest_reader(body) {
            // The evicted connection's task drops what it holds.
            tokio::task::yield_now().await;
        }
        connection.begin_response(body);
        // hyper takes the whole body at once: when it flushes the stream, all of it is written.
        response.map(|body| Full::new(UnsentBody::new(body)))
    }
}

/// A stream that fails once its client takes too long to read a response: from when it is handed over until all of it is
/// written. A client that reads a byte now and then gains no time by it. Records in the connection table how writing goes.
struct WriteTimeout<S> {
    stream: S,
    connection: Arc<Connection>,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<S> WriteTimeout<S> {
    fn new(stream: S, connection: Arc<Connection>, limit: Duration) -> Self {
        Self { stream, connection, limit, timer: Box::pin(sleep(limit)) }
    }

    fn record<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.connection.record_progress();
            return written;
        }
        let deadline = self.connection.unsent_since() + self.limit;
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.record(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.record(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        // hyper flushes the stream when it has written all it had.
        self.connection.record_flush();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
