//! What the cluster's objects say, as far as it is used here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::mount::{CsiVolume, VolumeMount};

/// Labels of a Kubernetes object, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// What a `PersistentVolume` object says, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Its labels.
    pub labels: Labels,
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
    #[must_use]
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

impl From<&CsiVolume> for VolumeSource {
    fn from(csi: &CsiVolume) -> Self {
        Self { plugin: "csi".into(), kind: csi.driver.clone(), instance: Some(csi.handle.clone()) }
    }
}

/// What a `PersistentVolumeClaim` object says, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The object's uid.
    pub uid: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// The bytes it asks for.
    pub requested_bytes: Option<u128>,
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
}

impl Pod {
    /// Whether a mount is of one of its own volumes.
    #[must_use]
    pub fn has_inline(&self, mount: &VolumeMount) -> bool {
        self.inline_volumes.contains(&(mount.plugin.clone(), mount.name.clone()))
    }
}

/// All that is known of the cluster's objects, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Names that certainly are of no `PersistentVolume`.
    pub absent: HashSet<String>,
    /// Names of volumes that are not shown yet: what is asked about them is not answered.
    pub pending: HashSet<String>,
    /// By name.
    pub persistent_volumes: HashMap<String, Arc<PersistentVolume>>,
    /// By namespace and name, which several can have had one after the other.
    pub claims: HashMap<ClaimKey, Vec<Arc<Claim>>>,
    /// References to claims that certainly are no more.
    pub gone_claims: HashSet<ClaimRef>,
    /// By the uid that the kubelet's paths carry.
    pub pods: HashMap<String, Arc<Pod>>,
}

/// Whether an object can have this name. What is mounted can have any: no request is made of `../pods`.
#[must_use]
pub fn is_valid_object_name(name: &str) -> bool {
    let is_good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    let is_whole = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    name.len() <= 253 && name.bytes().all(is_good) && name.split('.').all(is_whole)
}
