//! The domain: volumes, their mounts, what was measured of them and what the cluster knows about them.

mod kubelet_stats;
mod label_filter;
mod measurement;
mod metadata;
mod quantity;
#[cfg(test)]
pub(crate) mod samples;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use kubelet_stats::{KubeletNames, ReportedVolume, VolumeStats};
pub use label_filter::{BadPattern, LabelFilter};
pub use measurement::{Inodes, Measurement, ProbeError, ProbeResult, Reason, Usage};
pub use metadata::{
    Claim, ClaimKey, ClaimRef, Labels, Lookup, Metadata, PersistentVolume, Pod, SourceStatus, VolumeMetadata,
    VolumeSource, is_object_name,
};

pub(crate) use quantity::parse_quantity;

/// How a volume is given to pods: `Filesystem` or `Block`, as Kubernetes names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeMode {
    /// A mounted file system.
    Filesystem,
    /// A raw block device.
    Block,
}

impl VolumeMode {
    /// The name as in the Kubernetes API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "Filesystem",
            Self::Block => "Block",
        }
    }
}

/// What identifies a CSI volume across mounts and nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsiVolume {
    /// The driver's name, `ebs.csi.aws.com`.
    pub driver: String,
    /// The driver's own name of the volume.
    pub handle: String,
}

/// One row of the mount table that makes a volume reachable by a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The name of the `PersistentVolume`, or of the pod's own (inline) volume: the path does not tell which.
    pub name: String,
    /// The kubelet's plugin, without `kubernetes.io/`; a `FlexVolume` driver as `vendor/driver`.
    pub plugin: String,
    /// The pod that the path names.
    pub pod_uid: Option<String>,
    /// Driver and handle where `vol_data.json` told them.
    pub csi: Option<CsiVolume>,
    /// File system or block device.
    pub mode: VolumeMode,
    /// Where it is mounted, as the host sees it.
    pub mountpoint: PathBuf,
    /// The kernel's id of this mount in the table that was read; `/proc/mounts` has none.
    pub id: Option<u64>,
    /// Major and minor number of the file system's device; `/proc/mounts` has none.
    pub device_number: Option<(u32, u32)>,
    /// What was mounted: `/dev/sdb`, `server:/export`.
    pub device: OsString,
    /// The directory within its file system that is mounted here; `/proc/mounts` does not tell.
    pub root: Option<OsString>,
    /// The file system's type.
    pub fstype: OsString,
    /// The mount itself is read-only.
    pub read_only: bool,
    /// Its file system is read-only, whoever mounts it.
    pub superblock_read_only: bool,
}

impl VolumeMount {
    /// What makes a mount this mount, as far as a table tells: an id alone is given to the next mount at once.
    #[must_use]
    pub fn identity(&self) -> (Option<u64>, &Path, &OsStr) {
        (self.id, &self.mountpoint, &self.device)
    }
}

/// Whether both are the same mounts in the same order: what was derived from one holds for the other.
pub(crate) fn are_same(a: &[Arc<VolumeMount>], b: &[Arc<VolumeMount>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// A mount of a volume and the pod that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodMount {
    /// The mount.
    pub mount: Arc<VolumeMount>,
    /// The pod object, where it is known.
    pub pod: Option<Arc<Pod>>,
}

/// The claim that a `PersistentVolume` is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BoundClaim {
    /// The `PersistentVolume` is not known, or is bound to no claim.
    #[default]
    None,
    /// The `PersistentVolume` names this claim; the object is not known.
    Named(Arc<ClaimKey>),
    /// The object of this name and the uid that the `PersistentVolume` names.
    Known(Arc<ClaimKey>, Arc<Claim>),
    /// The claim was deleted, or another claim has its name now.
    Gone(Arc<ClaimKey>),
}

impl BoundClaim {
    /// Namespace and name as the `PersistentVolume` states them.
    #[must_use]
    pub fn key(&self) -> Option<&ClaimKey> {
        match self {
            Self::None => None,
            Self::Named(key) | Self::Known(key, _) | Self::Gone(key) => Some(key),
        }
    }

    /// Namespace and name, unless the claim is gone: then they may be another claim's.
    #[must_use]
    pub fn current_key(&self) -> Option<&Arc<ClaimKey>> {
        match self {
            Self::None | Self::Gone(_) => None,
            Self::Named(key) | Self::Known(key, _) => Some(key),
        }
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> Option<&Claim> {
        match self {
            Self::Known(_, claim) => Some(claim),
            Self::None | Self::Named(_) | Self::Gone(_) => None,
        }
    }
}

/// All mounts on this node of one `PersistentVolume`, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The name of the `PersistentVolume`.
    pub pv_name: String,
    /// Its mounts, at least one; those with a known CSI handle first, else in the order of the mount table.
    pub mounts: Vec<PodMount>,
    /// The object.
    pub pv: Option<Arc<PersistentVolume>>,
    /// The claim bound to it.
    pub claim: BoundClaim,
}

impl Volume {
    /// The storage that holds its data: from the object, else from `vol_data.json`.
    #[must_use]
    pub fn source(&self) -> Option<Cow<'_, VolumeSource>> {
        if let Some(pv) = &self.pv {
            return pv.source.as_ref().map(Cow::Borrowed);
        }
        let csi = self.mounts.iter().find_map(|PodMount { mount, .. }| mount.csi.as_ref())?;
        Some(Cow::Owned(VolumeSource::from(csi)))
    }

    /// The pods that use it, as far as they are known; one for each mount.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.mounts.iter().filter_map(|PodMount { pod, .. }| pod.as_deref())
    }
}
