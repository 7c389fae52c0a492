//! The paths of the kubelet that are requested.

/// A path of the kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KubeletPath {
    /// The stats of all pods.
    Summary,
    /// The kubelet's own metrics.
    Metrics,
}

impl KubeletPath {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "/stats/summary",
            Self::Metrics => "/metrics",
        }
    }

    /// The RBAC resource on which the service account needs `get`.
    pub(super) fn rbac_resource(self) -> &'static str {
        match self {
            Self::Summary => "nodes/stats",
            Self::Metrics => "nodes/metrics",
        }
    }

    pub(super) fn accept(self) -> &'static str {
        match self {
            Self::Summary => "application/json",
            Self::Metrics => "text/plain;version=0.0.4",
        }
    }
}
