//! One lookup: the `PersistentVolume` of a name and the claim that it names.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Api;
use serde::de::DeserializeOwned;

use super::Selections;
use super::convert::{self, Version};
use super::request_error::{RequestError, RequestErrorKind};
use super::requests::{ApiClient, ApiResource, CLAIMS, PVS};
use crate::volume::{Claim, ClaimKey, ClaimRef, PersistentVolume, Pod, is_valid_object_name};

/// What came of asking for an object: its version and contents, or `None` if there is none.
pub(super) type Outcome<T> = Result<Option<(Version, T)>, RequestError>;

/// What to look up.
pub(super) struct LookupRequest {
    pub(super) name: String,
    /// What is known already: an older answer is not the current one.
    pub(super) known_pv: Option<Version>,
    pub(super) known_claim: Option<(ClaimRef, Option<Version>)>,
    /// The uids of the pods that mount it, and the pods. Where one of them uses another claim or is not known, the server's
    /// cache may still have an earlier volume of that name.
    pub(super) pods: BTreeSet<String>,
    pub(super) users: Vec<Option<Arc<Pod>>>,
}

/// What came of a lookup.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) name: String,
    pub(super) pods: BTreeSet<String>,
    pub(super) pv: Outcome<PersistentVolume>,
    pub(super) claim: Option<(ClaimRef, Outcome<Claim>)>,
}

impl Answers {
    /// Of a lookup that panicked.
    pub(super) fn panicked(name: String) -> Self {
        let pv = Err(RequestError::new(RequestErrorKind::Panic, "a fault of this program; the log tells it"));
        Self { name, pods: BTreeSet::new(), pv, claim: None }
    }

    /// What failed, or is forbidden.
    pub(super) fn errors(&self) -> impl Iterator<Item = (ApiResource, &RequestError)> {
        let claim = self.claim.as_ref().and_then(|(_, outcome)| outcome.as_ref().err());
        let pv = self.pv.as_ref().err().map(|error| (PVS, error));
        pv.into_iter().chain(claim.map(|error| (CLAIMS, error)))
    }
}

impl LookupRequest {
    /// Asks for both, one after the other.
    pub(super) async fn run(self, api: ApiClient, selections: Selections) -> Answers {
        let uses = |claim: &ClaimKey| {
            self.users.iter().all(|pod| pod.as_ref().is_some_and(|pod| pod.uses(claim) != Some(false)))
        };
        let is_current = |pv: &v1::PersistentVolume| {
            pv.spec.as_ref().and_then(convert::claim_ref).is_none_or(|claim| uses(&claim.key))
        };
        let pvs = Api::<v1::PersistentVolume>::all(api.kube.clone());
        let pv = look_up(&api, PVS, pvs, &self.name, self.known_pv.as_ref(), is_current).await;
        let pv = pv.map(|pv| pv.map(|(version, pv)| (version, convert::persistent_volume(pv, &selections))));
        let reference = match &pv {
            Ok(Some((_, pv))) => pv.claim.clone(),
            // It is gone or must not be read: what was known of it stays in use.
            Ok(None) => self.known_claim.as_ref().map(|(reference, _)| reference.clone()),
            Err(error) if error.is_forbidden() => {
                self.known_claim.as_ref().map(|(reference, _)| reference.clone())
            }
            Err(_) => None,
        };
        let claim = match reference {
            Some(reference) => {
                let outcome = self.look_up_claim(&api, &selections, &reference).await;
                Some((reference, outcome))
            }
            None => None,
        };
        Answers { name: self.name, pods: self.pods, pv, claim }
    }

    async fn look_up_claim(
        &self,
        api: &ApiClient,
        selections: &Selections,
        reference: &ClaimRef,
    ) -> Outcome<Claim> {
        let ClaimKey { namespace, name } = &reference.key;
        if !is_valid_object_name(namespace) || !is_valid_object_name(name) {
            return Ok(None);
        }
        let known = self.known_claim.as_ref().filter(|(known, _)| known == reference);
        let known = known.and_then(|(_, version)| version.as_ref());
        let is_meant =
            |claim: &v1::PersistentVolumeClaim| reference.matches_uid(claim.metadata.uid.as_deref());
        let claims = Api::<v1::PersistentVolumeClaim>::namespaced(api.kube.clone(), namespace);
        let claim = look_up(api, CLAIMS, claims, name, known, is_meant).await?;
        let meant = claim.filter(|(_, claim)| is_meant(claim));
        Ok(meant.map(|(version, claim)| (version, convert::claim(claim, selections))))
    }
}

/// Looks an object up; one that is older than what is known is not current.
async fn look_up<T>(
    api: &ApiClient,
    resource: ApiResource,
    objects: Api<T>,
    name: &str,
    known: Option<&Version>,
    is_current: impl Fn(&T) -> bool,
) -> Outcome<T>
where
    T: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let is_older = |object: &T| known.is_some_and(|known| Version::of(object.meta()).is_before(known));
    let found =
        api.look_up(resource, objects, name, |object| is_current(object) && !is_older(object)).await?;
    Ok(found.map(|object| (Version::of(object.meta()), object)))
}
