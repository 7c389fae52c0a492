//! The domain: volumes, their mounts, what was measured of them and what the cluster knows about them.

mod figures;
mod metadata;
#[cfg(test)]
pub(crate) mod samples;
mod selection;
mod stats;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use figures::{Answer, Failure, Figures, Inodes, Reason, Usage};
pub use metadata::{
    Claim, ClaimKey, ClaimRef, Labels, Metadata, PersistentVolume, Pod, VolumeSource, is_object_name,
};
pub use selection::{BadPattern, LabelSelection};
pub use stats::{KubeletNames, ReportedVolume, VolumeStats};

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
pub struct Mount {
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

impl Mount {
    /// What makes a mount this mount, as far as a table tells: an id alone is given to the next mount at once.
    #[must_use]
    pub fn identity(&self) -> (Option<u64>, &Path, &OsStr) {
        (self.id, &self.mountpoint, &self.device)
    }
}

/// Whether these are the very same mounts, as what is made of them is then too.
pub(crate) fn are_same(a: &[Arc<Mount>], b: &[Arc<Mount>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// All mounts on this node of one `PersistentVolume`, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The name of the `PersistentVolume`.
    pub pv_name: String,
    /// Its mounts in the table's order, at least one.
    pub mounts: Vec<Arc<Mount>>,
    /// One pod a mount, in the same order, where it is known.
    pub pods: Vec<Option<Arc<Pod>>>,
    /// The object.
    pub pv: Option<Arc<PersistentVolume>>,
    /// The claim bound to it, proven to be the one by its uid.
    pub claim: Option<Arc<Claim>>,
    /// The claim's namespace and name, unless another claim certainly has them by now.
    pub claim_key: Option<Arc<ClaimKey>>,
}

impl Volume {
    /// Where its data is: as its object says, else as `vol_data.json` does.
    #[must_use]
    pub fn source(&self) -> Option<Cow<'_, VolumeSource>> {
        if let Some(pv) = &self.pv {
            return pv.source.as_ref().map(Cow::Borrowed);
        }
        let csi = self.mounts.iter().find_map(|mount| mount.csi.as_ref())?;
        Some(Cow::Owned(VolumeSource::from(csi)))
    }
}
