//! What the cluster's objects say, as far as it is used here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::mount::VolumeMount;

/// Labels of a Kubernetes object, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// What a `PersistentVolume` object says, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistentVolume {
    /// The object's uid.
    pub uid: Option<String>,
    /// Its labels that are used.
    pub labels: Labels,
    /// How many of its values are not used, because there are too many or they are too long.
    pub dropped_labels: usize,
    /// The claim it is bound to, or was.
    pub claim: Option<ClaimRef>,
    /// The name of its storage class.
    pub storage_class: Option<String>,
    /// Where its data is.
    pub source: Option<VolumeSource>,
    /// `Filesystem` or `Block`.
    pub mode: Option<String>,
    /// `ReadWriteOnce` and so on, as the object lists them.
    pub access_modes: Vec<String>,
}

/// A reference to a `PersistentVolumeClaim`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimRef {
    /// The claim.
    pub key: ClaimKey,
    /// Which of the claims that ever had this name.
    pub uid: Option<String>,
}

impl ClaimRef {
    /// Whether a claim of this name and uid is the one that is meant: another one may have its name by now.
    pub fn matches_uid(&self, uid: Option<&str>) -> bool {
        self.uid.is_none() || uid.is_none() || self.uid.as_deref() == uid
    }
}

/// Namespace and name of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The kind of a volume's storage, and what identifies the volume in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSource {
    /// The kubelet's plugin that mounts it, as in [`VolumeMount::plugin`].
    pub plugin: String,
    /// A CSI driver's name, or the name of an in-tree plugin.
    pub kind: String,
    /// Volume handle, disk name, `server:/path`.
    pub instance: Option<String>,
}

/// What a `PersistentVolumeClaim` object says, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The object's uid.
    pub uid: Option<String>,
    /// Its labels that are used.
    pub labels: Labels,
    /// How many of its values are not used, because there are too many or they are too long.
    pub dropped_labels: usize,
    /// The value of its label `excluded-from-alerts`, whichever labels are used.
    pub excluded_from_alerts: Option<String>,
    /// The bytes it asks for.
    pub requested_bytes: Option<u128>,
    /// The bytes that its volume has, by its status.
    pub capacity_bytes: Option<u128>,
}

impl Claim {
    /// Whether its volume is still to be enlarged to what it asks for.
    pub fn is_resizing(&self) -> bool {
        self.requested_bytes.zip(self.capacity_bytes).is_some_and(|(requested, has)| requested > has)
    }
}

/// What a `Pod` object says, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its volumes that are no claims but mounted by a plugin that could hold one: plugin and name.
    pub inline_volumes: HashSet<(String, String)>,
    /// The names of the claims that its volumes use, generic ephemeral volumes included.
    pub claims: HashSet<String>,
    /// It has more volumes than are kept here.
    pub has_more_volumes: bool,
}

impl Pod {
    /// Whether a mount is of one of its own volumes.
    pub fn has_inline(&self, mount: &VolumeMount) -> bool {
        self.inline_volumes.contains(&(mount.plugin.clone(), mount.name.clone()))
    }

    /// Whether it certainly uses no claim: then no `PersistentVolume` is mounted for it.
    pub fn uses_no_claim(&self) -> bool {
        self.claims.is_empty() && !self.has_more_volumes
    }

    /// Whether one of its volumes uses this claim; `None` if that is not known.
    pub fn uses(&self, claim: &ClaimKey) -> Option<bool> {
        let uses = self.namespace == claim.namespace && self.claims.contains(&claim.name);
        (uses || !self.has_more_volumes).then_some(uses)
    }
}

/// What the cluster answered about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The object, as it was last seen.
    Found(Arc<T>),
    /// There is none any more, or another one of its name; this is the one that there was.
    Gone(Arc<T>),
    /// There is none.
    Absent,
    /// It must not be read.
    Forbidden,
}

impl<T> Lookup<T> {
    /// The object, even if it is gone: what it said of its volume stays, so that labels do not flap.
    pub fn found(&self) -> Option<&Arc<T>> {
        match self {
            Self::Found(object) | Self::Gone(object) => Some(object),
            Self::Absent | Self::Forbidden => None,
        }
    }
}

/// What the cluster answered about the `PersistentVolume` of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMetadata {
    /// The object.
    pub pv: Lookup<PersistentVolume>,
    /// The claim that it names; `None` if it names none or that is not answered yet.
    pub claim: Option<Lookup<Claim>>,
    /// By the uids of the pods for which this is answered, `""` for a mount of no pod, which volume of this name they have
    /// mounted; `None` where all have this one. The name may be another volume's by the time that another pod mounts it.
    pub pods: Option<Arc<BTreeMap<String, MountedVolume>>>,
}

