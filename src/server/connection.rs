//! One connection: its requests, their responses, and what ends it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection_table::{Connection, ConnectionTable};
use super::limits::Limits;
use super::response_memory::SharedBody;
use super::routes::Routes;
use super::write_timeout::WriteTimeout;

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
            async move { Ok::<_, Infallible>(server.respond(request, connection).await) }
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

    async fn respond(&self, request: Request<Incoming>, connection: Arc<Connection>) -> Response<SentBody> {
        connection.begin_request();
        let mut response = self.routes.respond(&request).await;
        // Behind a request with a body, hyper 1.12 may send an error response in the middle of this one.
        if !request.body().is_end_stream() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let body = response.body();
        connection.begin_response(body);
        while body.unsent_bytes() > self.limits.unsent_bytes && self.table.evict_slowest_reader(body) {
            // The evicted connection's task drops what it holds.
            tokio::task::yield_now().await;
        }
        response.map(|body| SentBody { body, next_chunk: 0, connection })
    }
}

/// A body on its way to one client.
struct SentBody {
    body: SharedBody,
    next_chunk: usize,
    connection: Arc<Connection>,
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.body.chunks().get(self.next_chunk).cloned();
        self.next_chunk += 1;
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.next_chunk >= self.body.chunks().len()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.chunks().iter().skip(self.next_chunk);
        SizeHint::with_exact(rest.map(|chunk| chunk.len() as u64).sum())
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        self.connection.end_body();
    }
}
