//! What a scrape's response is encoded to: an exposition or the page, by the request's path and headers.

use hyper::header::{self, HeaderMap, HeaderName};

use crate::exposition::{self, Encoding};

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
    pub(super) fn negotiate(path: &str, headers: &HeaderMap) -> Self {
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
