//! What is known of one `PersistentVolume` name: its objects, the pods that they are about, and when to ask again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task;
use tokio::time::Instant;
use tokio_util::time::delay_queue;

use super::convert::Version;
use super::lookup::{Answers, LookupRequest};
use super::pod_index::PodIndex;
use super::requests::Outcome;
use crate::runtime::backoff::{self, Backoff};
use crate::volume::{Claim, ClaimKey, ClaimRef, Lookup, PersistentVolume, VolumeMetadata};

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
    /// The last answer that was no object.
    missing: Option<Lookup<T>>,
    confirmed: Option<Instant>,
    is_failing: bool,
}

impl<T: PartialEq> CachedObject<T> {
    const UNKNOWN: Self = Self { contents: None, missing: None, confirmed: None, is_failing: false };

    fn lookup(&self) -> Option<Lookup<T>> {
        match (&self.contents, &self.missing) {
            (Some((_, contents)), _) => Some(Lookup::Found(Arc::clone(contents))),
            (None, Some(Lookup::Forbidden)) => Some(Lookup::Forbidden),
            (None, Some(_)) => Some(Lookup::Absent),
            (None, None) => None,
        }
    }

    fn version(&self) -> Option<Version> {
        self.contents.as_ref().map(|(version, _)| version.clone())
    }

    /// Whether the last request came to something, if there was any.
    pub(super) fn success(&self) -> Option<bool> {
        let is_tried = self.is_failing || self.contents.is_some() || self.missing.is_some();
        is_tried.then_some(!self.is_failing && !matches!(self.missing, Some(Lookup::Forbidden)))
    }

    fn take(&mut self, outcome: Outcome<T>, now: Instant) {
        self.is_failing = false;
        match outcome {
            Ok(Some((version, found))) => {
                let known = self.contents.take().map(|(_, contents)| contents);
                let contents = known.filter(|known| **known == found).unwrap_or_else(|| Arc::new(found));
                (self.contents, self.missing, self.confirmed) = (Some((version, contents)), None, Some(now));
            }
            Ok(None) => self.missing = Some(Lookup::Absent),
            Err(error) if error.is_forbidden() => self.missing = Some(Lookup::Forbidden),
            Err(_) => self.is_failing = true,
        }
    }
}

/// A name that is mounted here, or was a short time ago.
#[derive(Debug)]
pub(super) struct CachedVolume {
    pub(super) pv: CachedObject<PersistentVolume>,
    pub(super) claim: Option<(ClaimRef, CachedObject<Claim>)>,
    /// The pods that mount it; none once it is unmounted.
    pods: BTreeSet<String>,
    /// Those of them for which the answers hold.
    answered: Arc<BTreeSet<String>>,
    pub(super) backoff: Backoff,
    /// How often in a row something was absent or forbidden.
    absences: u32,
    awaits_pods: bool,
    pub(super) due: Instant,
    pub(super) key: Option<delay_queue::Key>,
    pub(super) task: Option<task::Id>,
}

