//! The kubelet as a source: its stats of claims' volumes, and which of them its own metrics expose.
//!
//! A collection asks for a refresh where an answer is old, and waits for it no longer than its deadline.

mod cached_endpoint;
mod client;
mod error;
mod exposed_claims;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod path;
mod summary;
mod tls;
mod token;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::Uri;

pub use tls::{CaFileError, TlsSettings};

use crate::runtime::{BlockingWorker, Clients, Deadline};
use crate::volume::{ClaimKey, ReportedVolume};
use cached_endpoint::{CachedAnswer, CachedEndpoint};
use client::KubeletClient;
use path::KubeletPath;

/// Which kubelet, and what to request.
#[derive(Debug, Clone)]
pub struct KubeletSettings {
    /// `https://HOST:PORT`, with an optional prefix of the kubelet's paths.
    pub endpoint: Uri,
    /// How its certificate is verified.
    pub tls: TlsSettings,
    /// The file with the bearer token.
    pub token: PathBuf,
    /// How long an answer is used.
    pub interval: Duration,
    /// Whether to request `/stats/summary`.
    pub summary: bool,
    /// Whether to find out which claims the kubelet's own metrics expose.
    pub exposed_claims: bool,
}

/// The local kubelet.
pub struct Kubelet {
    summary: Option<CachedEndpoint<Vec<ReportedVolume>>>,
    exposed_claims: Option<CachedEndpoint<HashSet<ClaimKey>>>,
}

/// How reading the summary goes.
#[derive(Debug, Clone, Copy)]
pub struct SummaryStatus {
    /// The last request succeeded.
    pub success: bool,
    /// Requests that failed and entries that could not be parsed, since the start.
    pub errors: u64,
    /// When the last answer was received.
    pub answered: Option<SystemTime>,
}

/// The claims that the kubelet exposes itself.
#[derive(Debug, Clone)]
pub enum ExposedClaims {
    /// These.
    Known(Arc<HashSet<ClaimKey>>),
    /// The first answer is still to come.
    NotYet,
    /// The kubelet's metrics cannot be read.
    Unavailable,
}

impl Kubelet {
    /// Starts the tasks that make the requests.
    #[must_use]
    pub fn start(settings: KubeletSettings, clients: &Clients, host_files: &BlockingWorker) -> Self {
        let KubeletSettings { endpoint, tls, token, interval, summary, exposed_claims } = settings;
        let client = KubeletClient::new(endpoint, tls, token, host_files.clone());
        Self {
            summary: summary.then(|| {
                CachedEndpoint::start(clients, client.clone(), KubeletPath::Summary, interval, summary::parse)
            }),
            exposed_claims: exposed_claims.then(|| {
                CachedEndpoint::start(clients, client, KubeletPath::Metrics, interval, exposed_claims::parse)
            }),
        }
    }

    /// Requests what is old. `directories` are the kubelet's own, as they are reached here.
    pub fn refresh_if_stale(&mut self, now: Instant, directories: &[PathBuf]) {
        if let Some(summary) = &mut self.summary {
            summary.refresh_if_stale(now, directories);
        }
        if let Some(exposed_claims) = &mut self.exposed_claims {
            exposed_claims.refresh_if_stale(now, directories);
        }
    }

    /// Waits for the requests that are under way; whether all of them ended.
    pub fn wait(&mut self, deadline: &Deadline) -> bool {
        let summary = self.summary.as_mut().is_none_or(|summary| summary.wait(deadline));
        let exposed = self.exposed_claims.as_mut().is_none_or(|exposed| exposed.wait(deadline));
        summary && exposed
    }

    /// The stats that a collection that began at `start` can use.
    #[must_use]
    pub fn summary(&self, start: Instant) -> Option<Arc<Vec<ReportedVolume>>> {
        match self.summary.as_ref()?.answer(start) {
            CachedAnswer::Fresh(summary) => Some(summary),
            CachedAnswer::Stale(_) | CachedAnswer::NotYet | CachedAnswer::Unavailable => None,
        }
    }

    /// How reading the summary goes, if it is requested.
    #[must_use]
    pub fn summary_status(&self) -> Option<SummaryStatus> {
        let summary = self.summary.as_ref()?;
        Some(SummaryStatus {
            success: summary.has_succeeded(),
            errors: summary.errors(),
            answered: summary.received_at(),
        })
    }

    /// Whether the kubelet's metrics could be read the last time, if they are requested.
    #[must_use]
    pub fn exposed_claims_success(&self) -> Option<bool> {
        self.exposed_claims.as_ref().map(CachedEndpoint::has_succeeded)
    }

    /// Which claims the kubelet exposes itself, for a collection that began at `start`, if that is requested.
    #[must_use]
    pub fn exposed_claims(&self, start: Instant) -> Option<ExposedClaims> {
        Some(match self.exposed_claims.as_ref()?.answer(start) {
            // Which claims it exposes rarely changes: an old answer is better than every claim twice.
            CachedAnswer::Fresh(claims) | CachedAnswer::Stale(claims) => ExposedClaims::Known(claims),
            CachedAnswer::NotYet => ExposedClaims::NotYet,
            CachedAnswer::Unavailable => ExposedClaims::Unavailable,
        })
    }
}
