//! The kubelet's pages, and a request for one, on a connection of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::KubeletError;
use super::tls::client_config;
use crate::config::KubeletArgs;
use crate::error_text::{error_chain, truncated};
use crate::host_files::{self, HostPath};
use crate::runtime::BlockingWorker;

/// For the whole exchange: connection, handshake, request and answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A summary of 1,000 claims has 1 MB; the kubelet's metrics can have a few.
const MAX_BODY_BYTES: usize = 16 << 20;
/// Entries of one page; no node has that many volumes. A longer page is an error.
pub(super) const MAX_ENTRIES: usize = 10_000;
/// How much of an error's body is read.
const MAX_ERROR_BODY_BYTES: usize = 64 << 10;
/// hyper's buffer would grow to 400 KiB.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A page of the kubelet that is requested.
#[derive(Debug)]
pub(super) struct KubeletPage<T> {
    pub(super) path: &'static str,
    /// The RBAC resource on which the service account needs `get`.
    pub(super) rbac_resource: &'static str,
    pub(super) accept: &'static str,
    pub(super) parse: fn(&[u8]) -> Result<Parsed<T>, String>,
}

/// A parsed page.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    /// Entries that could not be parsed.
    pub(super) malformed: usize,
}

/// Makes requests to one kubelet.
#[derive(Debug)]
pub(super) struct KubeletClient {
    args: KubeletArgs,
    /// Configured, and never one that the mount table shows: users of the node can put rows into that, and would choose
    /// whom to trust.
    directory: HostPath,
    node_name: String,
    /// Whether there was no token at the last request.
    is_token_missing: AtomicBool,
    /// Reads the kubelet's own certificate, whose directory may hang.
    host_files: BlockingWorker,
}

impl KubeletClient {
    pub(super) fn new(
        args: KubeletArgs,
        directory: HostPath,
        node_name: String,
        host_files: BlockingWorker,
    ) -> Self {
        Self { args, directory, node_name, is_token_missing: AtomicBool::new(false), host_files }
    }

    /// Requests a page and parses the answer. Each request has a connection of its own, so that replaced tokens and
    /// certificates are used at once and nothing stays open in between.
    pub(super) async fn get<T>(&self, page: &KubeletPage<T>) -> Result<Parsed<T>, KubeletError> {
        let exchange = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(page));
        let body = exchange.await.unwrap_or(Err(KubeletError::Timeout(REQUEST_TIMEOUT)))?;
        (page.parse)(&body).map_err(|error| KubeletError::Decode(truncated(&error)))
    }

    async fn exchange<T>(&self, page: &KubeletPage<T>) -> Result<Bytes, KubeletError> {
        let endpoint = &self.args.kubelet_endpoint;
        let is_tls = endpoint.scheme_str() != Some("http");
        let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = endpoint.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let request = self.request(page.path, page.accept, is_tls)?;
        let connected = TcpStream::connect((host, port)).await;
        let stream = connected.map_err(|error| KubeletError::Connect(error.to_string()))?;
        if !is_tls {
            return send(stream, request).await;
        }
        let names = match &self.args.kubelet_server_name {
            Some(name) => vec![name.clone()],
            None => vec![host.to_owned(), self.node_name.clone()],
        };
        let (args, accepted, directory) = (self.args.clone(), names.clone(), self.directory.clone());
        let config = self.host_files.run(move || client_config(&args, accepted, &directory)).result().await;
        let config = config??;
        let name = ServerName::try_from(names[0].clone());
        let name = name.map_err(|error| KubeletError::Connect(format!("{}: {error}", names[0])))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| KubeletError::of_handshake(&error, &names.join(" or ")))?;
        send(stream, request).await
    }

    /// The token is sent over TLS only: anybody on the way could use it.
    fn request(&self, path: &str, accept: &str, is_tls: bool) -> Result<Request<Empty<Bytes>>, KubeletError> {
        let uri = format!("{}{}", self.args.kubelet_endpoint.path().trim_end_matches('/'), path);
        let authority = self.args.kubelet_endpoint.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(uri).header(HOST, authority).header(ACCEPT, accept);
        let request = request.body(Empty::new());
        let mut request = request.map_err(|error| KubeletError::Connect(error.to_string()))?;
        if let Some(token) = is_tls.then(|| self.authorization()).transpose()?.flatten() {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }

    /// The value of the header `Authorization`; `None` where there is no token: a kubelet may take requests without.
    fn authorization(&self) -> Result<Option<HeaderValue>, KubeletError> {
        let path = self.args.token_path.display();
        let read = host_files::open_named(&self.args.token_path).and_then(std::io::read_to_string);
        let token = read.as_ref().map(|token| token.trim()).unwrap_or_default();
        let is_missing = token.is_empty();
        if is_missing != self.is_token_missing.swap(is_missing, Ordering::Relaxed) {
            if is_missing {
                let error = read.as_ref().err().map(ToString::to_string);
                tracing::warn!(
                    event = "kubelet_token_missing", %path, error,
                    "no token for the kubelet: sending requests without one; set --token-path"
                );
            } else {
                tracing::info!(event = "kubelet_token_found", %path, "found a token for the kubelet");
            }
        }
        if is_missing {
            return Ok(None);
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| KubeletError::Token(path.to_string()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Sends a request and reads the answer's body.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Bytes, KubeletError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| KubeletError::Connect(error_chain(&error));
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_buf_size(READ_BUFFER_BYTES).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        if parts.status != StatusCode::OK {
            let body = Limited::new(body, MAX_ERROR_BODY_BYTES).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Err(KubeletError::of_status(parts.status.as_u16(), &body));
        }
        read(body).await
    });
    // The connection is driven here and not by a task, so that it ends with the request.
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

async fn read(body: Incoming) -> Result<Bytes, KubeletError> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            KubeletError::Decode(format!("longer than {MAX_BODY_BYTES} bytes"))
        } else {
            KubeletError::Connect(error_chain(&*error))
        }
    })?;
    Ok(body.to_bytes())
}
