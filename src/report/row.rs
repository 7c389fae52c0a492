//! A volume as one row: what the table and the page show of it.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use crate::snapshot::{MeasuredVolume, Snapshot, VolumeState};
use crate::volume::{ClaimKey, Inodes, Measurement, Usage, VolumeMount};

/// A mounted volume, or a claim that only the kubelet reports.
#[derive(Default)]
pub(super) struct Row<'a> {
    /// `None` where only the kubelet knows the claim.
    pub(super) volume: Option<&'a MeasuredVolume>,
    pub(super) claim: Option<&'a ClaimKey>,
    /// Namespaces and names of the pods that use it.
    pub(super) pods: BTreeSet<(&'a str, &'a str)>,
    pub(super) measurement: Option<Measurement>,
    /// The CSI driver reports an abnormal condition.
    pub(super) is_abnormal: bool,
}

/// All rows of a snapshot.
pub(super) fn rows(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let abnormal = snapshot.claims.iter().filter(|stats| stats.abnormal == Some(true));
    let abnormal: HashSet<&ClaimKey> = abnormal.map(|stats| &*stats.claim).collect();
    let mounted = snapshot.volumes.iter().map(|measured| {
        let volume = &*measured.volume;
        Row {
            volume: Some(measured),
            claim: volume.claim.key.as_deref(),
            pods: volume.pods().map(|pod| (pod.namespace.as_str(), pod.name.as_str())).collect(),
            measurement: measured.measurement(),
            is_abnormal: volume.claim.current_key().is_some_and(|key| abnormal.contains(&**key)),
        }
    });
    let unmounted = snapshot.unmounted_claims().into_iter().map(|(key, stats)| Row {
        volume: None,
        claim: Some(key),
        pods: stats.iter().filter_map(|of| Some((key.namespace.as_str(), of.pod.as_deref()?))).collect(),
        measurement: stats.iter().find_map(|of| of.stats),
        is_abnormal: abnormal.contains(key),
    });
    mounted.chain(unmounted).collect()
}

/// Sorts by how full the volumes are: unknown first, then the fullest, then those without such a figure, and those without
/// capacity last.
pub(super) fn sort_by_percent<'a>(rows: &mut [Row<'a>], percent: impl Fn(&Row<'a>) -> Option<f64>) {
    let rank = |row: &Row<'a>| (row.is_unknown(), !row.is_unsupported(), percent(row).unwrap_or(-1.0));
    rows.sort_by(|a, b| {
        let names = |row: &Row<'a>| (row.namespace(), row.claim, row.pv_name());
        let by_rank = rank(b).partial_cmp(&rank(a)).unwrap_or(Ordering::Equal);
        by_rank.then_with(|| names(a).cmp(&names(b)))
    });
}

impl<'a> Row<'a> {
    /// The claim's namespace, else the pods': a pod uses claims of its own namespace only.
    pub(super) fn namespace(&self) -> Option<&'a str> {
        let of_pods = || self.pods.first().map(|(namespace, _)| *namespace);
        self.claim.map(|claim| claim.namespace.as_str()).or_else(of_pods)
    }

    pub(super) fn pv_name(&self) -> Option<&'a str> {
        self.volume.map(|measured| measured.volume.pv_name.as_str())
    }

    /// The first measured mount, else the first mount.
    pub(super) fn mount(&self) -> Option<&'a VolumeMount> {
        let mounts = self.volume?.mounts();
        let measured = mounts.clone().find(|(_, result)| result.is_ok());
        measured.or_else(|| mounts.clone().next()).map(|(of, _)| &*of.mount)
    }

    /// It has no capacity, as an object store.
    pub(super) fn is_unsupported(&self) -> bool {
        self.volume.is_some_and(|measured| measured.state() == VolumeState::Unsupported)
    }

    /// It could not be measured.
    pub(super) fn is_unknown(&self) -> bool {
        self.measurement.is_none() && !self.is_unsupported()
    }

    /// Why mounts of it could not be measured.
    pub(super) fn reasons(&self) -> Vec<&'a str> {
        let errors = self.volume.map(MeasuredVolume::errors).unwrap_or_default();
        errors.iter().map(|error| error.reason.as_str()).collect()
    }

    pub(super) fn size(&self) -> Option<u128> {
        Some(self.measurement?.size())
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.measurement?.usage()
    }

    pub(super) fn inodes(&self) -> Option<Inodes> {
        self.usage()?.inodes
    }

    pub(super) fn percent_used(&self) -> Option<f64> {
        self.usage()?.percent_used()
    }

    pub(super) fn inodes_percent_used(&self) -> Option<f64> {
        self.inodes()?.percent_used()
    }
}
