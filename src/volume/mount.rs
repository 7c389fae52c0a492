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
    /// The mount itself is read-only, for pods; `None` where this is a copy of theirs, which may be writable and theirs not.
    pub read_only: Option<bool>,
    /// So it is for this process, to which `ST_RDONLY` tells it.
    pub is_read_only_here: bool,
    /// Its file system is read-only, whoever mounts it; `None` where `/proc/mounts` does not tell this from a mount's.
    pub superblock_read_only: Option<bool>,
}

impl VolumeMount {
    /// What makes a mount this mount, as far as a table tells: an id alone is given to the next mount at once.
    pub fn identity(&self) -> (Option<u64>, &Path, &OsStr) {
        (self.id, &self.mountpoint, &self.device)
    }

    /// The server of a network file system, as the mount names it.
    pub fn server(&self) -> Option<String> {
        let device = self.device.to_string_lossy();
        let (server, _path) = match self.fstype.to_str()? {
            "nfs" | "nfs4" | "glusterfs" | "fuse.glusterfs" => device.split_once(":/")?,
            "cifs" | "smb3" => device.strip_prefix("//")?.split_once('/')?,
            // `user@fsid.name=/path` since Linux 5.17, a list of monitors before.
            "ceph" => device.split_once("=/").or_else(|| device.split_once(":/"))?,
            _ => return None,
        };
        Some(server.to_owned())
    }

    /// Whether pods can write nothing through it, because of the mount or its file system; `None` where that is not known.
    pub fn is_read_only(&self) -> Option<bool> {
        if self.superblock_read_only == Some(true) { Some(true) } else { self.read_only }
    }

    /// The same as mount options have it: `ro` or `rw`.
    pub fn access(&self) -> Option<&'static str> {
        self.is_read_only().map(|read_only| if read_only { "ro" } else { "rw" })
    }
}

/// Whether both are the same mounts in the same order: what was derived from one holds for the other.
pub(crate) fn are_same(a: &[Arc<VolumeMount>], b: &[Arc<VolumeMount>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests {
    use crate::volume::VolumeMount;
    use crate::volume::samples::mount;

    #[test]
    fn the_server_of_a_network_file_system_is_told_by_what_is_mounted() {
        let cases = [
            ("nfs4", "nas.example.org:/export/a", Some("nas.example.org")),
            ("nfs", "[fd00::1]:/export", Some("[fd00::1]")),
            ("fuse.glusterfs", "gluster-1:/volume", Some("gluster-1")),
            ("cifs", "//files.example.org/share/sub", Some("files.example.org")),
            ("smb3", "//files/share", Some("files")),
            ("ceph", "kube@a7f6.cephfs=/volumes/x", Some("kube@a7f6.cephfs")),
            ("ceph", "10.0.0.1:6789,10.0.0.2:6789:/volumes/x", Some("10.0.0.1:6789,10.0.0.2:6789")),
            ("ext4", "/dev/sdb", None),
            ("nfs4", "nonsense", None),
            ("fuse.sshfs", "host:/path", None),
        ];
        for (fstype, device, server) in cases {
            let mount =
                VolumeMount { fstype: fstype.into(), device: device.into(), ..mount("pv", "nfs", "uid") };
            assert_eq!(mount.server().as_deref(), server, "{fstype} {device}");
        }
    }
}
