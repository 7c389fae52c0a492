//! Requests to responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::collect::{CollectionPanicked, MIN_MEASURING_TIME, ScrapeRequest};
use crate::exposition::{self, Encoding};
use crate::health::Health;
use crate::report;

use super::response_memory::SharedBody;

const TEXT_PLAIN: &str = "text/plain; charset=utf-8";
const SCRAPE_TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// The share of the client's timeout that is kept for encoding and sending the response, and its maximum.
const SENDING_SHARE: f64 = 0.2;
const MAX_SENDING_TIME: Duration = Duration::from_secs(1);
/// How much longer than measuring may take a client without a timeout of its own waits.
const DEFAULT_EXTRA_WAIT: Duration = Duration::from_secs(10);

/// The page loads its own parts from this server and nothing from anywhere else; no other page may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What a collection is encoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// An exposition, for Prometheus.
    Metrics(Encoding),
    /// The page, for people.
    Page {
        /// Compressed with gzip.
        gzip: bool,
    },
}

impl Representation {
    /// The page for `/`, else metrics; in the format and coding that the client prefers.
    fn negotiate(path: &str, headers: &HeaderMap) -> Self {
        let accept = joined_lines(headers, &header::ACCEPT);
        let encoding = exposition::negotiate(&accept, &joined_lines(headers, &header::ACCEPT_ENCODING));
        if path == "/" { Self::Page { gzip: encoding.gzip } } else { Self::Metrics(encoding) }
    }
}

/// All lines of a header as one: they mean the same.
fn joined_lines(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

type PendingBody = BoxFuture<'static, Result<SharedBody, CollectionPanicked>>;

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
        let ready_made = match path {
            "/" | "/metrics" => None,
            "/healthz" | "/health" => Some(plain(StatusCode::OK, "ok\n")),
            "/readyz" | "/ready" => Some(match self.health.ready() {
                Ok(()) => plain(StatusCode::OK, "ok\n"),
                Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            }),
            "/style.css" => Some(file("text/css; charset=utf-8", report::STYLE)),
            "/filter.js" => Some(file("text/javascript; charset=utf-8", report::SCRIPT)),
            "/icon.svg" => Some(file("image/svg+xml", report::ICON)),
            _ => return plain(StatusCode::NOT_FOUND, "not found; see / for what there is\n"),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match ready_made {
            Some(response) => response,
            None => self.respond_to_scrape(path, request.headers()).await,
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
    let mut response = with_body(content_type, body);
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
    let mut response = with_body(TEXT_PLAIN, SharedBody::uncounted(text));
    *response.status_mut() = status;
    response
}

fn file(content_type: &'static str, text: &'static str) -> Response<SharedBody> {
    with_body(content_type, SharedBody::uncounted(text))
}

fn with_body(content_type: &'static str, body: SharedBody) -> Response<SharedBody> {
    let mut response = Response::new(body);
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
