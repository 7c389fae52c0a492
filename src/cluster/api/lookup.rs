//! What is known of one object that is asked about: its last contents, how it stands, and when to ask again. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff;
use super::failure::Failure;

/// How soon an object that was not found, or must not be read, is asked about again; doubling.
const AGAIN: Duration = Duration::from_mins(1);
/// Refreshes come at most so much earlier or later, so that those of one start do not stay together.
const SPREAD: f64 = 0.2;

/// Which of an object's lives and changes a content is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cluster) struct Version {
    pub(in crate::cluster) uid: Option<String>,
    /// Kubernetes' resource versions are numbers; larger is later.
    pub(in crate::cluster) number: Option<u64>,
}

impl Version {
    /// Whether this is an earlier state of that same object: a server that lags behind told it.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.uid.is_some() && self.uid == other.uid && self.number < other.number
    }
}

/// What the server said about an object.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Found(Version, T),
    /// The cache and the store of the server both have none.
    Absent,
    /// It must not be read.
    Forbidden(Failure),
    /// Nothing that is an answer.
    Failed(Failure),
}

impl<T> Answer<T> {
    /// Why nothing is known by it.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Found(..) | Self::Absent => None,
            Self::Forbidden(failure) | Self::Failed(failure) => Some(failure),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Never answered.
    Unknown,
    Found,
    Absent,
    Forbidden,
}

#[derive(Debug)]
pub(super) struct Lookup<T> {
    /// The last contents: kept whatever comes later, for labels must not flap.
    pub(super) contents: Option<(Version, Arc<T>)>,
    /// When the server confirmed them last.
    pub(super) confirmed: Option<Instant>,
    pub(super) standing: Standing,
    /// Whether the last request came to nothing.
    pub(super) failing: bool,
    /// Failures, or answers that there is nothing, in a row.
    in_a_row: u32,
    /// When to ask; `None` while it is being asked.
    pub(super) due: Option<Instant>,
}

impl<T: PartialEq> Lookup<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            contents: None,
            confirmed: None,
            standing: Standing::Unknown,
            failing: false,
            in_a_row: 0,
            due: Some(now),
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.standing != Standing::Unknown
    }

    /// Takes an answer; whether anything that is shown changed.
    pub(super) fn take(&mut self, answer: Answer<T>, now: Instant, refresh: Duration) -> bool {
        let standing = match answer {
            Answer::Failed(failure) => {
                self.fail(&failure, now);
                return false;
            }
            Answer::Found(version, contents) => {
                let changed = self.update(version, contents);
                self.confirmed = Some(now);
                self.stand(Standing::Found, now + backoff::spread(refresh, SPREAD));
                return changed;
            }
            Answer::Absent => Standing::Absent,
            Answer::Forbidden(_) => Standing::Forbidden,
        };
        let before = self.standing;
        let in_a_row = if before == standing { self.in_a_row } else { 0 };
        let wait =
            AGAIN.saturating_mul(1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX)).min(refresh.max(AGAIN));
        self.stand(standing, now + backoff::spread(wait, SPREAD));
        self.in_a_row = in_a_row.saturating_add(1);
        before != standing
    }

    fn stand(&mut self, standing: Standing, due: Instant) {
        (self.standing, self.failing, self.in_a_row, self.due) = (standing, false, 0, Some(due));
    }

    fn fail(&mut self, failure: &Failure, now: Instant) {
        self.in_a_row = if self.failing { self.in_a_row.saturating_add(1) } else { 1 };
        self.failing = true;
        self.due = Some(now + backoff::after(self.in_a_row, failure.retry_after()));
    }

    /// Takes contents that are not older than what is known; whether they are others.
    fn update(&mut self, version: Version, contents: T) -> bool {
        match &mut self.contents {
            Some((known, _)) if version.is_before(known) => false,
            Some((known, before)) if **before == contents => {
                *known = version;
                self.standing != Standing::Found
            }
            known => {
                *known = Some((version, Arc::new(contents)));
                true
            }
        }
    }
}
