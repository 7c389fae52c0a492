//! The cache entry of one `PersistentVolume` name: its objects, the pods that mount it, and when it is due again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::convert;
use super::pod_index::PodIndex;
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource, CLAIMS, Outcome, PVS};
use super::slim_object::{SlimClaim, SlimPv};
use crate::runtime::backoff::{Backoff, jittered};
use crate::volume::{
    Claim, ClaimKey, ClaimRef, Lookup, MountedVolume, PersistentVolume, Selections, VolumeMetadata,
    VolumeMount, is_valid_object_name,
};

/// The pause before an absent or forbidden object is looked up again; it doubles each time.
const ABSENT_PAUSE: Duration = Duration::from_mins(1);
/// The time between refreshes of a claim whose volume is still to be enlarged.
const RESIZE_REFRESH: Duration = Duration::from_mins(5);
/// The longest backoff of an object that fails while others are answered.
const MAX_OBJECT_BACKOFF_WINDOW: Duration = Duration::from_mins(10);
/// How long a lookup waits for the pods, which tell whether there is anything to look up.
const POD_WAIT: Duration = Duration::from_secs(1);
/// How long answers are kept after the last mount is gone.
const RETENTION: Duration = Duration::from_mins(10);

/// An object, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct CachedObject<T> {
    /// Its last state. Kept when the object is gone, so that labels do not flap.
    contents: Option<Arc<T>>,
    version: Option<u64>,
    /// The last answer that was no object.
    missing: Option<Lookup<T>>,
    pub(super) confirmed: Option<Instant>,
    pub(super) is_failing: bool,
}

impl<T: Clone + Default + PartialEq> CachedObject<T> {
    fn lookup(&self) -> Option<Lookup<T>> {
        let Some(contents) = self.contents.clone() else { return self.missing.clone() };
        let is_gone = matches!(self.missing, Some(Lookup::Absent));
        Some(if is_gone { Lookup::Gone(contents) } else { Lookup::Found(contents) })
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
                *self = Self { contents, version, confirmed: Some(Instant::now()), ..Self::default() };
                return None;
            }
            Ok(None) => (self.missing, self.confirmed) = (Some(Lookup::Absent), Some(Instant::now())),
            Err(ref error) if error.is_forbidden() => self.missing = Some(Lookup::Forbidden),
            Err(_) => self.is_failing = true,
        }
        outcome.err()
    }
}

/// A name that is mounted here, or was a short time ago.
#[derive(Debug)]
pub(super) struct CachedVolume {
    pub(super) pv: CachedObject<PersistentVolume>,
    /// The claim that the last known state of the `PersistentVolume` names.
    pub(super) claim: CachedObject<Claim>,
    /// Its mounts; none once it is unmounted.
    mounts: Vec<Arc<VolumeMount>>,
    /// Of which volume the mounts of their pods are, as far as that is answered.
    pods: Arc<BTreeMap<String, MountedVolume>>,
    pub(super) backoff: Backoff,
    /// Of answers that an object is absent or forbidden.
    absences: Backoff,
    awaits_pods: bool,
    pub(super) due: Instant,
    /// From when on it is looked up at once if its size changes.
    heeds_resize_from: Instant,
    /// A lookup is in flight.
    pub(super) is_looked_up: bool,
}

/// The outcome of a lookup, and the pods that mounted the volume when it began.
pub(super) struct Answers {
    pods: BTreeSet<String>,
    pv: Outcome<PersistentVolume>,
    claim: Option<Outcome<Claim>>,
}

impl CachedVolume {
    pub(super) fn new(now: Instant, label_refresh: Duration) -> Self {
        Self {
            pv: CachedObject::default(),
            claim: CachedObject::default(),
            mounts: Vec::new(),
            pods: Arc::default(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_OBJECT_BACKOFF_WINDOW),
            absences: Backoff::new(ABSENT_PAUSE, label_refresh.max(ABSENT_PAUSE)),
            awaits_pods: false,
            due: now,
            heeds_resize_from: now,
            is_looked_up: false,
        }
    }

    pub(super) fn is_mounted(&self) -> bool {
        !self.mounts.is_empty()
    }

