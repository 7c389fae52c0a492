//! The pods of this node: one list, then a watch for as long as it can be had.

pub(super) mod events;
pub(super) mod list;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Request;
use kube::client::Body;
use kube::core::params::{ListParams, WatchParams};

use super::backoff;
use super::client::{self, Client, Question, Resource};
use super::failure::Failure;
use super::shared::Shared;
pub(super) use events::Event;
use events::Lines;

const LIST: Question = Question { resource: Resource::Pods, verb: "list" };
const WATCH: Question = Question { resource: Resource::Pods, verb: "watch" };

/// How long a list may take: it is far larger than an object.
const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// How much longer than it was to last a watch may, before the server counts as gone.
const GRACE: Duration = Duration::from_secs(10);
/// A watch that ends sooner and got no further is one that failed.
const TOO_SOON: Duration = Duration::from_secs(5);
/// After so many failures in a row pods are listed again.
const RELIST: u32 = 4;
/// How soon it is tried again where pods must not be read; doubling, to the longest.
const FORBIDDEN: Duration = Duration::from_mins(1);
const FORBIDDEN_LONGEST: u32 = 4;

/// Whose pods, and for how long they are watched at a time.
pub(super) struct Pods<'a> {
    pub(super) client: &'a Client,
    pub(super) shared: &'a Shared,
    pub(super) node_name: &'a str,
    /// Seconds; Kubernetes' own clients differ too, so that not all watches of a cluster end together.
    pub(super) watch_time: RangeInclusive<u32>,
}

/// How a watch ended.
enum End {
    Over,
    /// The server no longer knows what happened since.
    Expired,
    Failed(Failure),
}

/// What went wrong since a watch was last of use.
#[derive(Debug, Default)]
struct Setbacks {
    /// Failures in a row that were all forbidden, or all not.
    failures: u32,
    forbidden: bool,
    /// A watch expired.
    expired: bool,
}

