//! The result of probing a mount: a measurement, or the reason why there is none.

use super::mount::VolumeMount;

/// What the kernel reported for one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurement {
    /// `statvfs` of a file system.
    Filesystem(Usage),
    /// The size of a block device.
    Block {
        /// Bytes.
        size: u128,
    },
}

/// How full a file system is, in bytes. `u128`, because blocks times block size of two `u64` cannot overflow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All bytes.
    pub total: u128,
    /// Bytes in use: more than all where a quota is exceeded. `None` where the file system does not know.
    pub used: Option<u128>,
    /// Bytes available to unprivileged users; `None` where the file system does not know.
    pub available: Option<u128>,
    /// Inodes; `None` where the file system does not count or limit them.
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

impl Measurement {
    /// All bytes.
    pub fn size(self) -> u128 {
        match self {
            Self::Filesystem(usage) => usage.total,
            Self::Block { size } => size,
        }
    }

    /// How full the file system is; `None` for a block device, which cannot tell.
    pub fn usage(self) -> Option<Usage> {
        match self {
            Self::Filesystem(usage) => Some(usage),
            Self::Block { .. } => None,
        }
    }
}

impl Usage {
    /// 100 × used ÷ (used + available), as `df` prints it; `None` where that sum is 0.
    pub fn percent_used(&self) -> Option<f64> {
        percent(self.used?, self.available?)
    }
}

impl Inodes {
    /// `None` for figures that mean that inodes are not counted, or have no limit: `CephFS` has −1 free ones.
    pub fn known(total: u64, free: u64) -> Option<Self> {
        (total > 0 && total < u64::MAX && free <= total).then_some(Self { total, free })
    }

    /// Inodes in use.
    pub fn used(self) -> u64 {
        self.total - self.free
    }

    /// 100 × used ÷ all; `None` where there are none.
    pub fn percent_used(self) -> Option<f64> {
        percent(self.used().into(), self.free.into())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than a double has")]
fn percent(used: u128, free: u128) -> Option<f64> {
    // The sum of two `u128` may overflow.
    let all = used as f64 + free as f64;
    (all > 0.0).then(|| 100.0 * used as f64 / all)
}

/// A free or available figure of `statvfs`, or of the kubelet, which has it from there. As coreutils read it, all ones are
/// unknown, and a set top bit makes it negative, unless all that there is has it too.
pub fn signed_figure(figure: u64, total: u64) -> Option<i128> {
    match figure {
        u64::MAX => None,
        figure if figure > total => Some(figure.cast_signed().into()),
        figure => Some(figure.into()),
    }
}

/// Why a mount was not measured: the values of the label `reason` of `pv_disk_usage_error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Probed, but no answer before the deadline.
    Timeout,
    /// Not probed before the deadline.
    Skipped,
    /// The path does not exist any more, or is not the root of this mount.
    NotMounted,
    /// The server has forgotten the file handle.
    Stale,
    /// Input or output error.
    Io,
    /// Permission denied.
    Permission,
    /// The mount's server, FUSE daemon or block device is gone.
    NotConnected,
    /// The file system has no capacity, as an object store.
    NoFigures,
    /// Everything else.
    Other,
}

impl Reason {
    /// The label's value.
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
pub struct ProbeError {
    /// For the metric.
    pub reason: Reason,
    /// The kernel's error number, for the log.
    pub errno: Option<i32>,
}

impl From<Reason> for ProbeError {
    fn from(reason: Reason) -> Self {
        Self { reason, errno: None }
    }
}

/// The outcome of one probe.
pub type ProbeResult = Result<Measurement, ProbeError>;

/// What measures a mount: the kernel, or a fixture. May block indefinitely.
pub trait Probe: Send + Sync {
    /// Measures one mount.
    fn probe(&self, mount: &VolumeMount) -> ProbeResult;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_there_for_whatever_a_server_says() {
        let percent = |used, available| {
            Usage { total: u128::MAX, used, available, inodes: None, read_only: false }.percent_used()
        };
        assert_eq!(percent(Some(1), Some(3)), Some(25.0));
        assert_eq!(percent(Some(0), Some(0)), None);
        assert_eq!(percent(Some(u128::MAX), Some(u128::MAX)), Some(50.0));
        assert_eq!([percent(None, Some(1)), percent(Some(1), None)], [None; 2]);
        let all_used = Inodes { total: u64::MAX, free: 0 };
        assert_eq!(all_used.percent_used(), Some(100.0));
        assert_eq!(Inodes { total: 0, free: 0 }.percent_used(), None);
    }

    #[test]
    fn figures_that_mean_unknown_or_negative_are_read_so() {
        assert_eq!(signed_figure(5, 10), Some(5));
        assert_eq!(signed_figure(20, 10), Some(20), "more than there is, but positive");
        assert_eq!(signed_figure(u64::MAX, 10), None);
        assert_eq!(signed_figure(u64::MAX - 1, 10), Some(-2));
        assert_eq!(signed_figure(1 << 63, 10), Some(-(1 << 63)));
        assert_eq!(signed_figure(1 << 63, 1 << 63), Some(1 << 63), "8 EiB, of which all are free");
        for (total, free) in [(0, 0), (0, 5), (10, 11), (10, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
            assert_eq!(Inodes::known(total, free), None, "{free} of {total}");
        }
        assert_eq!(Inodes::known(10, 10), Some(Inodes { total: 10, free: 10 }));
    }
}
