//! The cache entry of one `PersistentVolume` name: its objects, the pods that mount it, and when it is due again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cached_objects::CachedObjects;
use super::pod_index::PodIndex;
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource};
use crate::runtime::backoff::{Backoff, jittered};
use crate::volume::{Claim, ClaimRef, PersistentVolume, Pod, Selections, VolumeMetadata, VolumeMount};

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

/// A name that is mounted here, or was a short time ago.
#[derive(Debug)]
pub(super) struct CachedVolume {
    pub(super) objects: CachedObjects,
    /// Its mounts; none once it is unmounted.
    mounts: Vec<Arc<VolumeMount>>,
    /// The pods of these.
    pods: BTreeSet<String>,
    /// Those of them for which the answers hold.
    answered: Arc<BTreeSet<String>>,
    /// Those of them that still have an earlier volume of the name: unmounting it hangs.
    earlier: Arc<BTreeSet<String>>,
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
    objects: CachedObjects,
    /// Refusals included.
    pub(super) failures: Vec<(ApiResource, RequestError)>,
}

impl CachedVolume {
    pub(super) fn new(now: Instant, label_refresh: Duration) -> Self {
        Self {
            objects: CachedObjects::UNKNOWN,
            mounts: Vec::new(),
            pods: BTreeSet::new(),
            answered: Arc::default(),
            earlier: Arc::default(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_OBJECT_BACKOFF_WINDOW),
            absences: Backoff::new(ABSENT_PAUSE, label_refresh.max(ABSENT_PAUSE)),
            awaits_pods: false,
            due: now,
            heeds_resize_from: now,
            is_looked_up: false,
        }
    }

    pub(super) fn is_mounted(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Whether something about its mounts was never answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.has_unanswered_pods() || !self.metadata().is_some_and(|volume| volume.is_answered())
    }

    fn has_unanswered_pods(&self) -> bool {
        self.pods.iter().any(|uid| !self.answered.contains(uid) && !self.earlier.contains(uid))
    }