impl Pods<'_> {
    /// Keeps the pods up to date, for ever.
    pub(super) async fn follow(&self) {
        let mut version: Option<String> = None;
        let mut setbacks = Setbacks::default();
        loop {
            let failure = match &mut version {
                None => match self.list().await {
                    Ok(listed) => {
                        version = Some(listed);
                        continue;
                    }
                    Err(failure) => failure,
                },
                Some(from) => {
                    let (was_of_use, end) = self.watch(from).await;
                    if was_of_use {
                        setbacks = Setbacks::default();
                    }
                    match end {
                        End::Over if was_of_use => continue,
                        End::Over => Failure::Connect("the watch ended at once".into()),
                        End::Expired => {
                            version = None;
                            if !std::mem::replace(&mut setbacks.expired, true) {
                                continue;
                            }
                            Failure::Connect("the watch expires again and again".into())
                        }
                        End::Failed(failure) => failure,
                    }
                }
            };
            self.shared.pods_failed(&failure);
            tokio::time::sleep(setbacks.pause(&failure)).await;
            if setbacks.failures.is_multiple_of(RELIST) || setbacks.forbidden {
                // What cannot be watched can perhaps be listed.
                version = None;
            }
        }
    }

    async fn list(&self) -> Result<String, Failure> {
        let params = ListParams::default().fields(&self.selector()).match_any();
        let request = request(|pods| pods.list(&params))?;
        let body = self.client.stream(LIST, request).await?;
        let read = tokio::time::timeout(LIST_PATIENCE, list::read(body)).await;
        let list = read.unwrap_or(Err(Failure::Timeout(LIST_PATIENCE)));
        let list = list.inspect_err(|failure| self.client.count(LIST, Some(failure)))?;
        tracing::debug!(pods = list.pods.len(), version = list.version, "listed the pods of this node");
        self.shared.listed(list.pods, self.node_name);
        Ok(list.version)
    }

    /// Watches from a version on, which is a later one afterwards. Whether it was of any use, and how it ended.
    async fn watch(&self, version: &mut String) -> (bool, End) {
        let seconds = backoff::between(&self.watch_time);
        let params = WatchParams::default().fields(&self.selector()).timeout(seconds);
        let opened = match request(|pods| pods.watch(&params, version)) {
            Ok(request) => self.client.stream(WATCH, request).await,
            Err(failure) => Err(failure),
        };
        let mut body = match opened {
            Ok(body) => body,
            Err(failure) if failure.status() == Some(410) => return (false, End::Expired),
            Err(failure) => return (false, End::Failed(failure)),
        };
        let started = Instant::now();
        let most = Duration::from_secs(seconds.into()) + GRACE;
        let from = version.clone();
        let read = tokio::time::timeout(most, self.read(&mut body, version));
        // An open watch is no answer yet, but one that stays open is.
        let held = async {
            tokio::time::sleep(TOO_SOON).await;
            self.shared.watching();
            std::future::pending().await
        };
        let read = tokio::select! {
            read = read => read,
            never = held => never,
        };
        let end = read.unwrap_or(Err(Failure::Timeout(most))).unwrap_or_else(End::Failed);
        if let End::Failed(failure) = &end {
            self.client.count(WATCH, Some(failure));
        }
        // One that tells again and again what is known, and ends, must not be asked for on and on.
        let got_further = matches!(end, End::Over) && *version != from;
        (got_further || started.elapsed() >= TOO_SOON, end)
    }

    async fn read(&self, body: &mut Body, version: &mut String) -> Result<End, Failure> {
        let mut lines = Lines::default();
        let mut said = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| client::broken(&error))?;
            for line in lines.push(frame.into_data().unwrap_or_default()) {
                let told = match line.and_then(|line| events::parse(&line)) {
                    Ok(told) => told,
                    // It costs itself: what comes after it is as good as ever.
                    Err(failure @ Failure::Decode(_)) => {
                        self.client.count(WATCH, Some(&failure));
                        // Once: where one makes no sense, all may.
                        if !std::mem::replace(&mut said, true) {
                            tracing::warn!(%failure, "passed over events of the watch of pods");
                        }
                        continue;
                    }
                    Err(failure) => return Err(failure),
                };
                if let Event::Expired = told.event {
                    return Ok(End::Expired);
                }
                self.shared.happened(told.event);
                if let Some(later) = told.version {
                    *version = later;
                }
            }
        }
        Ok(End::Over)
    }

    fn selector(&self) -> String {
        format!("spec.nodeName={}", self.node_name)
    }
}

fn request(
    make: impl FnOnce(&kube::core::Request) -> Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Request<Vec<u8>>, Failure> {
    make(&kube::core::Request::new("/api/v1/pods")).map_err(|error| Failure::Credentials(error.to_string()))
}

impl Setbacks {
    /// How long to wait after one more failure. What is forbidden is asked so much more seldom that an outage before it
    /// must not count.
    fn pause(&mut self, failure: &Failure) -> Duration {
        let forbidden = failure.status() == Some(403);
        let before = std::mem::replace(&mut self.forbidden, forbidden);
        self.failures = if before == forbidden { self.failures.saturating_add(1) } else { 1 };
        if forbidden {
            return backoff::spread(FORBIDDEN * (1 << (self.failures - 1).min(FORBIDDEN_LONGEST)), 0.2);
        }
        backoff::after(self.failures, failure.retry_after())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Failure {
        Failure::Status { code, message: String::new(), retry_after: None }
    }

    #[test]
    fn what_is_forbidden_after_an_outage_is_asked_again_as_if_there_had_been_none() {
        let mut setbacks = Setbacks::default();
        (0..20).for_each(|_| assert!(setbacks.pause(&status(503)) < FORBIDDEN));
        let pauses: Vec<u64> = (0..7).map(|_| setbacks.pause(&status(403)).as_secs()).collect();
        for (pause, minutes) in pauses.iter().zip([1, 2, 4, 8, 16, 16, 16]) {
            assert!((minutes * 48..=minutes * 72).contains(pause), "{pauses:?}");
        }
        assert!(setbacks.pause(&status(503)) < Duration::from_secs(1));
    }
}
