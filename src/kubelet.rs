//! The kubelet as a source: its figures of claims' volumes, and which of them it exposes itself.
//!
//! Threads of their own ask, when a collection finds that an answer is old; a collection waits for them no longer than
//! it has time.

mod client;
mod exposed;
mod failure;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod polled;
mod summary;
mod token;
mod trust;

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::Uri;

pub use trust::{BadAuthority, Trust};

use crate::volume::{ClaimKey, ReportedVolume};
use client::{Client, Page};
use polled::{Polled, State};

/// Whom to ask, and for what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://HOST:PORT`, perhaps with a path in front of the kubelet's own.
    pub endpoint: Uri,
    /// How its certificate is checked.
    pub trust: Trust,
    /// The file with the token that is shown.
    pub token: PathBuf,
    /// How long an answer is used.
    pub interval: Duration,
    /// Whether its figures are wanted.
    pub summary: bool,
    /// Whether it matters which claims it exposes itself.
    pub exposed: bool,
}

/// The local kubelet.
pub struct Kubelet {
    summary: Option<Polled<Vec<ReportedVolume>>>,
    exposed: Option<Polled<HashSet<ClaimKey>>>,
}

/// How reading the summary goes.
#[derive(Debug, Clone, Copy)]
pub struct SummaryStatus {
    /// The last attempt succeeded.
    pub success: bool,
    /// Attempts that failed, and entries of answers that could not be understood, since the start.
    pub errors: u64,
    /// When the last good answer came.
    pub answered: Option<SystemTime>,
}

/// Ends waiting for the kubelet, now and ever after.
pub struct Interrupt(Vec<Box<dyn Fn() + Send + Sync>>);

impl Interrupt {
    /// What it has not answered by now is not waited for.
    pub fn end_waiting(&self) {
        for end in &self.0 {
            end();
        }
    }
}

/// The claims that the kubelet exposes itself.
#[derive(Debug, Clone)]
pub enum Exposed {
    /// These.
    Claims(Arc<HashSet<ClaimKey>>),
    /// It was not told yet.
    NotYet,
    /// It cannot be told.
    Unknown,
}

impl Kubelet {
    /// Starts the threads that ask.
    ///
    /// # Errors
    ///
    /// If the system gives none.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let Settings { interval, summary, exposed, .. } = settings;
        let client = Client::new(settings);
        let summary = summary.then(|| {
            let parse = |answer| summary::parse(answer).map_err(|error| error.to_string());
            Polled::start(Page::Summary, client.clone(), interval, parse)
        });
        let exposed = exposed.then(|| Polled::start(Page::Metrics, client, interval, exposed::parse));
        Ok(Self { summary: summary.transpose()?, exposed: exposed.transpose()? })
    }

    /// Asks again where an answer is old. `directories` are the kubelet's own, as they are seen here, if they are.
    pub fn refresh(&mut self, now: Instant, directories: &[PathBuf]) {
        if let Some(summary) = &mut self.summary {
            summary.refresh(now, directories);
        }
        if let Some(exposed) = &mut self.exposed {
            exposed.refresh(now, directories);
        }
    }

    /// Waits for what was asked; whether all of it came to an end by then.
    pub fn wait(&mut self, deadline: Instant) -> bool {
        let summary = self.summary.as_mut().is_none_or(|summary| summary.wait(deadline));
        let exposed = self.exposed.as_mut().is_none_or(|exposed| exposed.wait(deadline));
        summary && exposed
    }

    /// What the kubelet said last, while it is good, for a collection that began then.
    #[must_use]
    pub fn summary(&self, start: Instant) -> Option<Arc<Vec<ReportedVolume>>> {
        match self.summary.as_ref()?.state(start) {
            State::Known(summary) => Some(summary),
            State::Old(_) | State::NotYet | State::Unknown => None,
        }
    }

    /// How asking for that goes, where it is asked for.
    #[must_use]
    pub fn summary_status(&self) -> Option<SummaryStatus> {
        let summary = self.summary.as_ref()?;
        Some(SummaryStatus { success: summary.success(), errors: summary.errors(), answered: summary.came() })
    }

    /// Whether it could be told the last time which claims the kubelet exposes itself; `None` where that does not matter.
    #[must_use]
    pub fn exposed_success(&self) -> Option<bool> {
        self.exposed.as_ref().map(Polled::success)
    }

    /// What ends waiting before its deadline.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        let summary = self.summary.as_ref().map(|summary| Box::new(summary.interrupt()) as Box<_>);
        let exposed = self.exposed.as_ref().map(|exposed| Box::new(exposed.interrupt()) as Box<_>);
        Interrupt(summary.into_iter().chain(exposed).collect())
    }

    /// Which claims it exposes itself, for a collection that began then; `None` where that does not matter.
    #[must_use]
    pub fn exposed(&self, start: Instant) -> Option<Exposed> {
        Some(match self.exposed.as_ref()?.state(start) {
            // Which claims it exposes changes seldom: better than to expose all of them twice while it is asked.
            State::Known(claims) | State::Old(claims) => Exposed::Claims(claims),
            State::NotYet => Exposed::NotYet,
            State::Unknown => Exposed::Unknown,
        })
    }
}
