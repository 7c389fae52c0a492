//! The domain: volumes, their mounts, what was measured of them and what the cluster knows about them.

#[cfg(test)]
pub(crate) mod samples;
mod selection;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

pub use selection::{BadPattern, LabelSelection};

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

/// All mounts on this node of one `PersistentVolume`.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The name of the `PersistentVolume`.
    pub pv_name: String,
    /// Its mounts in the table's order, at least one.
    pub mounts: Vec<Arc<Mount>>,
}

/// What the kernel said of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figures {
    /// `statvfs` of a file system.
    Filesystem(Usage),
    /// The size of a block device.
    Block {
        /// Bytes.
        size: u128,
    },
}

/// How full a file system is. Bytes and counts; 128 bits, for no server can make a product of two 64-bit figures overflow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All bytes.
    pub total: u128,
    /// Bytes in use.
    pub used: u128,
    /// Bytes that an ordinary user may still write.
    pub available: u128,
    /// Inodes; `None` where the file system does not count them.
    pub inodes: Option<Inodes>,
    /// `ST_RDONLY` of this very measurement.
    pub read_only: bool,
}

/// A file system's inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// All inodes.
    pub total: u64,
    /// Free inodes.
    pub free: u64,
}

impl Usage {
    /// 100 × used ÷ (used + available), as `df` prints it; `None` where that sum is 0.
    #[must_use]
    pub fn percent_used(&self) -> Option<f64> {
        percent(self.used, self.used + self.available)
    }
}

impl Inodes {
    /// Inodes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.total - self.free
    }

    /// 100 × used ÷ all; `None` where there are none.
    #[must_use]
    pub fn percent_used(&self) -> Option<f64> {
        percent(self.used().into(), self.total.into())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than a double has")]
fn percent(part: u128, whole: u128) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

/// Why a mount has no figures: the closed set of `pv_disk_usage_error`'s `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Asked, and no answer before the deadline.
    Timeout,
    /// Not asked before the deadline.
    Skipped,
    /// The path is there no more, or is not this mount.
    NotMounted,
    /// The server has forgotten the file handle.
    Stale,
    /// Input or output error.
    Io,
    /// Not allowed to look.
    Permission,
    /// The server of this mount is gone.
    NotConnected,
    /// The file system answered, but without figures.
    NoFigures,
    /// Everything else.
    Other,
}

impl Reason {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
            Self::NotMounted => "not_mounted",
            Self::Stale => "stale",
            Self::Io => "io",
            Self::Permission => "permission",
            Self::NotConnected => "not_connected",
            Self::NoFigures => "no_figures",
            Self::Other => "other",
        }
    }
}

/// A mount that could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// For the metric.
    pub reason: Reason,
    /// The kernel's error number, for the log.
    pub errno: Option<i32>,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, errno: None }
    }
}

/// One mount's answer.
pub type Answer = Result<Figures, Failure>;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// The claim.
    pub key: ClaimKey,
    /// Which of the claims that ever had this name.
    pub uid: Option<String>,
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
    /// A CSI driver's name, or the name of an in-tree plugin.
    pub kind: String,
    /// Volume handle, disk name, `server:/path`.
    pub instance: Option<String>,
}

impl From<&CsiVolume> for VolumeSource {
    fn from(csi: &CsiVolume) -> Self {
        Self { kind: csi.driver.clone(), instance: Some(csi.handle.clone()) }
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

/// All that is known of the cluster's objects, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// By name.
    pub persistent_volumes: HashMap<String, Arc<PersistentVolume>>,
    /// By namespace and name.
    pub claims: HashMap<ClaimKey, Arc<Claim>>,
    /// By the uid that the kubelet's paths carry.
    pub pods: HashMap<String, Arc<Pod>>,
}
