//! Figures: the only place that asks the kernel about a path of a volume.

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::fs::{StatVfs, StatVfsMountFlags};
use rustix::io::Errno;

use super::block;
use super::proof::Found;
use crate::volume::{Inodes, Measurement, ProbeError, ProbeResult, Reason, Usage, VolumeMode};

/// A mount to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where this process reaches it.
    pub path: PathBuf,
    /// Its mountpoint, as the host sees it.
    pub mountpoint: PathBuf,
    /// What is mounted: without an id it tells one mount from the next on the same path.
    pub device: OsString,
    /// Its id in the table it was read from.
    pub id: Option<u64>,
    /// Whether that table is this process's own, so that its ids can be compared.
    pub own_table: bool,
    /// File system or block device.
    pub mode: VolumeMode,
}

/// Whoever gives the figures of a mount: the kernel, or a fixture. May block for ever.
pub trait Measure: Send + Sync {
    /// Measures one mount.
    ///
    /// # Errors
    ///
    /// Why there are no figures.
    fn measure(&self, target: &Target) -> ProbeResult;
}

/// The kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The node's `/sys`.
    pub sysfs: PathBuf,
}

impl Measure for Kernel {
    fn measure(&self, target: &Target) -> ProbeResult {
        let before = Found::at(target)?;
        // Asked for its file system, a device would answer for the one that its file is in.
        if let Some(number) = before.block_device() {
            let size = block::size(&self.sysfs, number).filter(|size| *size > 0);
            return size.map(|size| Measurement::Block { size }).ok_or_else(|| Reason::NoFigures.into());
        }
        if target.mode == VolumeMode::Block {
            return Err(Reason::NotMounted.into());
        }
        let figures = rustix::fs::statvfs(&target.path).map_err(failure)?;
        if !Found::at(target)?.is(&before) {
            return Err(Reason::NotMounted.into());
        }
        usage(&figures).map(Measurement::Filesystem)
    }
}

/// The kernel's figures as what they mean; free and available can be no more than there is.
pub(crate) fn usage(figures: &StatVfs) -> Result<Usage, ProbeError> {
    let unit = u128::from(figures.f_frsize);
    let total = u128::from(figures.f_blocks) * unit;
    if total == 0 {
        return Err(Reason::NoFigures.into());
    }
    let free = u128::from(figures.f_bfree.min(figures.f_blocks)) * unit;
    Ok(Usage {
        total,
        used: total - free,
        available: u128::from(figures.f_bavail.min(figures.f_blocks)) * unit,
        inodes: (figures.f_files > 0)
            .then(|| Inodes { total: figures.f_files, free: figures.f_ffree.min(figures.f_files) }),
        read_only: figures.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// A broken mount's error as the closed set of reasons.
pub(crate) fn failure(errno: Errno) -> ProbeError {
    let reason = match errno {
        Errno::TIMEDOUT => Reason::Timeout,
        Errno::NOENT | Errno::NOTDIR => Reason::NotMounted,
        Errno::STALE => Reason::Stale,
        Errno::IO => Reason::Io,
        Errno::ACCESS | Errno::PERM => Reason::Permission,
        Errno::NOTCONN
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::CONNABORTED
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::NODEV
        | Errno::SHUTDOWN => Reason::NotConnected,
        _ => Reason::Other,
    };
    ProbeError { reason, errno: Some(errno.raw_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statvfs(blocks: u64, free: u64, available: u64, inodes: u64, inodes_free: u64) -> StatVfs {
        StatVfs {
            f_bsize: 1 << 20,
            f_frsize: 4096,
            f_blocks: blocks,
            f_bfree: free,
            f_bavail: available,
            f_files: inodes,
            f_ffree: inodes_free,
            f_favail: inodes_free,
            f_fsid: 0,
            f_flag: StatVfsMountFlags::empty(),
            f_namemax: 255,
        }
    }

    #[test]
    fn figures_are_in_units_of_the_fragment_size() {
        let usage = usage(&statvfs(100, 40, 30, 10, 4)).unwrap();
        assert_eq!((usage.total, usage.used, usage.available), (409_600, 245_760, 122_880));
        assert_eq!(usage.inodes, Some(Inodes { total: 10, free: 4 }));
        let percent = usage.percent_used().unwrap();
        assert!((percent - 100.0 * 60.0 / 90.0).abs() < 1e-9, "{percent}");
        assert_eq!(usage.inodes.unwrap().percent_used(), Some(60.0));
    }

    #[test]
    fn hostile_figures_neither_overflow_nor_underflow() {
        let most = u64::MAX;
        let mut figures = statvfs(most, most, most, most, most);
        figures.f_frsize = most;
        let all = usage(&figures).unwrap();
        assert_eq!(all.total, u128::from(most) * u128::from(most));
        assert_eq!((all.used, all.available), (0, all.total));
        let lies = usage(&statvfs(100, 200, 300, 10, 20)).unwrap();
        assert_eq!((lies.used, lies.available), (0, lies.total));
        assert_eq!(lies.inodes.unwrap().used(), 0);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(usage(&statvfs(0, 0, 0, 0, 0)), Err(Reason::NoFigures.into()));
        assert_eq!(usage(&statvfs(1, 1, 0, 0, 0)).unwrap().inodes, None);
        let empty = usage(&statvfs(1, 1, 0, 0, 0)).unwrap();
        assert_eq!(empty.percent_used(), None, "used and available are both 0");
    }

    #[test]
    fn every_error_has_a_reason() {
        let reason = |errno| failure(errno).reason;
        assert_eq!(reason(Errno::NOTCONN), Reason::NotConnected);
        assert_eq!(reason(Errno::HOSTDOWN), Reason::NotConnected);
        assert_eq!(reason(Errno::STALE), Reason::Stale);
        assert_eq!(reason(Errno::IO), Reason::Io);
        assert_eq!(reason(Errno::ACCESS), Reason::Permission);
        assert_eq!(reason(Errno::NOENT), Reason::NotMounted);
        assert_eq!(reason(Errno::TIMEDOUT), Reason::Timeout);
        assert_eq!(reason(Errno::AGAIN), Reason::Other);
        assert_eq!(failure(Errno::AGAIN).errno, Some(11));
    }
}
