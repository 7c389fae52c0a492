//! One lookup: the `PersistentVolume` of a name and the claim that it names.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::{Api, Resource};

use super::Selections;
use super::convert::{self, Version};
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource};
use crate::volume::{Claim, ClaimKey, ClaimRef, PersistentVolume, Pod, is_object_name};

/// What the server said about an object.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Found(Version, T),
    Absent,
    Forbidden(RequestError),
}

/// What came of asking for an object.
pub(super) type Outcome<T> = Result<Answer<T>, RequestError>;

/// What to look up.
pub(super) struct LookupRequest {
    pub(super) name: String,
    /// What is known already: an older answer is not the current one.
    pub(super) known_pv: Option<Version>,
    pub(super) known_claim: Option<(ClaimRef, Option<Version>)>,
    /// The pods that mount it.
    pub(super) pods: BTreeSet<String>,
    /// Those of them that are known and must use the claim: otherwise the answer may be about an earlier volume.
    pub(super) users: Vec<(String, Arc<Pod>)>,
    /// Only the claim is missing.
    pub(super) is_claim_only: bool,
}

/// What came of a lookup.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) name: String,
    pub(super) pods: BTreeSet<String>,
    pub(super) users: Vec<String>,
    /// `None` if it was not asked for.
    pub(super) pv: Option<Outcome<PersistentVolume>>,
    pub(super) claim: Option<(ClaimRef, Outcome<Claim>)>,
}

impl Answers {
    /// Of a lookup that panicked.
    pub(super) fn panicked(name: String) -> Self {
        let pv = Some(Err(RequestError::Panicked));
        Self { name, pods: BTreeSet::new(), users: Vec::new(), pv, claim: None }
    }

    /// What was not answered with an object or its absence.
    pub(super) fn errors(&self) -> impl Iterator<Item = (ApiResource, &RequestError)> {
        let pv = self.pv.as_ref().and_then(error).map(|error| (ApiResource::PersistentVolumes, error));
        let claim = self.claim.as_ref().and_then(|(_, outcome)| error(outcome));
        pv.into_iter().chain(claim.map(|error| (ApiResource::PersistentVolumeClaims, error)))
    }

    /// What was not answered at all.
    pub(super) fn failure(&self) -> Option<&RequestError> {
        self.errors().map(|(_, error)| error).find(|error| !error.is_forbidden())
    }
}

fn error<T>(outcome: &Outcome<T>) -> Option<&RequestError> {
    match outcome {
        Ok(Answer::Found(..) | Answer::Absent) => None,
        Ok(Answer::Forbidden(error)) | Err(error) => Some(error),
    }
}

impl LookupRequest {
    /// Asks for both, one after the other.
    pub(super) async fn run(self, api: ApiClient, selections: Selections) -> Answers {
        let pv = if self.is_claim_only { None } else { Some(self.look_up_pv(&api, &selections).await) };
        let known = || self.known_claim.as_ref().map(|(reference, _)| reference.clone());
        let reference = match &pv {
            Some(Ok(Answer::Found(_, pv))) => pv.claim.clone(),
            Some(Err(_)) => None,
            None | Some(Ok(Answer::Absent | Answer::Forbidden(_))) => known(),
        };
        let claim = match reference {
            Some(reference) => {
                let outcome = self.look_up_claim(&api, &selections, &reference).await;
                Some((reference, outcome))
            }
            None => None,
        };
        let users = self.users.into_iter().map(|(uid, _)| uid).collect();
        Answers { name: self.name, pods: self.pods, users, pv, claim }
    }

    async fn look_up_pv(&self, api: &ApiClient, selections: &Selections) -> Outcome<PersistentVolume> {
        let uses = |claim: &ClaimKey| self.users.iter().all(|(_, pod)| pod.uses(claim) != Some(false));
        let is_current = |pv: &v1::PersistentVolume| {
            let claim = pv.spec.as_ref().and_then(convert::claim_ref);
            is_not_older(pv, self.known_pv.as_ref()) && claim.is_none_or(|claim| uses(&claim.key))
        };
        let pvs = Api::all(api.kube.clone());
        let found = api.look_up(ApiResource::PersistentVolumes, pvs, &self.name, is_current).await;
        answer(found, |pv| convert::persistent_volume(pv, selections))
    }

    async fn look_up_claim(
        &self,
        api: &ApiClient,
        selections: &Selections,
        reference: &ClaimRef,
    ) -> Outcome<Claim> {
        let ClaimKey { namespace, name } = &reference.key;
        if !is_object_name(namespace) || !is_object_name(name) {
            return Ok(Answer::Absent);
        }
        let known = self.known_claim.as_ref().filter(|(known, _)| known == reference);
        let known = known.and_then(|(_, version)| version.as_ref());
        let is_meant = |claim: &v1::PersistentVolumeClaim| reference.may_mean(claim.meta().uid.as_deref());
        let is_current = |claim: &_| is_meant(claim) && is_not_older(claim, known);
        let claims = Api::namespaced(api.kube.clone(), namespace);
        let found = api.look_up(ApiResource::PersistentVolumeClaims, claims, name, is_current).await;
        answer(found.map(|claim| claim.filter(is_meant)), |claim| convert::claim(claim, selections))
    }
}

fn is_not_older(object: &impl Resource, known: Option<&Version>) -> bool {
    known.is_none_or(|known| !Version::of(object.meta()).is_before(known))
}

fn answer<T: Resource, U>(
    found: Result<Option<T>, RequestError>,
    convert: impl FnOnce(T) -> U,
) -> Outcome<U> {
    match found {
        Ok(Some(object)) => Ok(Answer::Found(Version::of(object.meta()), convert(object))),
        Ok(None) => Ok(Answer::Absent),
        Err(error) if error.is_forbidden() => Ok(Answer::Forbidden(error)),
        Err(error) => Err(error),
    }
}
