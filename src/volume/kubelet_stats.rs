//! Volume stats as the kubelet publishes them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ClaimKey, Inodes, Measurement, Usage};

/// Which claims have series of the kubelet's names, and with which labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubeletSeriesOptions {
    /// Only claims that the kubelet does not expose itself, though a pod has mounted them for so long.
    pub only_missing_after: Option<Duration>,
    /// One series a claim and pod, instead of one a claim.
    pub per_pod: bool,
}

/// A volume's stats as the kubelet publishes them. `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeStats {
    /// All bytes.
    pub capacity: Option<u128>,
    /// Bytes available to unprivileged users.
    pub available: Option<u128>,
    /// Bytes in use.
    pub used: Option<u128>,
    /// All inodes.
    pub inodes: Option<u64>,
    /// Free inodes.
    pub inodes_free: Option<u64>,
    /// Inodes in use.
    pub inodes_used: Option<u64>,
}

impl VolumeStats {
    /// Drops the zeros that the kubelet sends for unknown values: for a block volume that is everything but the capacity.
    /// `None` if not even that is known.
    pub fn drop_zero_placeholders(self) -> Option<Self> {
        let capacity = self.capacity.filter(|capacity| *capacity > 0)?;
        let inodes = [self.inodes, self.inodes_free, self.inodes_used].map(|inodes| inodes.map(u128::from));
        let others = [self.available, self.used].into_iter().chain(inodes);
        if others.flatten().all(|figure| figure == 0) {
            return Some(Self { capacity: Some(capacity), ..Self::default() });
        }
        Some(self)
    }

    /// The same as a measurement. 0 inodes means that the file system does not count them.
    pub fn figures(self) -> Option<Measurement> {
        let size = self.capacity?;
        let (Some(used), Some(available)) = (self.used, self.available) else {
            return Some(Measurement::Block { size });
        };
        let inodes = self.inodes.zip(self.inodes_free).filter(|(total, free)| *total > 0 && free <= total);
        let inodes = inodes.map(|(total, free)| Inodes { total, free });
        Some(Measurement::Filesystem(Usage { total: size, used, available, inodes, read_only: false }))
    }
}

impl From<Measurement> for VolumeStats {
    /// Unknown inode counts become 0, as the kubelet has them: readers of these names skip claims without.
    fn from(figures: Measurement) -> Self {
        match figures {
            Measurement::Block { size } => Self { capacity: Some(size), ..Self::default() },
            Measurement::Filesystem(usage) => Self {
                capacity: Some(usage.total),
                available: Some(usage.available),
                used: Some(usage.used),
                inodes: Some(usage.inodes.map_or(0, |inodes| inodes.total)),
                inodes_free: Some(usage.inodes.map_or(0, |inodes| inodes.free)),
                inodes_used: Some(usage.inodes.map_or(0, |inodes| inodes.used())),
            },
        }
    }
}

/// A claim's volume in one pod, as the kubelet reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedVolume {
    /// The claim.
    pub claim: Arc<ClaimKey>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The pod's uid.
    pub pod_uid: Arc<str>,
    /// When the kubelet measured it, if it says so.
    pub measured: Option<SystemTime>,
    /// The stats, if the kubelet has any.
    pub stats: Option<VolumeStats>,
    /// Whether the CSI driver reports an abnormal condition.
    pub abnormal: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Inodes, Usage};

    #[test]
    fn zeros_that_mean_nothing_are_left_out() {
        let block = VolumeStats {
            capacity: Some(64),
            available: Some(0),
            used: Some(0),
            inodes: Some(0),
            inodes_free: Some(0),
            inodes_used: Some(0),
        };
        let size = VolumeStats { capacity: Some(64), ..VolumeStats::default() };
        assert_eq!(block.drop_zero_placeholders(), Some(size));
        assert_eq!(size.drop_zero_placeholders(), Some(size));
        // Full, or without inodes: those zeros are figures.
        let full = VolumeStats { used: Some(64), ..block };
        let empty = VolumeStats { available: Some(64), ..block };
        assert_eq!([full, empty].map(VolumeStats::drop_zero_placeholders), [Some(full), Some(empty)]);
        let nothing = VolumeStats { capacity: Some(0), ..block };
        assert_eq!([nothing, VolumeStats::default()].map(VolumeStats::drop_zero_placeholders), [None, None]);
    }

    #[test]
    fn figures_are_turned_into_the_kubelets() {
        let usage = |inodes| Usage { total: 100, used: 60, available: 30, inodes, read_only: false };
        let stats = VolumeStats::from(Measurement::Filesystem(usage(Some(Inodes { total: 9, free: 4 }))));
        assert_eq!((stats.capacity, stats.available, stats.used), (Some(100), Some(30), Some(60)));
        assert_eq!((stats.inodes, stats.inodes_free, stats.inodes_used), (Some(9), Some(4), Some(5)));
        let stats = VolumeStats::from(Measurement::Filesystem(usage(None)));
        assert_eq!((stats.inodes, stats.inodes_free, stats.inodes_used), (Some(0), Some(0), Some(0)));
        let block = VolumeStats::from(Measurement::Block { size: 7 });
        assert_eq!(block, VolumeStats { capacity: Some(7), ..VolumeStats::default() });
    }
}
