//! What the fields of statvfs and the errors of a mount mean.

use rustix::fs::{StatVfs, StatVfsMountFlags};
use rustix::io::Errno;

use crate::volume::{Inodes, ProbeError, Reason, Usage};

/// The usage of a file system. Free and available bytes above its size are cut.
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

/// The reason behind an error number.
pub(crate) fn probe_error(errno: Errno) -> ProbeError {
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
        let reason = |errno| probe_error(errno).reason;
        assert_eq!(reason(Errno::NOTCONN), Reason::NotConnected);
        assert_eq!(reason(Errno::HOSTDOWN), Reason::NotConnected);
        assert_eq!(reason(Errno::STALE), Reason::Stale);
        assert_eq!(reason(Errno::IO), Reason::Io);
        assert_eq!(reason(Errno::ACCESS), Reason::Permission);
        assert_eq!(reason(Errno::NOENT), Reason::NotMounted);
        assert_eq!(reason(Errno::TIMEDOUT), Reason::Timeout);
        assert_eq!(reason(Errno::AGAIN), Reason::Other);
        assert_eq!(probe_error(Errno::AGAIN).errno, Some(11));
    }
}
