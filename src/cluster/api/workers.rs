//! Asks about `PersistentVolume`s and claims, one after the other, as often as the state says.

use std::time::Duration;

use kube::core::params::GetParams;
use serde::de::DeserializeOwned;

use super::cache::{Key, Reply};
use super::client::{Client, Question, Resource};
use super::failure::Failure;
use super::lookup::{Answer, Version};
use super::shared::Shared;
use crate::cluster::Selections;
use crate::cluster::schema::{Identity, PersistentVolume, PersistentVolumeClaim};

/// How long lookups wait for the pods, which tell whose names need none.
const PODS_FIRST: Duration = Duration::from_secs(1);

/// Who asks.
pub(super) struct Workers<'a> {
    pub(super) client: &'a Client,
    pub(super) shared: &'a Shared,
    pub(super) selections: &'a Selections,
}

impl Workers<'_> {
    /// Asks for ever, as many at a time as may be.
    pub(super) async fn work(&self) {
        let mut progress = self.shared.progress.subscribe();
        let _ = tokio::time::timeout(PODS_FIRST, progress.wait_for(|progress| progress.pods_tried)).await;
        tokio::join!(self.ask_on(), self.ask_on(), self.ask_on(), self.ask_on());
    }

    async fn ask_on(&self) {
        loop {
            let key = self.shared.next().await;
            let reply = self.ask(key).await;
            self.shared.replied(reply);
        }
    }

    async fn ask(&self, key: Key) -> Reply {
        match key {
            Key::PersistentVolume(name) => {
                let path = "/api/v1/persistentvolumes";
                let found = self.look_up(Resource::PersistentVolumes, path, &name, |_| true);
                let answer = answer(found.await, |pv: PersistentVolume| {
                    (pv.version(), pv.into_domain(self.selections).1)
                });
                Reply::PersistentVolume(name, answer)
            }
            Key::Claim(reference) => {
                let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims", reference.key.namespace);
                let is_it =
                    |claim: &PersistentVolumeClaim| reference.matches_uid(claim.version().uid.as_deref());
                let found = self.look_up(Resource::PersistentVolumeClaims, &path, &reference.key.name, is_it);
                let answer = answer(found.await, |claim: PersistentVolumeClaim| {
                    (claim.version(), claim.into_domain(self.selections).1)
                });
                Reply::Claim(reference, answer)
            }
        }
    }

    /// The one object of this name that is meant, or that there is none: what the server's cache does not have, or has
    /// an earlier one of that name instead of, its store may have.
    async fn look_up<T: DeserializeOwned + Identity>(
        &self,
        resource: Resource,
        path: &str,
        name: &str,
        is_it: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Failure> {
        for params in [GetParams::any(), GetParams::default()] {
            let request = kube::core::Request::new(path).get(name, &params);
            let request = request.map_err(Failure::decode)?;
            match self.client.get::<T>(Question { resource, verb: "get" }, request).await {
                Ok(object) if object.name() != name => {
                    return Err(Failure::decode(format_args!("it is of {:?}, not {name:?}", object.name())));
                }
                Ok(object) if is_it(&object) => return Ok(Some(object)),
                Ok(_) => {}
                Err(failure) if failure.status() == Some(404) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }
}

fn answer<T, U>(found: Result<Option<T>, Failure>, used: impl FnOnce(T) -> (Version, U)) -> Answer<U> {
    match found {
        Ok(Some(object)) => {
            let (version, used) = used(object);
            Answer::Found(version, used)
        }
        Ok(None) => Answer::Absent,
        Err(failure) if failure.is_answer() => Answer::Forbidden(failure),
        Err(failure) => Answer::Failed(failure),
    }
}
