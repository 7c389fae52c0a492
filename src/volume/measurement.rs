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
    /// Bytes in use.
    pub used: u128,
    /// Bytes available to unprivileged users.
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

impl Measurement {
    /// All bytes.
    pub fn size(self) -> u128 {
        match self {
            Self::Filesystem(usage) => usage.total,
            Self::Block { size } => size,
        }
    }
}

impl Usage {
    /// 100 × used ÷ (used + available), as `df` prints it; `None` where that sum is 0.
    pub fn percent_used(&self) -> Option<f64> {
        percent(self.used, self.available)
    }
}

impl Inodes {
    /// Inodes in use.
    pub fn used(&self) -> u64 {
        self.total - self.free
    }

    /// 100 × used ÷ all; `None` where there are none.
    pub fn percent_used(&self) -> Option<f64> {
        percent(self.used().into(), self.free.into())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than a double has")]
fn percent(used: u128, free: u128) -> Option<f64> {
    // The sum of two `u128` may overflow.
    let all = used as f64 + free as f64;
    (all > 0.0).then(|| 100.0 * used as f64 / all)
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
    /// The mount's server or FUSE daemon is gone.
    NotConnected,
    /// The file system answered without a size.
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
        assert_eq!(percent(1, 3), Some(25.0));
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(u128::MAX, u128::MAX), Some(50.0));
        let all_used = Inodes { total: u64::MAX, free: 0 };
        assert_eq!(all_used.percent_used(), Some(100.0));
        assert_eq!(Inodes { total: 0, free: 0 }.percent_used(), None);
    }
}
