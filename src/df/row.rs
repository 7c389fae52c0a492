//! A volume as one row: what of a snapshot is shown of it.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::snapshot::{ClaimStats, MeasuredVolume, Snapshot};
use crate::volume::{ClaimKey, Inodes, Measurement};

/// One volume; the names are those of the JSON, and what is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volume: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) pods: BTreeSet<String>,
    #[serde(flatten)]
    pub(super) figures: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requested_bytes: Option<u128>,
    /// Why mounts of it could not be measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<&'static str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storage_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fstype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mountpoint: Option<String>,
}

/// Its figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) used_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) used_bytes: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size_bytes: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) available_bytes: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inodes_used_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inodes_used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inodes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inodes_available: Option<u64>,
}

/// All rows: of the volumes that are mounted, and of the claims that only the kubelet knows.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Row> {
    let claims = snapshot.unmounted_claims().into_iter();
    let mounted = snapshot.volumes.iter().map(Row::of_volume);
    mounted.chain(claims.map(|(key, of)| Row::of_claim(key, &of))).collect()
}

impl Row {
    fn of_volume(status: &MeasuredVolume) -> Self {
        let volume = &status.volume;
        let pv = volume.pv.as_deref();
        let key = volume.claim.key();
        // A pod's claims are of its own namespace.
        let namespace = key.map(|key| &key.namespace).or(volume.pods().map(|pod| &pod.namespace).next());
        let source = volume.source();
        let measured = status.mounts().find(|(_, result)| result.is_ok());
        let mount = measured.map_or(&volume.mounts[0].mount, |(of, _)| &of.mount);
        Self {
            namespace: namespace.cloned(),
            claim: key.map(|key| key.name.clone()),
            volume: Some(volume.pv_name.clone()),
            pods: volume.pods().map(|pod| pod.name.clone()).collect(),
            figures: status.measurement().map(Shown::from).unwrap_or_default(),
            requested_bytes: volume.claim.object().and_then(|claim| claim.requested_bytes),
            errors: status.errors().iter().map(|error| error.reason.as_str()).collect(),
            kind: source.as_ref().map(|source| source.kind.clone()),
            instance: source.as_ref().and_then(|source| source.instance.clone()),
            storage_class: pv.and_then(|pv| pv.storage_class.clone()),
            mode: Some(mount.mode.as_str()),
            read_only: status.read_only(),
            device: Some(mount.device.to_string_lossy().into_owned()),
            fstype: Some(mount.fstype.to_string_lossy().into_owned()),
            mountpoint: Some(mount.mountpoint.to_string_lossy().into_owned()),
        }
    }

    fn of_claim(key: &ClaimKey, of: &[&ClaimStats]) -> Self {
        Self {
            namespace: Some(key.namespace.clone()),
            claim: Some(key.name.clone()),
            pods: of.iter().filter_map(|status| status.pod.as_deref()).map(str::to_owned).collect(),
            figures: of.iter().find_map(|status| status.stats.figures()).map(Shown::from).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// How full it is, of bytes or of inodes.
    pub(super) fn percent(&self, of_inodes: bool) -> Option<f64> {
        if of_inodes { self.figures.inodes_used_percent } else { self.figures.used_percent }
    }

    /// Whether none of its mounts could be measured.
    pub(super) fn has_failed(&self) -> bool {
        !self.errors.is_empty() && self.figures == Shown::default()
    }

    /// What failed first, for nobody knows how full it is; then the fullest; then what has no such figure.
    pub(super) fn cmp(&self, other: &Self, of_inodes: bool) -> Ordering {
        let percent = |row: &Self| row.percent(of_inodes).unwrap_or(-1.0);
        let names = |row: &Self| (row.namespace.clone(), row.claim.clone(), row.volume.clone());
        let by_failure = other.has_failed().cmp(&self.has_failed());
        let by_percent = || percent(other).total_cmp(&percent(self));
        by_failure.then_with(by_percent).then_with(|| names(self).cmp(&names(other)))
    }
}

impl From<Measurement> for Shown {
    fn from(figures: Measurement) -> Self {
        match figures {
            Measurement::Block { size } => Self { size_bytes: Some(size), ..Self::default() },
            Measurement::Filesystem(usage) => Self {
                used_percent: usage.percent_used(),
                used_bytes: Some(usage.used),
                size_bytes: Some(usage.total),
                available_bytes: Some(usage.available),
                ..Self::of_inodes(usage.inodes)
            },
        }
    }
}

impl Shown {
    fn of_inodes(inodes: Option<Inodes>) -> Self {
        Self {
            inodes_used_percent: inodes.and_then(|inodes| inodes.percent_used()),
            inodes_used: inodes.map(|inodes| inodes.used()),
            inodes: inodes.map(|inodes| inodes.total),
            inodes_available: inodes.map(|inodes| inodes.free),
            ..Self::default()
        }
    }
}
