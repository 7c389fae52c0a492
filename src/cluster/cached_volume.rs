//! What is known of one `PersistentVolume` name: its objects, the pods that they are about, and when to ask again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task;
use tokio::time::Instant;
use tokio_util::time::delay_queue;

use super::backoff::{self, Backoff};
use super::convert::Version;
use super::lookup::{Answer, Answers, LookupRequest, Outcome};
use super::pod_index::PodIndex;
use super::request_error::RequestError;
use crate::volume::{Claim, ClaimRef, Lookup, PersistentVolume, VolumeMetadata};

/// How soon an object that is absent or forbidden is asked for again; doubling.
const ABSENT_PAUSE: Duration = Duration::from_mins(1);
/// The longest window before an object is tried again that fails while others are answered.
const MAX_OBJECT_BACKOFF_WINDOW: Duration = Duration::from_mins(10);
/// How long a lookup waits for the pods, which tell whether there is anything to look up.
const POD_WAIT: Duration = Duration::from_secs(1);
/// How long answers are kept after the last mount is gone.
const RETENTION: Duration = Duration::from_mins(10);

/// An object, as far as it is known.
#[derive(Debug)]
pub(super) struct CachedObject<T> {
    /// Its last state. Kept when the object is gone, so that labels do not flap.
    contents: Option<(Version, Arc<T>)>,
    /// The last answer without its object.
    answer: Option<Lookup<()>>,
    confirmed: Option<Instant>,
    is_failing: bool,
}

impl<T> Default for CachedObject<T> {
    fn default() -> Self {
        Self { contents: None, answer: None, confirmed: None, is_failing: false }
    }
}

impl<T: PartialEq> CachedObject<T> {
    pub(super) fn lookup(&self) -> Option<Lookup<T>> {
        if let Some((_, contents)) = &self.contents {
            return Some(Lookup::Found(Arc::clone(contents)));
        }
        match self.answer.as_ref()? {
            Lookup::Found(_) => None,
            Lookup::Absent => Some(Lookup::Absent),
            Lookup::Forbidden => Some(Lookup::Forbidden),
        }
    }

    fn version(&self) -> Option<&Version> {
        self.contents.as_ref().map(|(version, _)| version)
    }

    /// Whether the last request was answered, and not with no.
    pub(super) fn is_good(&self) -> bool {
        !self.is_failing && self.answer != Some(Lookup::Forbidden)
    }

    pub(super) fn is_tried(&self) -> bool {
        self.answer.is_some() || self.is_failing
    }

    /// Takes what came of asking; whether anything that is shown changed.
    fn take(&mut self, outcome: Outcome<T>, now: Instant) -> bool {
        self.is_failing = outcome.is_err();
        let Ok(answer) = outcome else { return false };
        let is_known = self.contents.is_some();
        let (answer, changed) = match answer {
            Answer::Found(version, found) => {
                self.confirmed = Some(now);
                let before = self.contents.take().map(|(_, contents)| contents);
                let is_same = before.as_ref().is_some_and(|contents| **contents == found);
                let contents = before.filter(|_| is_same).unwrap_or_else(|| Arc::new(found));
                self.contents = Some((version, contents));
                (Lookup::Found(Arc::default()), !is_same)
            }
            Answer::Absent => (Lookup::Absent, !is_known && self.answer != Some(Lookup::Absent)),
            Answer::Forbidden(_) => (Lookup::Forbidden, !is_known && self.answer != Some(Lookup::Forbidden)),
        };
        self.answer = Some(answer);
        changed
    }
}

/// A name that is mounted here, or was a short time ago.
#[derive(Debug)]
pub(super) struct CachedVolume {
    pub(super) pv: CachedObject<PersistentVolume>,
    claim: Option<(ClaimRef, CachedObject<Claim>)>,
    /// The pods that mount it; none once it is unmounted.
    pods: BTreeSet<String>,
    /// Those of them for which the answers hold.
    confirmed: Arc<BTreeSet<String>>,
    /// Those that use another claim, as far as can be told, though the server was asked about that.
    accepted: BTreeSet<String>,
    backoff: Backoff,
    /// How often in a row something was absent or forbidden.
    absences: u32,
    /// Asked about once the pods are known.
    awaits_pods: bool,
    pub(super) due: Instant,
    pub(super) key: Option<delay_queue::Key>,
    /// Its refresh has a time of its own among those of others.
    pub(super) has_slot: bool,
    pub(super) task: Option<task::Id>,
}

