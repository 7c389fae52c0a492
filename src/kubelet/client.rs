//! One request to the kubelet: its time, its limits, and what came of it.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Settings;
use super::failure::Failure;
use super::token::Token;
use super::trust::Trust;
use crate::remote::{self, Pieces, begin, chain};

/// How long an answer may take, all of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer answers are none of a kubelet's.
const LARGEST: usize = 64 << 20;
/// What is read of an answer that is no success.
const LARGEST_REFUSAL: usize = 64 << 10;
/// Bytes that are read at once.
const READ_AT_ONCE: usize = 64 << 10;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// The figures of all pods.
    Summary,
    /// The kubelet's own metrics.
    Metrics,
}

impl Page {
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Summary => "/stats/summary",
            Self::Metrics => "/metrics",
        }
    }

    /// The resource that RBAC must let whoever asks `get`.
    pub(super) fn right(self) -> &'static str {
        match self {
            Self::Summary => "nodes/stats",
            Self::Metrics => "nodes/metrics",
        }
    }

    fn accept(self) -> &'static str {
        match self {
            Self::Summary => "application/json",
            Self::Metrics => "text/plain;version=0.0.4",
        }
    }
}

/// Asks one kubelet.
#[derive(Debug, Clone)]
pub(super) struct Client {
    endpoint: Uri,
    trust: Trust,
    token: Arc<Token>,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Self {
        let Settings { endpoint, trust, token, .. } = settings;
        Self { endpoint, trust, token: Arc::new(Token::new(token)) }
    }

    /// A page, parsed while it comes, on a connection of its own: so each time the token and the certificates are those
    /// of now, and nothing is open in between.
    pub(super) async fn get<T: Send + 'static>(
        &self,
        page: Page,
        directories: &[PathBuf],
        parse: fn(Pieces) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(page, directories, parse));
        asked.await.unwrap_or(Err(Failure::Timeout(PATIENCE)))
    }

    async fn ask<T: Send + 'static>(
        &self,
        page: Page,
        directories: &[PathBuf],
        parse: fn(Pieces) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let is_tls = self.endpoint.scheme_str() != Some("http");
        let host = self.endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.endpoint.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let request = self.request(page, is_tls)?;
        let connected = TcpStream::connect((host, port)).await;
        let stream = connected.map_err(|error| Failure::Connect(error.to_string()))?;
        if !is_tls {
            return exchange(stream, request, parse).await;
        }
        let connector = TlsConnector::from(Arc::new(self.trust.config(host, directories)?));
        let names = self.trust.names(host);
        let name = ServerName::try_from(names[0].clone());
        let name = name.map_err(|error| Failure::Connect(format!("{}: {error}", names[0])))?;
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| Failure::of_handshake(&error, &names.join(" or ")))?;
        exchange(stream, request, parse).await
    }

    /// The token goes over TLS only: whoever listens on the way could use it.
    fn request(&self, page: Page, is_tls: bool) -> Result<Request<Empty<Bytes>>, Failure> {
        let path = format!("{}{}", self.endpoint.path().trim_end_matches('/'), page.path());
        let authority = self.endpoint.authority().map(ToString::to_string).unwrap_or_default();
        let request = Request::get(path).header(HOST, authority).header(ACCEPT, page.accept());
        let request = request.body(Empty::new());
        let mut request = request.map_err(|error| Failure::Connect(error.to_string()))?;
        if let Some(token) = is_tls.then(|| self.token.authorization()).transpose()?.flatten() {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }
}

async fn exchange<S, T>(
    stream: S,
    request: Request<Empty<Bytes>>,
    parse: fn(Pieces) -> Result<T, String>,
) -> Result<T, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T: Send + 'static,
{
    let broken = |error: hyper::Error| Failure::Connect(chain(&error));
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_buf_size(READ_AT_ONCE).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            let code = response.status().as_u16();
            let body = Limited::new(response.into_body(), LARGEST_REFUSAL).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Err(Failure::of_status(code, &body));
        }
        let parsed = remote::read(response.into_body(), LARGEST, parse).await;
        parsed.map_err(|error| Failure::of_reading(&error))?.map_err(|error| Failure::Decode(begin(&error)))
    });
    // By no task of its own, which would keep the connection until this thread asks again.
    tokio::select! {
        answer = &mut answer => answer,
        // How it ended, whoever waits for the answer is told.
        _ = connection => answer.await,
    }
}
