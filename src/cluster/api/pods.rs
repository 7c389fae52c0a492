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
/// A watch that ends sooner without a word is one that failed.
const TOO_SOON: Duration = Duration::from_secs(5);
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
    /// It was over; whether anything was heard.
    Over { heard: bool },
    /// The server no longer knows what happened since.
    Expired,
}

impl Pods<'_> {
    /// Keeps the pods up to date, for ever.
    pub(super) async fn follow(&self) {
        let mut version: Option<String> = None;
        let mut failures = 0;
        loop {
            let outcome = match &mut version {
                None => self.list().await.map(|listed| {
                    version = Some(listed);
                    None
                }),
                Some(version) => self.watch(version).await.map(Some),
            };
            let failure = match outcome {
                Ok(None) => continue,
                Ok(Some(End::Over { heard: true })) => {
                    failures = 0;
                    continue;
                }
                Ok(Some(End::Over { heard: false })) => Failure::Connect("the watch ended at once".into()),
                Ok(Some(End::Expired)) if failures == 0 => {
                    (version, failures) = (None, 1);
                    continue;
                }
                Ok(Some(End::Expired)) => {
                    version = None;
                    Failure::Connect("the watch expires again and again".into())
                }
                Err(failure) => failure,
            };
            if failure.status() == Some(410) {
                version = None;
            }
            failures += 1;
            self.shared.pods_failed(&failure);
            tokio::time::sleep(pause(&failure, failures)).await;
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

    /// Watches from a version on; it is a later one afterwards.
    async fn watch(&self, version: &mut String) -> Result<End, Failure> {
        let seconds = backoff::between(&self.watch_time);
        let params = WatchParams::default().fields(&self.selector()).timeout(seconds);
        let request = request(|pods| pods.watch(&params, version))?;
        let mut body = match self.client.stream(WATCH, request).await {
            Err(failure) if failure.status() == Some(410) => return Ok(End::Expired),
            opened => opened?,
        };
        let started = Instant::now();
        let most = Duration::from_secs(seconds.into()) + GRACE;
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
        match read.unwrap_or(Err(Failure::Timeout(most))) {
            Ok(End::Over { heard }) => Ok(End::Over { heard: heard || started.elapsed() >= TOO_SOON }),
            Ok(End::Expired) => Ok(End::Expired),
            Err(failure) => {
                self.client.count(WATCH, Some(&failure));
                Err(failure)
            }
        }
    }

    async fn read(&self, body: &mut Body, version: &mut String) -> Result<End, Failure> {
        let mut lines = Lines::default();
        let mut heard = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| client::broken(&error))?;
            for line in lines.push(frame.into_data().unwrap_or_default()) {
                let told = match line.and_then(|line| events::parse(&line)) {
                    Ok(told) => told,
                    // It costs itself: what comes after it is as good as ever.
                    Err(failure @ Failure::Decode(_)) => {
                        self.client.count(WATCH, Some(&failure));
                        tracing::warn!(%failure, "passed over an event of the watch of pods");
                        continue;
                    }
                    Err(failure) => return Err(failure),
                };
                heard = true;
                if let Event::Expired = told.event {
                    return Ok(End::Expired);
                }
                self.shared.happened(told.event);
                if let Some(later) = told.version {
                    *version = later;
                }
            }
        }
        Ok(End::Over { heard })
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

fn pause(failure: &Failure, failures: u32) -> Duration {
    match failure.status() {
        Some(403) => backoff::spread(FORBIDDEN * (1 << (failures - 1).min(FORBIDDEN_LONGEST)), 0.2),
        _ => backoff::after(failures, failure.retry_after()),
    }
}
