//! Probes one mount by one descriptor: the only place that opens a path of a volume.
//!
//! The descriptor pins the mount, so the check that it is a mount and its figures are of the same one. It is open for
//! microseconds and opened with `O_PATH`, which asks no server and keeps no file open; still an unmount that meets it is
//! refused with `EBUSY`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, getxattr, statx};

use super::statvfs::{Statvfs, probe_error};
use crate::node::host_path::Rootfs;
use crate::volume::{Measurement, Probe, ProbeError, ProbeResult, Reason, VolumeMode, VolumeMount};

/// The unit of `/sys/dev/block/<major>:<minor>/size`, whatever the device's own block size.
const SECTOR_BYTES: u128 = 512;

/// How it is proven that a path is the root of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountRootProof {
    /// `STATX_ATTR_MOUNT_ROOT`, where the kernel has it: since Linux 5.8.
    #[default]
    Statx,
    /// Another mount id than the parent directory's, by `/proc/self/fdinfo`: on any kernel.
    Fdinfo,
}

/// The kernel of the node.
#[derive(Debug)]
pub struct KernelProbe {
    rootfs: Rootfs,
    /// The node's `/sys`: below the rootfs where it is mounted there, else this process's own.
    sysfs: PathBuf,
    proof: MountRootProof,
}

impl KernelProbe {
    /// The kernel of the node whose root file system is mounted at `rootfs`.
    pub fn new(rootfs: PathBuf, proof: MountRootProof) -> Self {
        let rootfs = Rootfs::new(rootfs);
        let below = rootfs.join(Path::new("/sys"));
        let sysfs = if below.join("dev/block").is_dir() { below } else { "/sys".into() };
        Self { rootfs, sysfs, proof }
    }

    fn is_mount_root(&self, path: &Path, descriptor: &OwnedFd, found: &Statx) -> Result<bool, ProbeError> {
        let is_told = found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
        if is_told && self.proof == MountRootProof::Statx {
            return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        }
        let parent = open_path(path.parent().unwrap_or(path))?;
        match (mount_id(descriptor), mount_id(&parent)) {
            (Some(own), Some(parent)) => Ok(own != parent),
            // Nothing proves it.
            _ => Ok(false),
        }
    }

    /// The size of a block device as sysfs has it: the device is never opened. One that was detached has no directory there,
    /// or no sectors.
    fn block_size(&self, major: u32, minor: u32) -> ProbeResult {
        let file = self.sysfs.join(format!("dev/block/{major}:{minor}/size"));
        let text = std::fs::read_to_string(file).map_err(|_| Reason::NotConnected)?;
        match text.trim().parse::<u64>() {
            Ok(0) => Err(Reason::NotConnected.into()),
            Ok(sectors) => Ok(Measurement::Block { size: u128::from(sectors) * SECTOR_BYTES }),
            Err(_) => Err(Reason::Other.into()),
        }
    }
}

impl Probe for KernelProbe {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        let path = self.rootfs.join(&mount.mountpoint);
        let descriptor = open_path(&path)?;
        // Without STATX_TYPE a FUSE mount without allow_other passes, and statvfs answers with zeros.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(&descriptor, c"", flags, StatxFlags::TYPE)
            .map_err(|error| probe_error(Errno::from_raw(error.raw_os_error())))?;
        if !self.is_mount_root(&path, &descriptor, &found)? {
            return Err(Reason::NotMounted.into());
        }
        match (FileType::from_raw_mode(found.stx_mode.into()), mount.mode) {
            (FileType::BlockDevice, _) => self.block_size(found.stx_rdev_major, found.stx_rdev_minor),
            (FileType::Directory, VolumeMode::Filesystem) => {
                if mount.fstype == "ceph" {
                    refresh_ceph_usage(&descriptor);
                }
                Statvfs::from(fstatvfs(&descriptor).map_err(probe_error)?).measurement()
            }
            // Of any other file statvfs answers for the file system that it is in, such as the node's own.
            _ => Err(Reason::NotMounted.into()),
        }
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, ProbeError> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(probe_error)
}

/// Has `CephFS` ask the metadata server that knows: of a directory with a quota `statvfs` shows the use that the client
/// remembers, which may be weeks old (ceph/ceph-csi#6501).
fn refresh_ceph_usage(descriptor: &OwnedFd) {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    // Without an answer there is still what the client remembers.
    let _ = getxattr(path, c"ceph.dir.rbytes", &mut [0_u8; 32]);
}

/// The id of the mount that a descriptor is in.
fn mount_id(descriptor: &OwnedFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::mount;

    #[test]
    fn only_the_root_of_a_mount_is_measured() {
        for proof in [MountRootProof::Statx, MountRootProof::Fdinfo] {
            let kernel = KernelProbe::new("/".into(), proof);
            let reason = |path: &str| {
                let mount = VolumeMount { mountpoint: path.into(), ..mount("pv", "nfs", "uid") };
                kernel.probe(&mount).map(drop).map_err(|error| error.reason)
            };
            assert_eq!(reason("/dev/shm"), Ok(()), "{proof:?}: a mount");
            assert_eq!(reason("/proc/self"), Err(Reason::NotMounted), "{proof:?}: a link");
            assert_eq!(reason("/proc/sys"), Err(Reason::NotMounted), "{proof:?}: a directory in a mount");
            assert_eq!(reason("/nowhere"), Err(Reason::NotMounted), "{proof:?}");
        }
    }

    #[test]
    fn a_device_has_the_size_in_sectors_that_the_nodes_sysfs_says() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = || KernelProbe::new(dir.path().to_owned(), MountRootProof::default());
        assert_eq!(kernel().sysfs, Path::new("/sys"));
        let device = dir.path().join("sys/dev/block/7:1");
        std::fs::create_dir_all(&device).unwrap();
        assert_eq!(kernel().sysfs, dir.path().join("sys"));
        let size = || kernel().block_size(7, 1);
        assert_eq!(size(), Err(Reason::NotConnected.into()));
        std::fs::write(device.join("size"), "131072\n").unwrap();
        assert_eq!(size(), Ok(Measurement::Block { size: 64 << 20 }));
        // A fault, unlike a file system without capacity.
        for (nothing, reason) in [("many\n", Reason::Other), ("0\n", Reason::NotConnected)] {
            std::fs::write(device.join("size"), nothing).unwrap();
            assert_eq!(size(), Err(reason.into()));
        }
    }
}
