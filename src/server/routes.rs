//! Paths to answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::collect::{MIN_MEASURING_TIME, ScrapeRequest, SingleFlight};
use crate::exposition::{self, Encoding};
use crate::health::Health;
use crate::page;

use super::slots::Slots;
use super::unsent::Unsent;

const PLAIN: &str = "text/plain; charset=utf-8";
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Of the client's time, the share that is kept for writing and sending the answer, and the most that is kept.
const SENDING_SHARE: f64 = 0.2;
const MOST_SENDING: Duration = Duration::from_secs(1);
/// How much longer than a collection may take a client without a limit of its own waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that is answered.
const PATHS: [&str; 9] =
    ["/", "/metrics", "/healthz", "/health", "/readyz", "/ready", "/style.css", "/filter.js", "/icon.svg"];

/// The page takes what is its own from this server, and nothing from anywhere else; no other page may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// In which form a collection is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// An exposition, for Prometheus.
    Metrics(Encoding),
    /// The page, for people.
    Page {
        /// Packed by gzip.
        gzip: bool,
    },
}

/// Everything that answers are made from.
pub struct Routes {
    /// Who collects.
    scrapes: SingleFlight<Form, Bytes>,
    /// How long a collection may wait for mounts.
    stat_timeout: Duration,
    /// For the probes.
    health: Arc<Health>,
    slots: Slots,
    /// The bodies that the collections make.
    pub(super) unsent: Unsent,
}

type Answer = Response<Full<Bytes>>;

impl Routes {
    /// Answers by these.
    #[must_use]
    pub fn new(
        scrapes: SingleFlight<Form, Bytes>,
        stat_timeout: Duration,
        health: Arc<Health>,
        unsent: Unsent,
    ) -> Self {
        Self { scrapes, stat_timeout, health, slots: Slots::default(), unsent }
    }

    pub(super) async fn answer<B>(&self, request: &Request<B>, peer: IpAddr) -> Answer {
        let path = request.uri().path();
        if !PATHS.contains(&path) {
            return plain(StatusCode::NOT_FOUND, "not found; see / for what there is\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/healthz" | "/health" => plain(StatusCode::OK, "ok\n"),
            "/readyz" | "/ready" => match self.health.ready() {
                Ok(()) => plain(StatusCode::OK, "ok\n"),
                Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/style.css" => with_body(StatusCode::OK, "text/css; charset=utf-8", page::STYLE.into()),
            "/filter.js" => with_body(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT.into()),
            "/icon.svg" => with_body(StatusCode::OK, "image/svg+xml", page::ICON.into()),
            _ => self.collected(wanted(path, request.headers()), request.headers(), peer).await,
        }
    }

    async fn collected(&self, form: Form, headers: &HeaderMap, peer: IpAddr) -> Answer {
        let too_many = || plain(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at one time\n");
        let Some(mut slot) = self.slots.take(peer) else {
            return too_many();
        };
        tokio::select! {
            answer = self.scrape(form, headers) => answer,
            () = slot.taken() => too_many(),
        }
    }

    async fn scrape(&self, form: Form, headers: &HeaderMap) -> Answer {
        let time = scrape_timeout(headers);
        let measuring = time.map_or(self.stat_timeout, measuring_time).min(self.stat_timeout);
        let request = ScrapeRequest { measuring, representation: form };
        // The collection that is shared may be one that began for a more patient client.
        let limit = time.unwrap_or(self.stat_timeout + PATIENCE);
        match tokio::time::timeout(limit, self.scrapes.scrape(request)).await {
            Ok(Ok(body)) => collected_answer(form, body),
            Ok(Err(error)) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(_) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "a collection is under way that takes longer than this scrape may\n",
            ),
        }
    }
}

/// What the client takes of what a path has.
fn wanted(path: &str, headers: &HeaderMap) -> Form {
    let encoding =
        exposition::negotiate(&all(headers, &header::ACCEPT), &all(headers, &header::ACCEPT_ENCODING));
    if path == "/" { Form::Page { gzip: encoding.gzip } } else { Form::Metrics(encoding) }
}

/// The time that the client gives.
fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(SCRAPE_TIMEOUT)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// What of it measuring may take.
fn measuring_time(time: Duration) -> Duration {
    time.saturating_sub(time.mul_f64(SENDING_SHARE).min(MOST_SENDING)).max(MIN_MEASURING_TIME)
}

/// All lines of a header as one: they mean the same.
fn all(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

fn collected_answer(form: Form, body: Bytes) -> Answer {
    let (content_type, vary, gzip) = match form {
        Form::Metrics(Encoding { format, gzip }) => (format.content_type(), "Accept, Accept-Encoding", gzip),
        Form::Page { gzip } => ("text/html; charset=utf-8", "Accept-Encoding", gzip),
    };
    let mut answer = with_body(StatusCode::OK, content_type, body);
    let headers = answer.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static(vary));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if matches!(form, Form::Page { .. }) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    }
    answer
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with_body(status, PLAIN, text.into())
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_time_is_known_and_a_part_of_it_kept() {
        let time = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SCRAPE_TIMEOUT, HeaderValue::from_str(text).unwrap());
            scrape_timeout(&headers)
        };
        assert_eq!(time("10"), Some(Duration::from_secs(10)));
        assert_eq!(measuring_time(Duration::from_secs(10)), Duration::from_secs(9));
        assert_eq!(measuring_time(Duration::from_secs(1)), Duration::from_millis(800));
        assert_eq!(measuring_time(Duration::from_micros(1)), MIN_MEASURING_TIME);
        for nonsense in ["", "0", "-1", "NaN", "inf", "1e400", "ten", "-inf"] {
            assert_eq!(time(nonsense), None, "{nonsense}");
        }
        assert_eq!(scrape_timeout(&HeaderMap::new()), None);
    }
}
