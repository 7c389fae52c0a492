//! How fast lookups are made: first answers soon, everything else slowly, and carefully after a failure. Pure.

use std::time::{Duration, Instant};

use super::backoff;
use super::cache::{Cache, Key};
use super::failure::Failure;

/// Requests at a time.
pub(super) const MOST_AT_A_TIME: usize = 4;
/// The time between two requests about what was answered before.
const BETWEEN_REFRESHES: Duration = Duration::from_millis(500);

/// Where so many objects fail, each as if by itself, the server does.
const MANY_OBJECTS: usize = 10;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask(Key),
    /// Nothing before this time, or before something changes.
    Wait(Option<Instant>),
}

/// What was asked so far, and how it went.
#[derive(Debug, Default)]
pub(super) struct Pace {
    at_a_time: usize,
    /// Failures of the server in a row.
    failures: u32,
    not_before: Option<Instant>,
    refreshed: Option<Instant>,
}

impl Pace {
    /// What to ask now; it counts as being asked from then on.
    pub(super) fn next(&mut self, cache: &mut Cache, now: Instant) -> Next {
        // One request shows whether the server is back.
        let most = if self.failures > 0 { 1 } else { MOST_AT_A_TIME };
        if self.at_a_time >= most {
            return Next::Wait(None);
        }
        if let Some(later) = self.not_before.filter(|later| *later > now) {
            return Next::Wait(Some(later));
        }
        let first = cache.next(true).map(|(due, key)| (due, key.clone()));
        if let Some((_, key)) = first.as_ref().filter(|(due, _)| *due <= now) {
            return self.ask(cache, key.clone());
        }
        let earliest = self.refreshed.map(|refreshed| refreshed + BETWEEN_REFRESHES);
        let again = cache.next(false).map(|(due, key)| (earliest.map_or(due, |e| e.max(due)), key.clone()));
        if let Some((_, key)) = again.as_ref().filter(|(due, _)| *due <= now) {
            self.refreshed = Some(now);
            return self.ask(cache, key.clone());
        }
        Next::Wait([first, again].into_iter().flatten().map(|(due, _)| due).min())
    }

    fn ask(&mut self, cache: &mut Cache, key: Key) -> Next {
        self.at_a_time += 1;
        cache.asking(&key);
        Next::Ask(key)
    }

    /// A request ended, with an answer or a failure.
    pub(super) fn ended(&mut self, failure: Option<&Failure>, cache: &Cache, now: Instant) {
        self.at_a_time = self.at_a_time.saturating_sub(1);
        match failure {
            Some(failure) if failure.is_answer() => {}
            Some(failure) if failure.is_of_one_object() && cache.failing() < MANY_OBJECTS => {}
            Some(failure) => {
                self.failures = self.failures.saturating_add(1);
                let later = now + backoff::after(self.failures, failure.retry_after());
                self.not_before = self.not_before.max(Some(later));
            }
            // An answer that was under way does not end a pause that another one asked for.
            None if self.not_before.is_some_and(|later| later > now) => {}
            None => (self.failures, self.not_before) = (0, None),
        }
    }

    /// Whatever was being asked is not any more.
    pub(super) fn restart(&mut self) {
        self.at_a_time = 0;
    }
}