impl CachedVolume {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pv: CachedObject::UNKNOWN,
            claim: None,
            pods: BTreeSet::new(),
            answered: Arc::default(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_OBJECT_BACKOFF_WINDOW),
            absences: 0,
            awaits_pods: false,
            due: now,
            key: None,
            task: None,
        }
    }

    pub(super) fn is_mounted(&self) -> bool {
        !self.pods.is_empty()
    }

    pub(super) fn is_failing(&self) -> bool {
        self.pv.is_failing || self.claim.as_ref().is_some_and(|(_, claim)| claim.is_failing)
    }

    /// Whether something about its mounts was never answered.
    pub(super) fn is_unanswered(&self) -> bool {
        !self.pods.is_subset(&self.answered) || !self.metadata().is_some_and(|volume| volume.is_answered())
    }

    fn claim_key(&self) -> Option<&ClaimKey> {
        self.claim.as_ref().map(|(reference, _)| &reference.key)
    }

    /// Takes the pods that mount it now. Answers hold for pods that share the volume with one for which they do; a volume
    /// that is mounted again may be another one, and is asked about at once.
    pub(super) fn set_pods(&mut self, pods: BTreeSet<String>, pods_known: &PodIndex, now: Instant) {
        if pods.is_empty() && self.is_mounted() {
            self.due = now + RETENTION;
        }
        let is_shared = pods.iter().any(|uid| self.answered.contains(uid));
        let uses_claim = |uid: &str| match (pods_known.get(uid), self.claim_key()) {
            (Some(pod), Some(claim)) => pod.uses(claim) != Some(false),
            (pod, _) => pod.is_some() || !pods_known.is_awaited,
        };
        let holds = |uid: &&String| self.answered.contains(*uid) || (is_shared && uses_claim(uid));
        let answered = Arc::new(pods.iter().filter(holds).cloned().collect());
        let is_new = !pods.is_subset(&self.pods);
        (self.pods, self.answered) = (pods, answered);
        let is_pod_known = |uid: &String| uid.is_empty() || pods_known.get(uid).is_some();
        let is_known = !pods_known.is_awaited || self.pods.iter().all(is_pod_known);
        if is_new && self.is_unanswered() {
            self.awaits_pods = !is_known;
            self.due = if is_known { now } else { now + POD_WAIT };
        } else if is_known && std::mem::take(&mut self.awaits_pods) {
            self.due = now;
        }
    }

    /// What to ask now.
    pub(super) fn request(&mut self, name: &str, pods_known: &PodIndex) -> LookupRequest {
        self.awaits_pods = false;
        let known_claim =
            |(reference, claim): &(ClaimRef, CachedObject<Claim>)| (reference.clone(), claim.version());
        // Pods that were asked about before cannot tell anything new.
        let users = self.pods.iter().filter(|uid| !uid.is_empty() && !self.answered.contains(*uid));
        LookupRequest {
            name: name.to_owned(),
            known_pv: self.pv.version(),
            known_claim: self.claim.as_ref().map(known_claim),
            users: users
                .map(|uid| pods_known.get(uid).cloned())
                .filter(|pod| pod.is_some() || pods_known.is_awaited)
                .collect(),
            pods: self.pods.clone(),
        }
    }

    /// Takes what came of a lookup.
    pub(super) fn take(&mut self, answers: Answers, pods_known: &PodIndex, now: Instant) {
        let Answers { name: _, pods, pv, claim } = answers;
        self.task = None;
        let is_object = matches!(pv, Ok(Some(_)));
        let is_answer = pv.as_ref().err().is_none_or(super::request_error::RequestError::is_forbidden);
        if is_answer && !is_object && !self.is_about_mounts(pods_known) {
            // What is known is about an earlier volume of that name.
            (self.pv, self.claim) = (CachedObject::UNKNOWN, None);
        }
        self.pv.take(pv, now);
        let named = self.pv.contents.as_ref().and_then(|(_, pv)| pv.claim.as_ref());
        if self.claim.as_ref().map(|(reference, _)| reference) != named {
            self.claim = named.map(|reference| (reference.clone(), CachedObject::UNKNOWN));
        }
        if let (Some((reference, outcome)), Some((known, cached))) = (claim, &mut self.claim)
            && *known == reference
        {
            cached.take(outcome, now);
        }
        if is_answer {
            let holds = |uid: &&String| pods.contains(*uid) || self.answered.contains(*uid);
            self.answered = Arc::new(self.pods.iter().filter(holds).cloned().collect());
        }
    }

    /// Whether what is known is about the volume that is mounted now.
    fn is_about_mounts(&self, pods_known: &PodIndex) -> bool {
        let uses = |uid: &String| pods_known.get(uid)?.uses(self.claim_key()?);
        !self.answered.is_empty() || self.pods.iter().any(|uid| uses(uid) == Some(true))
    }

    /// The pause after an answer.
    pub(super) fn next_pause(&mut self, refresh: Duration) -> Duration {
        if !self.pods.is_subset(&self.answered) {
            return Duration::ZERO;
        }
        self.backoff.reset();
        if self.pv.missing.is_none() && self.claim.as_ref().is_none_or(|(_, claim)| claim.missing.is_none()) {
            self.absences = 0;
            return backoff::jittered(refresh);
        }
        let factor = 1_u32.checked_shl(self.absences).unwrap_or(u32::MAX);
        self.absences = self.absences.saturating_add(1);
        backoff::jittered(ABSENT_PAUSE.saturating_mul(factor).min(refresh.max(ABSENT_PAUSE)))
    }

    /// When the older of its objects was confirmed.
    pub(super) fn confirmed(&self) -> Option<Instant> {
        let claim = self.claim.as_ref().and_then(|(_, claim)| claim.confirmed);
        self.pv.confirmed.into_iter().chain(claim).min()
    }

    /// What is published.
    pub(super) fn metadata(&self) -> Option<VolumeMetadata> {
        let claim = self.claim.as_ref().and_then(|(_, claim)| claim.lookup());
        Some(VolumeMetadata { pv: self.pv.lookup()?, claim, pods: Some(Arc::clone(&self.answered)) })
    }
}
