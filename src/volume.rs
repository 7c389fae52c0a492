//! The domain: volumes, their mounts, what was measured of them and what the cluster knows about them.

mod exclusions;
mod identity;
mod kubelet_stats;
mod label_filter;
mod measurement;
mod metadata;
mod mount;
mod name_patterns;
mod quantity;
#[cfg(test)]
pub(crate) mod samples;

use std::sync::Arc;

pub use exclusions::Exclusions;
pub use kubelet_stats::{KubeletSeriesOptions, ReportedVolume};
pub use label_filter::{
    LabelFilter, MAX_LABEL_SET_BYTES, MAX_LABEL_VALUE_BYTES, MAX_OBJECT_LABELS, Selections,
};
pub use measurement::{Inodes, Measurement, Probe, ProbeError, ProbeResult, Reason, Usage, signed_figure};
pub use metadata::{
    Claim, ClaimKey, ClaimRef, Labels, Lookup, MAX_NAME_BYTES, Metadata, MountedVolume, PersistentVolume,
    Pod, SourceStatus, VolumeMetadata, VolumeSource, is_valid_object_name,
};
pub(crate) use mount::are_same;
pub use mount::{CsiVolume, VolumeMode, VolumeMount};
pub use name_patterns::NamePatterns;
pub(crate) use quantity::parse_quantity;

/// A mount of a volume and the pod that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodMount {
    /// The mount.
    pub mount: Arc<VolumeMount>,
    /// The pod object, where it is known.
    pub pod: Option<Arc<Pod>>,
}

/// The claim that a `PersistentVolume` names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoundClaim {
    /// Namespace and name; `None` if the `PersistentVolume` is not known, or names no claim.
    pub key: Option<Arc<ClaimKey>>,
    /// The object of this name and uid, where that is answered.
    pub object: Option<Lookup<Claim>>,
}

impl BoundClaim {
    /// Namespace and name, unless the claim is gone: then they may be another claim's.
    pub fn current_key(&self) -> Option<&Arc<ClaimKey>> {
        let is_gone = matches!(self.object, Some(Lookup::Gone(_) | Lookup::Absent));
        self.key.as_ref().filter(|_| !is_gone)
    }

    /// The object.
    pub fn object(&self) -> Option<&Claim> {
        Some(self.object.as_ref()?.found()?)
    }
}

/// All mounts on this node of one `PersistentVolume`, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The name of the `PersistentVolume`.
    pub pv_name: String,
    /// Its mounts, at least one; those with a known CSI handle first, else in the order of the mount table.
    pub mounts: Vec<PodMount>,
    /// The object.
    pub pv: Option<Arc<PersistentVolume>>,
    /// The claim bound to it.
    pub claim: BoundClaim,
}

impl Volume {
    /// Kind and instance of the storage that holds its data: from the object, else from `vol_data.json`.
    pub fn source(&self) -> Option<(&str, Option<&str>)> {
        if let Some(pv) = &self.pv {
            return pv.source.as_ref().map(|source| (source.kind.as_str(), source.instance.as_deref()));
        }
        let csi = self.mounts.iter().find_map(|of| of.mount.csi.as_ref())?;
        Some((&csi.driver, Some(&csi.handle)))
    }

    /// The pods that use it, as far as they are known; one for each mount.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.mounts.iter().filter_map(|PodMount { pod, .. }| pod.as_deref())
    }
}
