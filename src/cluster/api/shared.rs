//! The state, shared by collections and requests, and what wakes those who wait for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::cache::{Key, Reply};
use super::client::Resource;
use super::failure::Failure;
use super::lookup::Standing;
use super::pace::Next;
use super::pod_index::ApiPod;
use super::pods::Event;
use super::state::State;

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The server answered, if only with no.
    pub(super) reached: bool,
    /// Nothing is held back.
    pub(super) settled: bool,
    /// The pods were answered, or came to nothing.
    pub(super) pods_tried: bool,
    /// The last failure.
    pub(super) failure: Option<Failure>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something may be to be asked now.
    wake: Notify,
    pub(super) progress: watch::Sender<Progress>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        let progress = Progress { pods_tried: state.pods.is_none(), ..Progress::default() };
        Self { state: Mutex::new(state), wake: Notify::new(), progress: watch::Sender::new(progress) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may be to be asked, or is known now.
    pub(super) fn stir(&self, mut state: MutexGuard<'_, State>) {
        let settled = state.is_settled(Instant::now());
        // Under the lock, so that nobody's older finding comes after this one.
        self.progress
            .send_if_modified(|progress| settled != std::mem::replace(&mut progress.settled, settled));
        drop(state);
        self.wake.notify_waiters();
    }

    /// Begins anew, after whoever asked is gone.
    pub(super) fn restart(&self) {
        let mut state = self.lock();
        state.pace.restart();
        state.cache.ask_anew(Instant::now());
        self.stir(state);
    }

    /// Waits for an object to ask about.
    pub(super) async fn next(&self) -> Key {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let next = self.lock().next(Instant::now());
            match next {
                Next::Ask(key) => return key,
                Next::Wait(None) => woken.await,
                Next::Wait(Some(until)) => {
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(until.into()) => {}
                    }
                }
            }
        }
    }

    /// Takes what came of asking.
    pub(super) fn replied(&self, reply: Reply) {
        let failure = reply.failure().cloned();
        let now = Instant::now();
        let mut state = self.lock();
        let State { pace, cache, .. } = &mut *state;
        pace.ended(failure.as_ref(), cache, now);
        let resource = reply.resource();
        state.take(reply, now);
        match &failure {
            Some(failure) => state.report.failed(resource, failure),
            // As long as one object fails, the others' answers are no news.
            None if !state.cache.health(resource).failing => state.report.answered(resource),
            None => {}
        }
        self.stir(state);
        self.tell(failure);
    }

    /// What the pods are, all of them.
    pub(super) fn listed(&self, pods: Vec<ApiPod>, node_name: &str) {
        let none = pods.is_empty();
        let mut state = self.lock();
        let changed = state.pods.as_mut().is_some_and(|index| index.replace(pods));
        if none && state.has_mounts_of_pods() {
            tracing::warn!(node_name, "the cluster has no pod on this node: is --node-name right?");
        }
        self.pods_answered(state, changed);
    }

    /// The watch of the pods has begun, and goes on.
    pub(super) fn watching(&self) {
        self.pods_answered(self.lock(), false);
    }

    /// The watch said something.
    pub(super) fn happened(&self, event: Event) {
        let mut state = self.lock();
        let changed = match (state.pods.as_mut(), event) {
            (Some(pods), Event::Changed(pod)) => pods.put(pod),
            (Some(pods), Event::Gone(uid)) => {
                pods.remove(&uid);
                true
            }
            _ => false,
        };
        self.pods_answered(state, changed);
    }

    fn pods_answered(&self, mut state: MutexGuard<'_, State>, changed: bool) {
        let now = Instant::now();
        state.report.answered(Resource::Pods);
        if let Some(pods) = &mut state.pods {
            (pods.standing, pods.failing, pods.heard) = (Standing::Found, false, Some(now));
        }
        if changed {
            state.changed = true;
            state.want(now);
        }
        self.stir(state);
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.pods_tried, true));
        self.tell(None);
    }

    /// Asking for pods came to nothing.
    pub(super) fn pods_failed(&self, failure: &Failure) {
        let mut state = self.lock();
        state.report.failed(Resource::Pods, failure);
        if let Some(pods) = &mut state.pods {
            pods.failing = true;
            if failure.status() == Some(403) {
                pods.standing = Standing::Forbidden;
            }
        }
        self.stir(state);
        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.pods_tried, true));
        self.tell(Some(failure.clone()));
    }

    fn tell(&self, failure: Option<Failure>) {
        self.progress.send_if_modified(|progress| {
            let reached = failure.as_ref().is_none_or(Failure::is_answer);
            let news = reached && !progress.reached || failure.is_some() && failure != progress.failure;
            progress.reached |= reached;
            if failure.is_some() {
                progress.failure = failure;
            }
            news
        });
    }
}
