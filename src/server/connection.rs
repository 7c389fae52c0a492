//! One connection: its requests, their responses, and what ends it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection_table::{Connection, ConnectionTable};
use super::limits::Limits;
use super::response_memory::UnsentBody;
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

    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
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
