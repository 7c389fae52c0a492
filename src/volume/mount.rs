//! A row of the mount table that is a volume.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Its file system is read-only, whoever mounts it; `None` where `/proc/mounts` does not tell this from `read_only`.
    pub superblock_read_only: Option<bool>,
}

impl VolumeMount {
    /// What makes a mount this mount, as far as a table tells: an id alone is given to the next mount at once.
    pub fn identity(&self) -> (Option<u64>, &Path, &OsStr) {
        (self.id, &self.mountpoint, &self.device)
    }

    /// Whether nothing can be written through it, because of the mount or its file system.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.superblock_read_only == Some(true)
    }
}

/// Whether both are the same mounts in the same order: what was derived from one holds for the other.
pub(crate) fn are_same(a: &[Arc<VolumeMount>], b: &[Arc<VolumeMount>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
