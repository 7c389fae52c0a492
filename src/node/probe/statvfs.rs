//! What the fields of statvfs and the errors of a mount mean.

use nix::errno::Errno;
use nix::sys::statvfs::FsFlags;
use serde::Deserialize;

use crate::volume::{Inodes, Measurement, ProbeError, ProbeResult, Reason, Usage};

/// The fields of statvfs(3) that are used, as the kernel or a fixture has them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statvfs {
    frsize: u64,
    blocks: u64,
    bfree: u64,
    bavail: u64,
    files: u64,
    ffree: u64,
    #[serde(default)]
    read_only: bool,
}

impl From<nix::sys::statvfs::Statvfs> for Statvfs {
    fn from(kernel: nix::sys::statvfs::Statvfs) -> Self {
        Self {
            frsize: kernel.fragment_size(),
            blocks: kernel.blocks(),
            bfree: kernel.blocks_free(),
            bavail: kernel.blocks_available(),
            files: kernel.files(),
            ffree: kernel.files_free(),
            read_only: kernel.flags().contains(FsFlags::ST_RDONLY),
        }
    }
}

impl Statvfs {
    /// The usage of a file system. Free and available bytes above its size are cut.
    pub(crate) fn measurement(self) -> ProbeResult {
        let Self { frsize, blocks, bfree, bavail, files, ffree, read_only } = self;
        let bytes = |blocks: u64| u128::from(blocks) * u128::from(frsize);
        if bytes(blocks) == 0 {
            return Err(Reason::NoFigures.into());
        }
        Ok(Measurement::Filesystem(Usage {
            total: bytes(blocks),
            used: bytes(blocks.saturating_sub(bfree)),
            available: bytes(bavail.min(blocks)),
            inodes: (files > 0).then(|| Inodes { total: files, free: ffree.min(files) }),
            read_only,
        }))
    }
}

/// The reason behind an error number.
pub(crate) fn probe_error(errno: Errno) -> ProbeError {
    let reason = match errno {
        Errno::ETIMEDOUT => Reason::Timeout,
        Errno::ENOENT | Errno::ENOTDIR => Reason::NotMounted,
        Errno::ESTALE => Reason::Stale,
        Errno::EIO => Reason::Io,
        Errno::EACCES | Errno::EPERM => Reason::Permission,
        Errno::ENOTCONN
        | Errno::EHOSTDOWN
        | Errno::EHOSTUNREACH
        | Errno::ECONNABORTED
        | Errno::ECONNREFUSED
        | Errno::ECONNRESET
        | Errno::ENODEV
        | Errno::ESHUTDOWN => Reason::NotConnected,
        _ => Reason::Other,
    };
    ProbeError { reason, errno: Some(errno as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statvfs(blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64) -> Statvfs {
        Statvfs { frsize: 4096, blocks, bfree, bavail, files, ffree, read_only: false }
    }

    fn usage(figures: Statvfs) -> Usage {
        match figures.measurement() {
            Ok(Measurement::Filesystem(usage)) => usage,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn figures_are_in_units_of_the_fragment_size() {
        let usage = usage(statvfs(100, 40, 30, 10, 4));
        assert_eq!((usage.total, usage.used, usage.available), (409_600, 245_760, 122_880));
        assert_eq!(usage.inodes, Some(Inodes { total: 10, free: 4 }));
        let percent = usage.percent_used().unwrap();
        assert!((percent - 100.0 * 60.0 / 90.0).abs() < 1e-9, "{percent}");
        assert_eq!(usage.inodes.unwrap().percent_used(), Some(60.0));
    }

    #[test]
    fn hostile_figures_neither_overflow_nor_underflow() {
        let most = u64::MAX;
        let all = usage(Statvfs { frsize: most, ..statvfs(most, most, most, most, most) });
        assert_eq!(all.total, u128::from(most) * u128::from(most));
        assert_eq!((all.used, all.available), (0, all.total));
        let lies = usage(statvfs(100, 200, 300, 10, 20));
        assert_eq!((lies.used, lies.available), (0, lies.total));
        assert_eq!(lies.inodes.unwrap().used(), 0);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        assert_eq!(statvfs(0, 0, 0, 0, 0).measurement(), Err(Reason::NoFigures.into()));
        let empty = usage(statvfs(1, 1, 0, 0, 0));
        assert_eq!(empty.inodes, None);
        assert_eq!(empty.percent_used(), None, "used and available are both 0");
    }

    #[test]
    fn every_error_has_a_reason() {
        let reason = |errno| probe_error(errno).reason;
        assert_eq!(reason(Errno::ENOTCONN), Reason::NotConnected);
        assert_eq!(reason(Errno::EHOSTDOWN), Reason::NotConnected);
        assert_eq!(reason(Errno::ESTALE), Reason::Stale);
        assert_eq!(reason(Errno::EIO), Reason::Io);
        assert_eq!(reason(Errno::EACCES), Reason::Permission);
        assert_eq!(reason(Errno::ENOENT), Reason::NotMounted);
        assert_eq!(reason(Errno::ETIMEDOUT), Reason::Timeout);
        assert_eq!(reason(Errno::EAGAIN), Reason::Other);
        assert_eq!(probe_error(Errno::EAGAIN).errno, Some(11));
    }
}
