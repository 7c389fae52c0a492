//! The connection to the API server: kube's client with limits on what a server may send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper::body::{Body, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt;
use tokio::task::spawn_blocking;
use tower::util::{BoxCloneSyncService, MapErr, ServiceExt, option_layer};
use tower::{BoxError, Layer, service_fn};

use super::access::{Access, AccessError};
use super::request_error::{RetryLater, is_tls};
use crate::host_files;
use crate::input_limits::limited_body;

/// How long a response may take, or its head if it is a stream.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups in flight at one time.
pub(super) const MAX_CONCURRENT_LOOKUPS: usize = 4;
/// Objects are smaller: etcd stores at most 1.5 MB of one.
const MAX_OBJECT_BYTES: usize = 4 << 20;
/// No `Retry-After` beyond this is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// The read buffer of a connection; by itself it grows to 400 KiB.
const MAX_BUFFER_BYTES: usize = 16 << 10;
/// How long a connection may be silent before the kernel probes the server, and probes it again.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

type HttpService = BoxCloneSyncService<Request<kube::client::Body>, Response<Incoming>, BoxError>;
/// Connections with one set of credentials, which requests share once they are opened.
type Session = Shared<BoxFuture<'static, Result<HttpService, Arc<AccessError>>>>;

/// A client of the API server. It reads its credentials when it is first used, and again after the server refused them
/// or could not be trusted. Must be called within a runtime.
pub fn connect(access: Access) -> kube::Client {
    let mut session: Option<Session> = None;
    let is_refused = Arc::new(AtomicBool::new(false));
    limited(move |request| {
        if is_refused.swap(false, Ordering::Relaxed) {
            session = None;
        }
        let start_opening = || {
            let access = access.clone();
            // A credential plugin of a kubeconfig may take its time.
            let opened = spawn_blocking(move || open(&access));
            opened
                .map(|opened| opened.unwrap_or_else(|panic| Err(panic.into())).map_err(Arc::new))
                .boxed()
                .shared()
        };
        let opened = session.get_or_insert_with(start_opening).clone();
        let is_refused = Arc::clone(&is_refused);
        async move {
            let response = match opened.await {
                Ok(http) => http.oneshot(request).await,
                Err(error) => Err(error.into()),
            };
            let is_no = match &response {
                Ok(response) => response.status() == StatusCode::UNAUTHORIZED,
                Err(error) => error.is::<Arc<AccessError>>() || is_tls(&**error),
            };
            is_refused.fetch_or(is_no, Ordering::Relaxed);
            response
        }
    })
}

/// Connections to one server with one set of credentials.
fn open(access: &Access) -> Result<HttpService, AccessError> {
    let mut config = access.load()?;
    // kube takes a line end for a part of the token: such a token is read again when it is refused. Others it reads again
    // every minute.
    if let Some(path) = &config.auth_info.token_file {
        let token = host_files::read_token(path.as_ref());
        let token = token.map_err(|error| AccessError::Token(path.clone(), error))?;
        if token.trim() != token && config.auth_info.token.is_none() {
            config.auth_info.token = Some(token.trim().to_owned().into());
        }
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(RESPONSE_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_nodelay(true);
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_CONCURRENT_LOOKUPS)
        .http1_max_buf_size(MAX_BUFFER_BYTES)
        .build(config.rustls_https_connector_with_connector(connector)?);
    let service = config.extra_headers_layer()?.layer(MapErr::new(http, BoxError::from));
    let service = option_layer(config.auth_layer()?).layer(service);
    Ok(HttpService::new(config.base_uri_layer().layer(service)))
}

/// A client whose responses are limited in size, and that reports a `Retry-After`. Must be called within a runtime.
pub fn limited<F, R, B>(mut send: F) -> kube::Client
where
    F: FnMut(Request<kube::client::Body>) -> R + Send + 'static,
    R: Future<Output = Result<Response<B>, BoxError>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<kube::client::Body>| {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let response = send(request);
        async move {
            let response = response.await?;
            let status = response.status();
            let header = response.headers().get(RETRY_AFTER).filter(|_| !status.is_success());
            if let Some(seconds) = header.and_then(|value| value.to_str().ok()?.trim().parse().ok()) {
                let after = Duration::from_secs(seconds).min(MAX_RETRY_AFTER);
                return Err(BoxError::from(RetryLater { status: status.as_u16(), after }));
            }
            Ok(response.map(|body| limited_body(body, MAX_OBJECT_BYTES, is_watch)))
        }
    });
    kube::Client::new(service, "default")
}
