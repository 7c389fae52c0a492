//! The cache entry of one `PersistentVolume` name: its objects, the pods that mount it, and when it is due again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cached_objects::CachedObjects;
use super::pod_index::PodIndex;
use super::request_error::RequestError;
use super::requests::{ApiClient, ApiResource};
use crate::runtime::backoff::{Backoff, jittered};
use crate::volume::{Claim, MountedVolume, PersistentVolume, Selections, VolumeMetadata, VolumeMount};

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
    objects: CachedObjects,
    /// Refusals included.
    pub(super) failures: Vec<(ApiResource, RequestError)>,
}

impl CachedVolume {
    pub(super) fn new(now: Instant, label_refresh: Duration) -> Self {
        Self {
            objects: CachedObjects::default(),
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
                let pv = self.objects.pv.contents.as_ref();
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
        let mut objects = self.objects.clone();
        async move {
            let failures = objects.look_up(&name, &may_be_mounted, &api, &selections).await;
            Answers { pods, objects, failures }
        }
    }

    /// Records the outcome of a lookup.
    pub(super) fn record(&mut self, answers: Answers, index: &PodIndex) {
        let before = std::mem::replace(&mut self.objects, answers.objects);
        if self.objects.pv.is_failing {
            return;
        }
        if self.objects.pv.missing.is_some() && !self.is_about_mounts(index) {
            self.objects.forget_earlier_volume();
        }
        let pv_uid = |objects: &CachedObjects| objects.pv.contents.as_ref()?.uid.clone();
        if pv_uid(&before).zip(pv_uid(&self.objects)).is_some_and(|(before, now)| before != now) {
            self.set_earlier(index);
        }
        let requested = |objects: &CachedObjects| objects.claim.contents.as_ref()?.requested_bytes;
        if requested(&before) != requested(&self.objects) {
            self.heeds_resize_from = Instant::now();
        }
        let mounting = pod_uids(&self.mounts);
        self.add_current(answers.pods.intersection(&mounting).cloned());
    }

    /// The answers hold for these pods, unless they have an earlier volume.
    fn add_current(&mut self, uids: impl IntoIterator<Item = String>) {
        let pods = Arc::make_mut(&mut self.pods);
        uids.into_iter().for_each(|uid| _ = pods.entry(uid).or_insert(MountedVolume::Current));
    }

    /// Another volume has the name now: pods that had the one before, and do not use the claim of the new one, still have that.
    /// Where a pod is not known, it tells that another one has mounted the name since.
    fn set_earlier(&mut self, index: &PodIndex) {
        let claim = self.objects.claim_ref().map(|claim| &claim.key);
        let has_new = self.has_unanswered_pods();
        for (uid, volume) in Arc::make_mut(&mut self.pods) {
            let uses_no = match index.get(uid) {
                Some(pod) => claim.is_none_or(|claim| pod.uses(claim) == Some(false)),
                None => has_new,
            };
            if uses_no {
                *volume = MountedVolume::Earlier;
            }
        }
    }

    /// Whether the cached objects are of the volume that is mounted now.
    fn is_about_mounts(&self, index: &PodIndex) -> bool {
        let uses = |mount: &VolumeMount| index.get(pod_uid(mount))?.uses(&self.objects.claim_ref()?.key);
        self.has_current_pods() || self.mounts.iter().any(|mount| uses(mount) == Some(true))
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
        let is_resizing = self.objects.claim.contents.as_deref().is_some_and(Claim::is_resizing);
        jittered(if is_resizing { label_refresh.min(RESIZE_REFRESH) } else { label_refresh })
    }

    /// What is published.
    pub(super) fn metadata(&self) -> Option<VolumeMetadata> {
        let CachedObjects { pv, claim } = &self.objects;
        Some(VolumeMetadata { pv: pv.lookup()?, claim: claim.lookup(), pods: Some(Arc::clone(&self.pods)) })
    }
}

/// A mount's pod, or `""` for none.
fn pod_uid(mount: &VolumeMount) -> &str {
    mount.pod_uid.as_deref().unwrap_or_default()
}

fn pod_uids(mounts: &[Arc<VolumeMount>]) -> BTreeSet<String> {
    mounts.iter().map(|mount| pod_uid(mount).to_owned()).collect()
}
