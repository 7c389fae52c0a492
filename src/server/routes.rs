//! Requests to responses.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::collect::{CollectionPanicked, MIN_MEASURING_TIME, ScrapeRequest};
use crate::exposition::Encoding;
use crate::health::Health;
use crate::report;

use super::representation::Representation;
use super::response_memory::SharedBody;

const TEXT_PLAIN: &str = "text/plain; charset=utf-8";
const SCRAPE_TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// The share of the client's timeout that is kept for encoding and sending the response, and its maximum.
const SENDING_SHARE: f64 = 0.2;
const MAX_SENDING_TIME: Duration = Duration::from_secs(1);
/// How much longer than measuring may take a client without a timeout of its own waits.
const DEFAULT_EXTRA_WAIT: Duration = Duration::from_secs(10);

const PATHS: [&str; 9] =
    ["/", "/metrics", "/healthz", "/health", "/readyz", "/ready", "/style.css", "/filter.js", "/icon.svg"];

/// The page loads its own parts from this server and nothing from anywhere else; no other page may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

type PendingBody = Pin<Box<dyn Future<Output = Result<SharedBody, CollectionPanicked>> + Send>>;

/// Everything that responses are made from.
pub struct Routes {
    scrape: Box<dyn Fn(ScrapeRequest<Representation>) -> PendingBody + Send + Sync>,
    /// How long one collection may wait for mounts.
    stat_timeout: Duration,
    health: Arc<Health>,
}

impl Routes {
    /// Routes whose expositions and pages come from `scrape`.
    pub fn new<F>(
        scrape: impl Fn(ScrapeRequest<Representation>) -> F + Send + Sync + 'static,
        stat_timeout: Duration,
        health: Arc<Health>,
    ) -> Self
    where
        F: Future<Output = Result<SharedBody, CollectionPanicked>> + Send + 'static,
    {
        let scrape = Box::new(move |request| -> PendingBody { Box::pin(scrape(request)) });
        Self { scrape, stat_timeout, health }
    }

    pub(super) async fn respond<B>(&self, request: &Request<B>) -> Response<SharedBody> {
        let path = request.uri().path();
        if !PATHS.contains(&path) {
            return plain(StatusCode::NOT_FOUND, "not found; see / for what there is\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/healthz" | "/health" => plain(StatusCode::OK, "ok\n"),
            "/readyz" | "/ready" => match self.health.ready() {
                Ok(()) => plain(StatusCode::OK, "ok\n"),
                Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/style.css" => fixed(StatusCode::OK, "text/css; charset=utf-8", report::STYLE),
            "/filter.js" => fixed(StatusCode::OK, "text/javascript; charset=utf-8", report::SCRIPT),
            "/icon.svg" => fixed(StatusCode::OK, "image/svg+xml", report::ICON),
            _ => self.respond_to_scrape(path, request.headers()).await,
        }
    }

    async fn respond_to_scrape(&self, path: &str, headers: &HeaderMap) -> Response<SharedBody> {
        let representation = Representation::negotiate(path, headers);
        let timeout = scrape_timeout(headers);
        let measuring = timeout.map_or(self.stat_timeout, measuring_time).min(self.stat_timeout);
        // The collection that is shared may have begun for a client with a longer timeout. A client that gives up does not
        // see why.
        let limit = timeout.map_or(self.stat_timeout + DEFAULT_EXTRA_WAIT, |timeout| {
            timeout.saturating_sub(sending_time(timeout) / 2)
        });
        let scrape = (self.scrape)(ScrapeRequest { measuring, representation });
        match tokio::time::timeout(limit, scrape).await {
            Ok(Ok(body)) => scrape_response(representation, body),
            Ok(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(_) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "a collection is under way that takes longer than this scrape may\n",
            ),
        }
    }
}

/// The timeout that the client sets for the whole scrape.
fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(SCRAPE_TIMEOUT_HEADER)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// The part of it that is kept for encoding and sending the response.
fn sending_time(timeout: Duration) -> Duration {
    timeout.mul_f64(SENDING_SHARE).min(MAX_SENDING_TIME)
}

/// The part of it that measuring may take.
fn measuring_time(timeout: Duration) -> Duration {
    timeout.saturating_sub(sending_time(timeout)).max(MIN_MEASURING_TIME)
}

fn scrape_response(representation: Representation, body: SharedBody) -> Response<SharedBody> {
    let (content_type, vary, gzip) = match representation {
        Representation::Metrics(Encoding { format, gzip }) => {
            (format.content_type(), "Accept, Accept-Encoding", gzip)
        }
        Representation::Page { gzip } => ("text/html; charset=utf-8", "Accept-Encoding", gzip),
    };
    let mut response = with_body(StatusCode::OK, content_type, body);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static(vary));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if matches!(representation, Representation::Page { .. }) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    }
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<SharedBody> {
    fixed(status, TEXT_PLAIN, text)
}

fn fixed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<SharedBody> {
    with_body(status, content_type, SharedBody::uncounted(body.into()))
}

fn with_body(status: StatusCode, content_type: &'static str, body: SharedBody) -> Response<SharedBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measuring_leaves_a_part_of_the_clients_timeout() {
        let timeout = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SCRAPE_TIMEOUT_HEADER, HeaderValue::from_str(text).unwrap());
            scrape_timeout(&headers)
        };
        assert_eq!(timeout("10"), Some(Duration::from_secs(10)));
        assert_eq!(measuring_time(Duration::from_secs(10)), Duration::from_secs(9));
        assert_eq!(measuring_time(Duration::from_secs(1)), Duration::from_millis(800));
        assert_eq!(measuring_time(Duration::from_micros(1)), MIN_MEASURING_TIME);
        for nonsense in ["", "0", "-1", "NaN", "inf", "1e400", "ten", "-inf"] {
            assert_eq!(timeout(nonsense), None, "{nonsense}");
        }
        assert_eq!(scrape_timeout(&HeaderMap::new()), None);
    }
}