impl CachedVolume {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pv: CachedObject::default(),
            claim: None,
            pods: BTreeSet::new(),
            confirmed: Arc::default(),
            accepted: BTreeSet::new(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_OBJECT_BACKOFF_WINDOW),
            absences: 0,
            awaits_pods: false,
            due: now,
            key: None,
            has_slot: false,
            task: None,
        }
    }

    /// The claim that the `PersistentVolume` names, as far as it is known.
    pub(super) fn claim(&self) -> Option<&CachedObject<Claim>> {
        self.claim.as_ref().map(|(_, claim)| claim)
    }

    pub(super) fn is_mounted(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Whether something about its mounts was never answered.
    pub(super) fn is_unanswered(&self) -> bool {
        let is_claim_missing = self.claim().is_some_and(|claim| claim.lookup().is_none());
        self.pv.answer.is_none() || is_claim_missing || !self.pods.is_subset(&self.confirmed)
    }

    /// Takes the pods that mount it now, and asks at once if that is another volume than before, as far as can be told;
    /// whether what is shown changed.
    pub(super) fn set_pods(
        &mut self,
        pods: BTreeSet<String>,
        index: Option<&PodIndex>,
        now: Instant,
    ) -> bool {
        if pods.is_empty() && self.is_mounted() {
            self.due = now + RETENTION;
        }
        let is_kept = pods.iter().any(|uid| self.confirmed.contains(uid));
        let confirmed: BTreeSet<String> = pods
            .iter()
            .filter(|uid| (is_kept || self.confirmed.contains(*uid)) && !self.is_disputed(uid, index))
            .cloned()
            .collect();
        let is_disputed_now = pods.iter().any(|uid| self.confirmed.contains(uid) && !confirmed.contains(uid));
        let is_new = !pods.is_subset(&self.pods);
        self.pods = pods;
        self.accepted.retain(|uid| self.pods.contains(uid));
        let changed = *self.confirmed != confirmed;
        if changed {
            self.confirmed = Arc::new(confirmed);
        }
        if self.is_mounted() && self.is_unanswered() {
            let is_known = index
                .is_none_or(|index| self.pods.iter().all(|uid| uid.is_empty() || index.get(uid).is_some()));
            if is_new || is_disputed_now {
                self.awaits_pods = !is_known;
                self.due = now + if is_known { Duration::ZERO } else { POD_WAIT };
            } else if is_known && std::mem::take(&mut self.awaits_pods) {
                self.due = now;
            }
        }
        changed
    }

    /// Whether the pod uses another claim than the `PersistentVolume` names, and the server was not asked about that.
    fn is_disputed(&self, pod_uid: &str, index: Option<&PodIndex>) -> bool {
        !self.accepted.contains(pod_uid) && self.uses_another_claim(pod_uid, index)
    }

    fn uses_another_claim(&self, pod_uid: &str, index: Option<&PodIndex>) -> bool {
        let claim = self.claim.as_ref().map(|(reference, _)| &reference.key);
        let pod = index.and_then(|index| index.get(pod_uid));
        claim.zip(pod).is_some_and(|(claim, pod)| pod.uses(claim) == Some(false))
    }

    /// What to ask now.
    pub(super) fn request(&self, name: &str, index: Option<&PodIndex>) -> LookupRequest {
        let is_open = |uid: &&String| !self.accepted.contains(*uid);
        let pod = |uid: &String| Some((uid.clone(), Arc::clone(index?.get(uid)?)));
        LookupRequest {
            name: name.to_owned(),
            known_pv: self.pv.version().cloned(),
            known_claim: self
                .claim
                .as_ref()
                .map(|(reference, claim)| (reference.clone(), claim.version().cloned())),
            pods: self.pods.clone(),
            users: self.pods.iter().filter(is_open).filter_map(pod).collect(),
            is_claim_only: self.claim().is_some_and(|claim| claim.is_failing)
                && !self.pv.is_failing
                && self.pods.is_subset(&self.confirmed),
        }
    }

    /// Takes what came of a lookup; whether anything that is shown changed.
    pub(super) fn take(
        &mut self,
        answers: Answers,
        index: Option<&PodIndex>,
        refresh: Duration,
        now: Instant,
    ) -> bool {
        let Answers { name: _, pods, users, pv, claim } = answers;
        let mut changed = false;
        let is_pv_answered = pv.as_ref().is_none_or(Result::is_ok);
        if let Some(outcome) = pv {
            if matches!(outcome, Ok(Answer::Absent | Answer::Forbidden(_))) && !self.is_about_mounts(index) {
                // What is known is about an earlier volume of that name.
                changed |= self.pv.contents.take().is_some();
                self.claim = None;
            }
            changed |= self.pv.take(outcome, now);
        }
        let named = self.pv.contents.as_ref().and_then(|(_, pv)| pv.claim.clone());
        if self.claim.as_ref().map(|(reference, _)| reference) != named.as_ref() {
            self.claim = named.map(|reference| (reference, CachedObject::default()));
            changed = true;
        }
        if let Some((reference, outcome)) = claim
            && let Some((known, cached)) = &mut self.claim
            && *known == reference
        {
            changed |= cached.take(outcome, now);
        }
        if is_pv_answered {
            let accepted = users.into_iter().filter(|uid| self.pods.contains(uid));
            let accepted: Vec<String> = accepted.filter(|uid| self.uses_another_claim(uid, index)).collect();
            self.accepted.extend(accepted);
            let holds = |uid: &&String| {
                (pods.contains(*uid) || self.confirmed.contains(*uid)) && !self.is_disputed(uid, index)
            };
            let confirmed: BTreeSet<String> = self.pods.iter().filter(holds).cloned().collect();
            if *self.confirmed != confirmed {
                self.confirmed = Arc::new(confirmed);
                changed = true;
            }
        }
        if self.is_mounted() {
            self.due = now + self.next_pause(refresh);
        }
        changed
    }

    /// Whether what is known is about the volume that is mounted now.
    fn is_about_mounts(&self, index: Option<&PodIndex>) -> bool {
        let claim = self.claim.as_ref().map(|(reference, _)| &reference.key);
        let uses = |uid: &String| index?.get(uid)?.uses(claim?);
        !self.confirmed.is_empty() || self.pods.iter().any(|uid| uses(uid) == Some(true))
    }

    fn next_pause(&mut self, refresh: Duration) -> Duration {
        if !self.pods.is_subset(&self.confirmed) {
            return Duration::ZERO;
        }
        let claim = self.claim();
        let is_missing =
            |answer: Option<&Lookup<()>>| matches!(answer, Some(Lookup::Absent | Lookup::Forbidden));
        if is_missing(self.pv.answer.as_ref()) || is_missing(claim.and_then(|claim| claim.answer.as_ref())) {
            let doubled = ABSENT_PAUSE.saturating_mul(1_u32.checked_shl(self.absences).unwrap_or(u32::MAX));
            self.absences = self.absences.saturating_add(1);
            self.backoff.reset();
            return backoff::jittered(doubled.min(refresh.max(ABSENT_PAUSE)));
        }
        self.absences = 0;
        self.backoff.reset();
        backoff::jittered(refresh)
    }

    /// The pause after a failure that only this volume has.
    pub(super) fn pause_after(&mut self, error: &RequestError) -> Duration {
        self.backoff.next_pause(error.retry_after())
    }

    pub(super) fn is_failing(&self) -> bool {
        self.pv.is_failing || self.claim().is_some_and(|claim| claim.is_failing)
    }

    /// When the older of its objects was confirmed.
    pub(super) fn confirmed(&self) -> Option<Instant> {
        self.pv.confirmed.into_iter().chain(self.claim().and_then(|claim| claim.confirmed)).min()
    }

    /// What is published.
    pub(super) fn metadata(&self) -> Option<VolumeMetadata> {
        Some(VolumeMetadata {
            pv: self.pv.lookup()?,
            claim: self.claim().and_then(CachedObject::lookup),
            pods: Some(Arc::clone(&self.confirmed)),
        })
    }
}