/// Which of the volumes that ever had a name a pod has mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountedVolume {
    /// The one that has it now.
    Current,
    /// One that had it before: unmounting it hangs.
    Earlier,
}

impl VolumeMetadata {
    /// The claim that the `PersistentVolume` names.
    pub fn claim_ref(&self) -> Option<&ClaimRef> {
        self.pv.found()?.claim.as_ref()
    }

    /// Which volume of this name a mount is of, as far as that is answered.
    fn mounted_volume(&self, mount: &VolumeMount) -> Option<MountedVolume> {
        let Some(pods) = &self.pods else { return Some(MountedVolume::Current) };
        pods.get(mount.pod_uid.as_deref().unwrap_or_default()).copied()
    }

    /// Whether nothing more has to be asked.
    pub fn is_answered(&self) -> bool {
        self.claim.is_some() || self.claim_ref().is_none()
    }
}

/// Whether a source could be read the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name in `disk_usage_exporter_source_success`.
    pub name: &'static str,
    /// The outcome.
    pub success: bool,
}

/// All that is known of the cluster's objects, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// By the name of the `PersistentVolume`.
    pub volumes: Arc<HashMap<String, VolumeMetadata>>,
    /// By the uid that the kubelet's paths carry.
    pub pods: Arc<HashMap<String, Arc<Pod>>>,
    /// Names that are not in `volumes` will be answered.
    pub awaits_volumes: bool,
    /// Pods that are not in `pods` will be told.
    pub awaits_pods: bool,
    /// Where this comes from, as far as it was tried.
    pub sources: Vec<SourceStatus>,
    /// When the oldest of it was confirmed.
    pub oldest: Option<SystemTime>,
}

impl Metadata {
    /// The pod that a mount is of.
    pub fn pod(&self, mount: &VolumeMount) -> Option<&Arc<Pod>> {
        self.pods.get(mount.pod_uid.as_ref()?)
    }

    /// What is known of the volume of this mount. Answers about an earlier volume of its name do not count, unless its pod
    /// uses the claim that they name and nothing about the mount contradicts them.
    pub fn volume(&self, mount: &VolumeMount) -> Option<&VolumeMetadata> {
        let volume = self.volumes.get(&mount.name)?;
        let is_of_mount = volume.mounted_volume(mount) == Some(MountedVolume::Current);
        let is_used = || self.pod(mount).and_then(|pod| pod.uses(&volume.claim_ref()?.key)) == Some(true);
        let may_be_of = || volume.pv.found().is_none_or(|pv| !self.contradicts(pv, mount));
        (is_of_mount || (is_used() && may_be_of())).then_some(volume)
    }

    /// Whether a mount is certainly not of this volume.
    pub fn contradicts(&self, pv: &PersistentVolume, mount: &VolumeMount) -> bool {
        pv.contradicts(mount, self.pod(mount).map(|pod| &**pod))
    }

    /// Whether a mount is of a pod that still has an earlier `PersistentVolume` of its name.
    pub fn is_of_earlier_volume(&self, mount: &VolumeMount) -> bool {
        let volume = self.volumes.get(&mount.name);
        volume.and_then(|volume| volume.mounted_volume(mount)) == Some(MountedVolume::Earlier)
    }

    /// Whether there is no `PersistentVolume` of this mount's name, or none among all that will ever be told.
    pub(super) fn is_absent(&self, mount: &VolumeMount) -> bool {
        match self.volume(mount) {
            Some(volume) => volume.pv == Lookup::Absent,
            None => {
                !self.awaits_volumes && !self.volumes.is_empty() && !self.volumes.contains_key(&mount.name)
            }
        }
    }

    /// Whether nothing more will be known of this mount soon.
    pub fn is_answered(&self, mount: &VolumeMount) -> bool {
        if self.is_inline(mount) || self.is_of_earlier_volume(mount) {
            return true;
        }
        let is_pod_known = !self.awaits_pods || self.pod(mount).is_some() || mount.pod_uid.is_none();
        let is_volume_known =
            || !self.awaits_volumes || self.volume(mount).is_some_and(VolumeMetadata::is_answered);
        is_pod_known && is_volume_known()
    }

    /// Whether both say the same of mounts.
    pub fn has_same_objects(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.volumes, &other.volumes)
            && Arc::ptr_eq(&self.pods, &other.pods)
            && (self.awaits_volumes, self.awaits_pods) == (other.awaits_volumes, other.awaits_pods)
    }
}

/// The longest name that Kubernetes gives to an object.
pub const MAX_NAME_BYTES: usize = 253;

/// Whether an object can have this name. What is mounted can have any: no request is made of `../pods`.
pub fn is_valid_object_name(name: &str) -> bool {
    let is_good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    let is_whole = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    name.len() <= MAX_NAME_BYTES && name.bytes().all(is_good) && name.split('.').all(is_whole)
}
