//! One lookup: the `PersistentVolume` of a name and the claim that it names.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kube::Api;

use super::convert::{self, Version};
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource, CLAIMS, Outcome, PVS};
use crate::volume::{Claim, ClaimKey, ClaimRef, PersistentVolume, Pod, Selections, is_valid_object_name};

/// What to look up. An answer that is older than what is known is not the current one.
pub(super) struct LookupRequest {
    pub(super) name: String,
    pub(super) known_pv: Option<Version>,
    pub(super) known_claim: Option<(ClaimRef, Option<Version>)>,
    /// The uids of the pods that mount it, and the pods that were not asked about yet. Where one of them uses another claim
    /// or is not known, the server's cache may still have an earlier volume of that name.
    pub(super) pods: BTreeSet<String>,
    pub(super) users: Vec<Option<Arc<Pod>>>,
}

/// What came of a lookup.
pub(super) struct Answers {
    pub(super) name: String,
    pub(super) pods: BTreeSet<String>,
    pub(super) pv: Outcome<PersistentVolume>,
    pub(super) claim: Option<(ClaimRef, Outcome<Claim>)>,
}

impl Answers {
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
        let pv = api.look_up(PVS, pvs, &self.name, self.known_pv.as_ref(), is_current).await;
        let pv = pv.map(|pv| pv.map(|(version, pv)| (version, convert::persistent_volume(pv, &selections))));
        let known = self.known_claim.as_ref();
        let reference = match &pv {
            Ok(Some((_, pv))) => pv.claim.clone(),
            Err(error) if !error.is_forbidden() => None,
            // It is gone or must not be read: what was known of it stays in use.
            Ok(None) | Err(_) => known.map(|(reference, _)| reference.clone()),
        };
        let mut claim = None;
        if let Some(reference) = reference {
            let known =
                known.filter(|(known, _)| *known == reference).and_then(|(_, version)| version.as_ref());
            let outcome = look_up_claim(&api, &selections, &reference, known).await;
            claim = Some((reference, outcome));
        }
        Answers { name: self.name, pods: self.pods, pv, claim }
    }
}

async fn look_up_claim(
    api: &ApiClient,
    selections: &Selections,
    reference: &ClaimRef,
    known: Option<&Version>,
) -> Outcome<Claim> {
    let ClaimKey { namespace, name } = &reference.key;
    if !is_valid_object_name(namespace) || !is_valid_object_name(name) {
        return Ok(None);
    }
    let is_meant = |claim: &v1::PersistentVolumeClaim| reference.matches_uid(claim.metadata.uid.as_deref());
    let claims = Api::<v1::PersistentVolumeClaim>::namespaced(api.kube.clone(), namespace);
    let meant =
        api.look_up(CLAIMS, claims, name, known, is_meant).await?.filter(|(_, claim)| is_meant(claim));
    Ok(meant.map(|(version, claim)| (version, convert::claim(claim, selections))))
}