    /// Whether something about its mounts was never answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.has_unanswered_pods() || !self.metadata().is_some_and(|volume| volume.is_answered())
    }

    /// Whether its last lookup failed.
    pub(super) fn is_failing(&self) -> bool {
        self.pv.is_failing || self.claim.is_failing
    }

    fn claim_ref(&self) -> Option<&ClaimRef> {
        self.pv.contents.as_ref()?.claim.as_ref()
    }

    /// The claim of the last answer, with the uid that it has.
    pub(super) fn current_claim(&self) -> Option<ClaimRef> {
        let claim = self.claim.contents.as_ref().filter(|_| self.claim.missing.is_none())?;
        Some(ClaimRef { key: self.claim_ref()?.key.clone(), uid: Some(claim.uid.clone()?) })
    }

    fn has_unanswered_pods(&self) -> bool {
        self.mounts.iter().any(|mount| !self.pods.contains_key(pod_uid(mount)))
    }

    fn has_current_pods(&self) -> bool {
        self.pods.values().any(|volume| *volume == MountedVolume::Current)
    }

    /// Sets what is mounted now. Answers also hold for a pod that shares the volume with one for which they hold. A volume that
    /// is mounted again may be another one with the same name: it is looked up at once.
    pub(super) fn set_mounts(&mut self, mounts: Vec<Arc<VolumeMount>>, index: &PodIndex, now: Instant) {
        if mounts.is_empty() && self.is_mounted() {
            self.due = now + RETENTION;
        }
        let (before, uids) = (pod_uids(&self.mounts), pod_uids(&mounts));
        self.mounts = mounts;
        Arc::make_mut(&mut self.pods).retain(|uid, _| uids.contains(uid));
        if self.has_current_pods() {
            // Whether a pod may use the known claim, and none of its mounts contradicts the known volume.
            let may_share = |uid: &String| {
                let pv = self.pv.contents.as_ref();
                let mut mounts = self.mounts.iter().filter(|mount| pod_uid(mount) == uid);
                let pod = index.get(uid).map(|pod| &**pod);
                pod.is_some() && pv.is_none_or(|pv| mounts.all(|mount| pv.may_be_of(mount, pod)))
            };
            let sharing: Vec<_> = uids.iter().filter(|uid| may_share(uid)).cloned().collect();
            self.add_current(sharing);
        }
        let is_pod_known = |uid: &String| uid.is_empty() || index.get(uid).is_some();
        let is_known = !index.is_awaited || uids.iter().all(is_pod_known);
        if !uids.is_subset(&before) && self.is_unanswered() {
            self.awaits_pods = !is_known;
            self.due = if is_known { now } else { now + POD_WAIT };
        } else if is_known && std::mem::take(&mut self.awaits_pods) {
            self.due = now;
        }
    }

    /// Its size has changed: its claim may ask for more. Some file systems, as shares of a pool, have another size at each
    /// scrape: where a lookup tells nothing new, later changes are heeded only after a refresh's time.
    pub(super) fn refresh_resized(&mut self, label_refresh: Duration, now: Instant) {
        if self.is_mounted() && !self.is_looked_up && now >= self.heeds_resize_from {
            self.due = self.due.min(now);
            self.heeds_resize_from = now + label_refresh;
        }
    }

    /// Looks its objects up; the answers are for [`Self::record`].
    pub(super) fn look_up(
        &mut self,
        name: String,
        index: &PodIndex,
        api: ApiClient,
        selections: Selections,
    ) -> impl Future<Output = Answers> + Send + use<> {
        (self.awaits_pods, self.is_looked_up) = (false, true);
        // Pods that were asked about before cannot tell anything new.
        let users = self.mounts.iter().filter(|mount| !self.pods.contains_key(pod_uid(mount)));
        let users: Vec<_> =
            users.map(|mount| (Arc::clone(mount), index.get(pod_uid(mount)).cloned())).collect();
        let is_awaited = index.is_awaited;
        let may_be_mounted = move |pv: &PersistentVolume| {
            users.iter().all(|(mount, pod)| {
                let is_awaited = is_awaited && pod.is_none() && mount.pod_uid.is_some();
                (pv.claim.is_none() || !is_awaited) && pv.may_be_of(mount, pod.as_deref())
            })
        };
        let pods = pod_uids(&self.mounts);
        let (pv_version, claim_version) = (self.pv.version, self.claim.version);
        let claim_before = self.claim_ref().cloned();
        async move {
            let read = |pv: SlimPv| convert::persistent_volume(pv, &selections);
            // Where it cannot be what is mounted, the server's cache may still have an earlier volume of that name.
            let pv =
                api.look_up(PVS, "/api/v1/persistentvolumes", &name, pv_version, read, may_be_mounted).await;
            let claim_ref = match &pv {
                Ok(Some((_, pv))) => pv.claim.as_ref(),
                // Where the volume is gone or forbidden, its last known state stays in use.
                Ok(None) => claim_before.as_ref(),
                Err(error) => claim_before.as_ref().filter(|_| error.is_forbidden()),
            };
            let known = claim_version.filter(|_| claim_ref == claim_before.as_ref());
            let claim = match claim_ref {
                Some(reference) => Some(look_up_claim(&api, &selections, reference, known).await),
                None => None,
            };
            Answers { pods, pv, claim }
        }
    }

    /// Records the outcome of a lookup; returns its errors, refusals included.
    pub(super) fn record(&mut self, answers: Answers, index: &PodIndex) -> Vec<(ApiResource, RequestError)> {
        let pv_uid = |volume: &Self| volume.pv.contents.as_ref()?.uid.clone();
        let requested = |volume: &Self| volume.claim.contents.as_ref()?.requested_bytes;
        let (claim_before, uid_before, requested_before) =
            (self.claim_ref().cloned(), pv_uid(self), requested(self));
        let mut failures = Vec::new();
        failures.extend(self.pv.record(answers.pv).map(|error| (PVS, error)));
        if self.claim_ref() != claim_before.as_ref() {
            self.claim = CachedObject::default();
        }
        let claim_failure = answers.claim.and_then(|outcome| self.claim.record(outcome));
        failures.extend(claim_failure.map(|error| (CLAIMS, error)));
        if self.pv.is_failing {
            return failures;
        }
        if self.pv.missing.is_some() && !self.is_about_mounts(index) {
            // The cached objects are of an earlier volume of that name.
            self.pv = CachedObject { missing: self.pv.missing.take(), ..CachedObject::default() };
            self.claim = CachedObject::default();
        }
        if uid_before.zip(pv_uid(self)).is_some_and(|(before, now)| before != now) {
            self.set_earlier(index);
        }
        if requested_before != requested(self) {
            self.heeds_resize_from = Instant::now();
        }
        let mounting = pod_uids(&self.mounts);
        self.add_current(answers.pods.intersection(&mounting).cloned());
        failures
    }

    /// The answers hold for these pods, unless they have an earlier volume.
    fn add_current(&mut self, uids: impl IntoIterator<Item = String>) {
        let pods = Arc::make_mut(&mut self.pods);
        uids.into_iter().for_each(|uid| _ = pods.entry(uid).or_insert(MountedVolume::Current));
    }

    /// Another volume has the name now: pods that had the one before, and do not use the claim of the new one, still have that.
    /// Where a pod is not known, it tells that another one has mounted the name since.
    fn set_earlier(&mut self, index: &PodIndex) {
        let claim = self.claim_ref().map(|claim| claim.key.clone());
        let has_new = self.has_unanswered_pods();
        for (uid, volume) in Arc::make_mut(&mut self.pods) {
            let uses_no = match index.get(uid) {
                Some(pod) => claim.as_ref().is_none_or(|claim| pod.uses(claim) == Some(false)),
                None => has_new,
            };
            if uses_no {
                *volume = MountedVolume::Earlier;
            }
        }
    }

    /// Whether the cached objects are of the volume that is mounted now.
    fn is_about_mounts(&self, index: &PodIndex) -> bool {
        let uses = |mount: &VolumeMount| index.get(pod_uid(mount))?.uses(&self.claim_ref()?.key);
        self.has_current_pods() || self.mounts.iter().any(|mount| uses(mount) == Some(true))
    }

    /// The pause after an answer.
    pub(super) fn next_pause(&mut self, label_refresh: Duration) -> Duration {
        if self.has_unanswered_pods() {
            return Duration::ZERO;
        }
        self.backoff.reset();
        if self.pv.missing.is_some() || self.claim.missing.is_some() {
            return jittered(self.absences.next_window());
        }
        self.absences.reset();
        let is_resizing = self.claim.contents.as_deref().is_some_and(Claim::is_resizing);
        jittered(if is_resizing { label_refresh.min(RESIZE_REFRESH) } else { label_refresh })
    }

    /// What is published.
    pub(super) fn metadata(&self) -> Option<VolumeMetadata> {
        let pods = Some(Arc::clone(&self.pods));
        Some(VolumeMetadata { pv: self.pv.lookup()?, claim: self.claim.lookup(), pods })
    }
}

/// A mount's pod, or `""` for none.
fn pod_uid(mount: &VolumeMount) -> &str {
    mount.pod_uid.as_deref().unwrap_or_default()
}

fn pod_uids(mounts: &[Arc<VolumeMount>]) -> BTreeSet<String> {
    mounts.iter().map(|mount| pod_uid(mount).to_owned()).collect()
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
    let is_meant = |claim: &SlimClaim| reference.matches_uid(claim.metadata.uid.as_deref());
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
    // Read later, because what is used of a claim has no uid that is too long for one.
    let found = api.look_up(CLAIMS, &path, name, known, std::convert::identity, is_meant).await?;
    let meant = found.filter(|(_, claim)| is_meant(claim));
    Ok(meant.map(|(version, claim)| (version, convert::claim(claim, selections))))
}
