//! What the fields of statvfs and the errors of a mount mean.

use nix::errno::Errno;
use nix::sys::statvfs::FsFlags;
use serde::Deserialize;

use crate::volume::{Inodes, Measurement, ProbeError, ProbeResult, Reason, Usage, signed_figure};

/// The fields of statvfs(3) that are used, as the kernel or a fixture has them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statvfs {
    #[serde(default)]
    bsize: u64,
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
            bsize: kernel.block_size(),
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
    /// The usage of a file system, with its fields read as coreutils read them (gnulib's `fsusage.c`, `df.c`). Free and
    /// available bytes above its size are cut.
    pub(crate) fn measurement(self) -> ProbeResult {
        let Self { bsize, frsize, blocks, bfree, bavail, files, ffree, read_only } = self;
        let is_known = |figure: &u64| !matches!(*figure, 0 | u64::MAX);
        let unit = [frsize, bsize].into_iter().find(is_known);
        let (Some(unit), Some(all)) = (unit, Some(blocks).filter(is_known)) else {
            return Err(Reason::NoFigures.into());
        };
        let all = i128::from(all);
        // Neither of both is more than 64 bits: `f_bfree` is as negative as `f_blocks` leaves room for.
        let bytes = |blocks: i128| blocks.max(0).unsigned_abs() * u128::from(unit);
        let free = signed_figure(bfree, blocks);
        let available = match free {
            // Beyond a quota.
            Some(..0) => Some(0),
            _ => signed_figure(bavail, blocks),
        };
        Ok(Measurement::Filesystem(Usage {
            total: bytes(all),
            used: free.map(|free| bytes(all - free)),
            available: available.map(|available| bytes(available.min(all))),
            inodes: Inodes::known(files, ffree),
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
        Statvfs { bsize: 1 << 20, frsize: 4096, blocks, bfree, bavail, files, ffree, read_only: false }
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
        assert_eq!((usage.total, usage.used, usage.available), (409_600, Some(245_760), Some(122_880)));
        assert_eq!(usage.inodes, Some(Inodes { total: 10, free: 4 }));
        let percent = usage.percent_used().unwrap();
        assert!((percent - 100.0 * 60.0 / 90.0).abs() < 1e-9, "{percent}");
        assert_eq!(usage.inodes.unwrap().percent_used(), Some(60.0));
    }

    #[test]
    fn hostile_figures_neither_overflow_nor_underflow() {
        let most = u64::MAX - 1;
        let all = usage(Statvfs { frsize: most, ..statvfs(most, most, most, most, most) });
        assert_eq!(all.total, u128::from(most) * u128::from(most));
        assert_eq!((all.used, all.available), (Some(0), Some(all.total)));
        for (blocks, bfree) in [(i64::MAX.cast_unsigned(), 1 << 63), (1 << 63, (1 << 63) + 1)] {
            let beyond = usage(Statvfs { frsize: most, ..statvfs(blocks, bfree, 0, most, most) });
            assert_eq!(beyond.used, Some(u128::from(u64::MAX) * u128::from(most)));
            assert_eq!(beyond.available, Some(0));
        }
        let lies = usage(statvfs(100, 200, 300, 10, 20));
        assert_eq!((lies.used, lies.available), (Some(0), Some(lies.total)));
    }

    /// What coreutils' `df` shows for the same fields, but that nobody can write less than nothing.
    #[test]
    fn negative_figures_are_a_reserve_or_quota_that_is_exceeded() {
        let negative = |blocks: u64| blocks.wrapping_neg();
        let reserve = usage(statvfs(214_724_159, 5_000_000, negative(5_736_207), 0, 0));
        assert_eq!((reserve.used, reserve.available), (Some(209_724_159 * 4096), Some(0)));
        assert_eq!(reserve.percent_used(), Some(100.0));
        let quota = usage(statvfs(100, negative(20), negative(20), 0, 0));
        assert_eq!((quota.used, quota.available), (Some(120 * 4096), Some(0)));
        assert_eq!(quota.percent_used(), Some(100.0));
        for bavail in [0, 30, u64::MAX] {
            let quota = usage(statvfs(100, negative(20), bavail, 0, 0));
            assert_eq!(quota.available, Some(0), "nothing is free, whatever f_bavail says");
        }
    }

    #[test]
    fn blocks_are_measured_in_f_bsize_where_there_is_no_fragment_size() {
        let total = |bsize, frsize| {
            Statvfs { bsize, frsize, ..statvfs(100, 40, 30, 0, 0) }.measurement().map(|measured| {
                match measured {
                    Measurement::Filesystem(usage) => usage.total,
                    Measurement::Block { .. } => panic!(),
                }
            })
        };
        assert_eq!(total(512, 0), Ok(51_200));
        assert_eq!(total(0, 512), Ok(51_200));
        assert_eq!(total(1 << 20, 512), Ok(51_200));
        assert_eq!(total(0, 0), Err(Reason::NoFigures.into()));
    }

    #[test]
    fn what_is_not_known_is_absent() {
        for blocks in [0, u64::MAX] {
            assert_eq!(statvfs(blocks, 0, 0, 0, 0).measurement(), Err(Reason::NoFigures.into()));
        }
        let empty = usage(statvfs(1, 1, 0, 0, 0));
        assert_eq!(empty.inodes, None);
        assert_eq!(empty.percent_used(), None, "used and available are both 0");
        let unknown = u64::MAX;
        let ceph = usage(statvfs(5120, 4995, 4995, 33_289, unknown));
        assert_eq!((ceph.used, ceph.inodes), (Some(125 * 4096), None), "without a limit");
        let no_free = usage(statvfs(100, unknown, 30, unknown, 5));
        assert_eq!((no_free.used, no_free.available), (None, Some(122_880)));
        let no_available = usage(statvfs(100, 40, unknown, unknown, unknown));
        assert_eq!((no_available.used, no_available.available), (Some(245_760), None));
        for usage in [no_free, no_available] {
            assert_eq!((usage.percent_used(), usage.inodes), (None, None));
        }
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