    /// Sets what is mounted now. Answers also hold for a pod that shares the volume with one for which they hold. A volume that
    /// is mounted again may be another one with the same name: it is looked up at once.
    pub(super) fn set_mounts(&mut self, mounts: Vec<Arc<VolumeMount>>, pods_known: &PodIndex, now: Instant) {
        let pods: BTreeSet<String> = mounts.iter().map(|mount| pod_uid(mount).to_owned()).collect();
        if pods.is_empty() && self.is_mounted() {
            self.due = now + RETENTION;
        }
        let is_shared = pods.iter().any(|uid| self.answered.contains(uid));
        let uses_claim =
            |pod: &Pod| self.objects.claim_ref().is_none_or(|claim| pod.uses(&claim.key) != Some(false));
        let shares = |uid: &str| {
            let pod = pods_known.get(uid);
            let is_contradicted = |mount: &VolumeMount| self.objects.contradict(mount, pod.map(|pod| &**pod));
            let mut mounts_of_pod = mounts.iter().filter(|mount| pod_uid(mount) == uid);
            is_shared
                && pod.is_some_and(|pod| uses_claim(pod))
                && !mounts_of_pod.any(|mount| is_contradicted(mount))
        };
        let holds =
            |uid: &&String| self.answered.contains(*uid) || (!self.earlier.contains(*uid) && shares(uid));
        let answered = Arc::new(pods.iter().filter(holds).cloned().collect());
        let is_new = !pods.is_subset(&self.pods);
        let earlier = Arc::new(self.earlier.intersection(&pods).cloned().collect());
        (self.mounts, self.pods, self.answered, self.earlier) = (mounts, pods, answered, earlier);
        let is_pod_known = |uid: &String| uid.is_empty() || pods_known.get(uid).is_some();
        let is_known = !pods_known.is_awaited || self.pods.iter().all(is_pod_known);
        if is_new && self.is_unanswered() {
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
        pods_known: &PodIndex,
        api: ApiClient,
        selections: Selections,
    ) -> impl Future<Output = Answers> + Send + use<> {
        (self.awaits_pods, self.is_looked_up) = (false, true);
        // Pods that were asked about before cannot tell anything new.
        let is_new = |uid: &str| !self.answered.contains(uid) && !self.earlier.contains(uid);
        let users = self.mounts.iter().filter(|mount| is_new(pod_uid(mount)));
        let users: Vec<_> =
            users.map(|mount| (Arc::clone(mount), pods_known.get(pod_uid(mount)).cloned())).collect();
        let is_awaited = pods_known.is_awaited;
        let may_be_mounted = move |pv: &PersistentVolume| {
            users.iter().all(|(mount, pod)| {
                let may_claim = |claim: &ClaimRef| match pod {
                    Some(pod) => pod.uses(&claim.key) != Some(false),
                    None => mount.pod_uid.is_none() || !is_awaited,
                };
                pv.claim.as_ref().is_none_or(may_claim) && !pv.contradicts(mount, pod.as_deref())
            })
        };
        let (pods, mut objects) = (self.pods.clone(), self.objects.clone());
        async move {
            let failures = objects.look_up(&name, &may_be_mounted, &api, &selections).await;
            Answers { pods, objects, failures }
        }
    }

    /// Records the outcome of a lookup.
    pub(super) fn record(&mut self, answers: Answers, pods_known: &PodIndex) {
        let Answers { pods, objects, failures: _ } = answers;
        let before = std::mem::replace(&mut self.objects, objects);
        if self.objects.pv.is_failing {
            return;
        }
        if self.objects.pv.missing.is_some() && !self.is_about_mounts(pods_known) {
            self.objects.forget_earlier_volume();
        }
        if before.pv_uid().zip(self.objects.pv_uid()).is_some_and(|(before, now)| before != now) {
            self.set_earlier(pods_known);
        }
        let requested = |objects: &CachedObjects| objects.claim_contents()?.requested_bytes;
        if requested(&before) != requested(&self.objects) {
            self.heeds_resize_from = Instant::now();
        }
        let holds = |uid: &&String| {
            (pods.contains(*uid) || self.answered.contains(*uid)) && !self.earlier.contains(*uid)
        };
        self.answered = Arc::new(self.pods.iter().filter(holds).cloned().collect());
    }

    /// Another volume has the name now: pods that had the one before, and do not use the claim of the new one, still have that.
    /// Where a pod is not known, it tells that another one has mounted the name since.
    fn set_earlier(&mut self, pods_known: &PodIndex) {
        let claim = self.objects.claim_ref().map(|claim| &claim.key);
        let has_new = self.has_unanswered_pods();
        let uses_no = |uid: &&String| match pods_known.get(uid) {
            Some(pod) => claim.is_none_or(|claim| pod.uses(claim) == Some(false)),
            None => has_new,
        };
        let earlier = self.answered.iter().filter(uses_no).chain(&*self.earlier).cloned();
        self.earlier = Arc::new(earlier.collect());
    }

    /// Whether the cached objects are of the volume that is mounted now.
    fn is_about_mounts(&self, pods_known: &PodIndex) -> bool {
        let uses = |uid: &String| pods_known.get(uid)?.uses(&self.objects.claim_ref()?.key);
        !self.answered.is_empty() || self.pods.iter().any(|uid| uses(uid) == Some(true))
    }

    /// The pause after an answer.
    pub(super) fn next_pause(&mut self, label_refresh: Duration) -> Duration {
        if self.has_unanswered_pods() {
            return Duration::ZERO;
        }
        self.backoff.reset();
        if self.objects.pv.missing.is_some() || self.objects.claim.missing.is_some() {
            return jittered(self.absences.next_window());
        }
        self.absences.reset();
        let is_resizing = self.objects.claim_contents().is_some_and(Claim::is_resizing);
        jittered(if is_resizing { label_refresh.min(RESIZE_REFRESH) } else { label_refresh })
    }

    /// When the older of its objects was confirmed.
    pub(super) fn confirmed(&self) -> Option<Instant> {
        self.objects.pv.confirmed.into_iter().chain(self.objects.claim.confirmed).min()
    }

    /// What is published.
    pub(super) fn metadata(&self) -> Option<VolumeMetadata> {
        let CachedObjects { pv, claim } = &self.objects;
        Some(VolumeMetadata {
            pv: pv.lookup()?,
            claim: claim.lookup(),
            pods: Some(Arc::clone(&self.answered)),
            earlier_pods: Arc::clone(&self.earlier),
        })
    }
}

/// A mount's pod, or `""` for none.
fn pod_uid(mount: &VolumeMount) -> &str {
    mount.pod_uid.as_deref().unwrap_or_default()
}
