//! What was measured: figures, or why there are none.

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
