//! The kubelet as a source: its stats of claims' volumes, and which of them its own metrics expose.
//!
//! A collection asks for a refresh where an answer is old, and waits for it no longer than its deadline.

mod cached_endpoint;
mod client;
mod error;
mod exposed_claims;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod summary;
mod tls;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub use cached_endpoint::EndpointStatus;
pub use tls::validate_ca_file;

use prometheus_client::registry::Registry;

use crate::config::{KubeletArgs, Sources};
use crate::host_files::HostPath;
use crate::runtime::{BlockingWorker, Clients, Deadline};
use crate::volume::{ClaimKey, ReportedVolume};
use cached_endpoint::CachedEndpoint;
use client::KubeletClient;

/// The local kubelet.
pub struct Kubelet {
    summary: Option<CachedEndpoint<Vec<ReportedVolume>>>,
    exposed_claims: Option<CachedEndpoint<HashSet<ClaimKey>>>,
    /// How old its figures may be.
    pub max_age: Duration,
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
    /// The kubelet whose directory this is, of which nothing is requested yet.
    pub fn new(
        args: KubeletArgs,
        directory: HostPath,
        sources: Sources,
        node_name: String,
        clients: &Clients,
        host_files: &BlockingWorker,
    ) -> Self {
        let (summary, metrics) = (sources.kubelet, sources.needs_exposed_claims());
        let max_age = args.kubelet_max_age;
        tracing::info!(event = "kubelet_enabled", endpoint = %args.kubelet_endpoint, summary, metrics, "reading from the kubelet");
        let (clients, host_files) = (clients.clone(), host_files.clone());
        let is_token_missing = AtomicBool::new(false);
        let client =
            Arc::new(KubeletClient { args, directory, node_name, is_token_missing, clients, host_files });
        Self {
            summary: summary.then(|| CachedEndpoint::new(&summary::PAGE, &client)),
            exposed_claims: metrics.then(|| CachedEndpoint::new(&exposed_claims::PAGE, &client)),
            max_age,
        }
    }

    /// Registers the metrics of reading the summary.
    pub fn register_metrics(&self, registry: &mut Registry) {
        if let Some(summary) = &self.summary {
            registry.register(
                "kubelet_volume_stats_scrape_errors",
                "Attempts to read the kubelet's /stats/summary that failed, and entries of it that could not be parsed",
                summary.errors.clone(),
            );
        }
    }

    /// Requests what is old.
    pub fn refresh_if_stale(&mut self, now: Instant) {
        self.summary.iter_mut().for_each(|summary| summary.refresh_if_stale(now));
        self.exposed_claims.iter_mut().for_each(|exposed| exposed.refresh_if_stale(now));
    }

    /// Waits for the requests that are under way; whether all of them ended.
    pub fn wait(&mut self, deadline: &Deadline) -> bool {
        let summary = self.summary.as_mut().is_none_or(|summary| summary.wait(deadline));
        let exposed = self.exposed_claims.as_mut().is_none_or(|exposed| exposed.wait(deadline));
        summary && exposed
    }

    /// The same for a collection that began at `start` and has other figures: it waits only where there is no answer that it
    /// could use, and never for a kubelet that is known to hang.
    pub fn wait_for_lacking(&mut self, start: Instant, deadline: &Deadline) -> bool {
        let summary = self.summary.as_mut().is_none_or(|summary| summary.wait_if_lacking(start, deadline));
        let exposed = self.exposed_claims.as_mut();
        exposed.is_none_or(|exposed| exposed.wait_if_lacking(start, deadline)) && summary
    }

    /// The stats that a collection that began at `start` can use.
    pub fn summary(&self, start: Instant) -> Option<Arc<Vec<ReportedVolume>>> {
        self.summary.as_ref()?.fresh_answer(start)
    }

    /// How reading the summary goes, if it is requested.
    pub fn summary_status(&self) -> Option<EndpointStatus> {
        self.summary.as_ref().map(CachedEndpoint::status)
    }

    /// Whether the kubelet's metrics could be read the last time, if they are requested.
    pub fn exposed_claims_success(&self) -> Option<bool> {
        self.exposed_claims.as_ref().map(|exposed| exposed.status().success)
    }

    /// Which claims the kubelet exposes itself, for a collection that began at `start`, if that is requested.
    pub fn exposed_claims(&self, start: Instant) -> Option<ExposedClaims> {
        let endpoint = self.exposed_claims.as_ref()?;
        // Which claims it exposes rarely changes: an old answer is better than every claim twice.
        Some(match endpoint.fresh_answer(start).or_else(|| endpoint.last_answer()) {
            Some(claims) => ExposedClaims::Known(claims),
            None if endpoint.has_outcome() => ExposedClaims::Unavailable,
            None => ExposedClaims::NotYet,
        })
    }
}
