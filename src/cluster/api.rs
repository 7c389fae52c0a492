//! Objects from the API server: those of the volumes on this node, and nothing else.
//!
//! A thread of its own asks, in its own time; a collection takes what is known by then, and never waits.

mod access;
mod backoff;
mod cache;
mod client;
mod counts;
mod failure;
#[cfg(fuzzing)]
pub(in crate::cluster) mod fuzzing;
mod lookup;
mod pace;
mod pod_index;
mod pods;
mod report;
mod shared;
mod state;
mod workers;

use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use access::{Access, AccessError};
pub(in crate::cluster) use lookup::Version;

use super::Selections;
use crate::volume::{Metadata, VolumeMount};
use cache::Cache;
use client::Client;
use pod_index::PodIndex;
use pods::Pods;
use shared::Shared;
use state::State;
use workers::Workers;

/// How long pods are watched at a time, in seconds.
pub const WATCH_TIME: RangeInclusive<u32> = 240..=290;
/// The pause after a fault of this program.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Whom to ask, and for what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The API server, and who asks.
    pub access: Access,
    /// Whose pods; `None` where it is not known.
    pub node_name: Option<String>,
    /// How old what is known of an object may get.
    pub label_refresh: Duration,
    /// How long pods are watched at a time, in seconds; as a rule [`WATCH_TIME`].
    pub watch_time: RangeInclusive<u32>,
    /// Which labels are used.
    pub selections: Selections,
}

/// The cluster's objects, kept up to date.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    client: Arc<Client>,
}

/// How it goes, for metrics about it.
#[derive(Debug, Default)]
pub struct Status {
    /// Resources that were asked for, and whether they could be had the last time.
    pub success: Vec<(&'static str, bool)>,
    /// The age of the oldest of what is in use.
    pub age: Option<Duration>,
    /// Requests since the start: resource, verb, what came of them, how many.
    pub requests: Vec<(&'static str, &'static str, String, u64)>,
}

impl Api {
    /// Starts the thread that asks.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let Settings { access, node_name, label_refresh, watch_time, selections } = settings;
        let state = State::new(Cache::new(label_refresh), node_name.is_some().then(PodIndex::default));
        let shared = Arc::new(Shared::new(state));
        let client = Arc::new(Client::new(access));
        let this = Self { shared: Arc::clone(&shared), client: Arc::clone(&client) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("kubernetes".into()).spawn(move || {
            let workers = Workers { client: &client, shared: &shared, selections: &selections };
            let pods = async || {
                if let Some(node_name) = node_name.as_deref() {
                    let watch_time = watch_time.clone();
                    Pods { client: &client, shared: &shared, node_name, watch_time }.follow().await;
                }
            };
            let work = async || tokio::join!(workers.work(), pods());
            // A panic was logged and counted; what is known stays in use meanwhile.
            while catch_unwind(AssertUnwindSafe(|| runtime.block_on(work()))).is_err() {
                std::thread::sleep(AFTER_PANIC);
                shared.restart();
            }
        })?;
        Ok(this)
    }

    /// What is known about these mounts now. What is not is asked for.
    #[must_use]
    pub fn metadata(&self, mounts: &[Arc<VolumeMount>]) -> Arc<Metadata> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        // The first mounts may be none: that is settled at once.
        if state.see(mounts, now) || !self.shared.progress.borrow().settled {
            self.shared.stir(state);
            state = self.shared.lock();
        }
        state.metadata(now)
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> Status {
        let (success, age) = {
            let state = self.shared.lock();
            (state.success(), state.age(Instant::now()))
        };
        let requests = self.client.counts();
        let requests = requests.iter().map(|(question, code, count)| {
            (question.resource.as_str(), question.verb, code.to_owned(), count)
        });
        Status {
            success: success.into_iter().map(|(resource, success)| (resource.as_str(), success)).collect(),
            age,
            requests: requests.collect(),
        }
    }

    /// Waits until no volume of the last mounts is held back for an answer, at most as long as any may be.
    pub async fn settled(&self) {
        let mut progress = self.shared.progress.subscribe();
        let settled = progress.wait_for(|progress| progress.settled);
        let _ = tokio::time::timeout(state::HOLD_BACK, settled).await;
    }

    /// Waits until the server answered something, if only with no.
    ///
    /// # Errors
    ///
    /// If it did not in this time: the last failure, where anything was asked.
    pub async fn reached(&self, within: Duration) -> Result<(), Option<String>> {
        let mut progress = self.shared.progress.subscribe();
        match tokio::time::timeout(within, progress.wait_for(|progress| progress.reached)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.shared.progress.borrow().failure.as_ref().map(ToString::to_string)),
        }
    }
}

impl Access {
    /// Whether there is anything that could be used.
    ///
    /// # Errors
    ///
    /// If there is not.
    pub fn check(&self) -> Result<(), AccessError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.map_err(AccessError::System)?.block_on(self.load()).map(drop)
    }
}
