//! The objects of one `PersistentVolume` name as far as they are known, and the requests that bring them up to date.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Api;
use tokio::time::Instant;

use super::convert;
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource, CLAIMS, Outcome, PVS};
use crate::volume::{
    Claim, ClaimKey, ClaimRef, Lookup, PersistentVolume, Pod, Selections, VolumeMount, is_valid_object_name,
};

/// An object, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct CachedObject<T> {
    /// Its last state. Kept when the object is gone, so that labels do not flap.
    contents: Option<Arc<T>>,
    version: Option<u64>,
    /// The last answer that was no object.
    pub(super) missing: Option<Lookup<T>>,
    pub(super) confirmed: Option<Instant>,
    pub(super) is_failing: bool,
}

impl<T: PartialEq> CachedObject<T> {
    const UNKNOWN: Self =
        Self { contents: None, version: None, missing: None, confirmed: None, is_failing: false };

    pub(super) fn lookup(&self) -> Option<Lookup<T>> {
        match (&self.contents, &self.missing) {
            (Some(contents), Some(Lookup::Absent)) => Some(Lookup::Gone(Arc::clone(contents))),
            (Some(contents), _) => Some(Lookup::Found(Arc::clone(contents))),
            (None, Some(Lookup::Forbidden)) => Some(Lookup::Forbidden),
            (None, missing) => missing.as_ref().map(|_| Lookup::Absent),
        }
    }

    /// Whether the last request came to something, if there was any.
    pub(super) fn success(&self) -> Option<bool> {
        let is_tried = self.is_failing || self.contents.is_some() || self.missing.is_some();
        is_tried.then_some(!self.is_failing && !matches!(self.missing, Some(Lookup::Forbidden)))
    }

    /// Records the outcome of a request; returns its error.
    fn record(&mut self, outcome: Outcome<T>) -> Option<RequestError> {
        self.is_failing = false;
        match outcome {
            Ok(Some((version, found))) => {
                let known = self.contents.take().filter(|known| **known == found);
                let contents = Some(known.unwrap_or_else(|| Arc::new(found)));
                *self = Self { contents, version, confirmed: Some(Instant::now()), ..Self::UNKNOWN };
                return None;
            }
            Ok(None) => (self.missing, self.confirmed) = (Some(Lookup::Absent), Some(Instant::now())),
            Err(error) => {
                if error.is_forbidden() {
                    self.missing = Some(Lookup::Forbidden);
                } else {
                    self.is_failing = true;
                }
                return Some(error);
            }
        }
        None
    }
}

/// A `PersistentVolume` and the claim that it names.
#[derive(Debug, Clone)]
pub(super) struct CachedObjects {
    pub(super) pv: CachedObject<PersistentVolume>,
    pub(super) claim: CachedObject<Claim>,
}

impl CachedObjects {
    pub(super) const UNKNOWN: Self = Self { pv: CachedObject::UNKNOWN, claim: CachedObject::UNKNOWN };

    /// The claim that the last known state names.
    pub(super) fn claim_ref(&self) -> Option<&ClaimRef> {
        self.pv.contents.as_ref()?.claim.as_ref()
    }

    /// The claim, as it was last seen.
    pub(super) fn claim_contents(&self) -> Option<&Claim> {
        self.claim.contents.as_deref()
    }

    /// The claim of the last answer, with the uid that it has.
    pub(super) fn current_claim(&self) -> Option<ClaimRef> {
        let claim = self.claim_contents().filter(|_| self.claim.missing.is_none())?;
        Some(ClaimRef { key: self.claim_ref()?.key.clone(), uid: Some(claim.uid.clone()?) })
    }

    /// The uid of the `PersistentVolume`, as it was last seen.
    pub(super) fn pv_uid(&self) -> Option<&String> {
        self.pv.contents.as_ref()?.uid.as_ref()
    }

    /// Whether a mount is certainly not of the volume that is known.
    pub(super) fn contradict(&self, mount: &VolumeMount, pod: Option<&Pod>) -> bool {
        self.pv.contents.as_ref().is_some_and(|pv| pv.contradicts(mount, pod))
    }

    pub(super) fn is_failing(&self) -> bool {
        self.pv.is_failing || self.claim.is_failing
    }

    /// Forgets what is known, but for the last answer: it is of an earlier volume of that name.
    pub(super) fn forget_earlier_volume(&mut self) {
        let missing = self.pv.missing.take();
        *self = Self { pv: CachedObject { missing, ..CachedObject::UNKNOWN }, ..Self::UNKNOWN };
    }

    /// Gets the `PersistentVolume`, then its claim; returns the errors, refusals included. Where it cannot be what is mounted,
    /// the server's cache may still have an earlier volume of that name.
    pub(super) async fn look_up(
        &mut self,
        name: &str,
        may_be_mounted: &(impl Fn(&PersistentVolume) -> bool + Sync),
        api: &ApiClient,
        selections: &Selections,
    ) -> Vec<(ApiResource, RequestError)> {
        let read = |pv: v1::PersistentVolume| convert::persistent_volume(pv, selections);
        let pvs = Api::all(api.kube.clone());
        let outcome = api.look_up(PVS, pvs, name, self.pv.version, read, may_be_mounted).await;
        let claim_before = self.claim_ref().cloned();
        let failure = self.pv.record(outcome);
        let mut failures: Vec<_> = failure.map(|error| (PVS, error)).into_iter().collect();
        let claim_ref = self.claim_ref().cloned();
        if claim_ref != claim_before {
            self.claim = CachedObject::UNKNOWN;
        }
        // Where the volume is gone or forbidden, its last known state stays in use.
        if let Some(reference) = claim_ref.filter(|_| !self.pv.is_failing) {
            let outcome = look_up_claim(api, selections, &reference, self.claim.version).await;
            failures.extend(self.claim.record(outcome).map(|error| (CLAIMS, error)));
        }
        failures
    }
}

async fn look_up_claim(
    api: &ApiClient,
    selections: &Selections,
    reference: &ClaimRef,
    known: Option<u64>,
) -> Outcome<Claim> {
    let ClaimKey { namespace, name } = &reference.key;
    if !is_valid_object_name(namespace) || !is_valid_object_name(name) {
        return Ok(None);
    }
    let is_meant = |claim: &v1::PersistentVolumeClaim| reference.matches_uid(claim.metadata.uid.as_deref());
    let claims = Api::<v1::PersistentVolumeClaim>::namespaced(api.kube.clone(), namespace);
    // Read later, because what is used of a claim has no uid that is too long for one.
    let found = api.look_up(CLAIMS, claims, name, known, std::convert::identity, is_meant).await?;
    let meant = found.filter(|(_, claim)| is_meant(claim));
    Ok(meant.map(|(version, claim)| (version, convert::claim(claim, selections))))
}
