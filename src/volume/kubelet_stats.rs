//! Volume stats as the kubelet publishes them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ClaimKey, Measurement};

/// Which claims have series of the kubelet's names, and with which labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubeletSeriesOptions {
    /// Only claims that the kubelet does not expose itself, though a pod has mounted them for so long.
    pub only_missing_after: Option<Duration>,
    /// One series a claim and pod, instead of one a claim.
    pub per_pod: bool,
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
    pub stats: Option<Measurement>,
    /// Whether the CSI driver reports an abnormal condition.
    pub abnormal: Option<bool>,
}
