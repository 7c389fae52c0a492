//! Which rows there are, and in which order.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use crate::snapshot::{ClaimStats, MeasuredVolume, Snapshot};
use crate::volume::{ClaimKey, Inodes, Measurement, Usage};

/// A volume of this node.
pub(super) struct Row<'a> {
    pub(super) claim: Option<&'a ClaimKey>,
    /// Namespaces and names of the pods that mount it; of those of a claim the namespace is the claim's.
    pub(super) pods: BTreeSet<(&'a str, &'a str)>,
    pub(super) figures: Option<Measurement>,
    /// What the mount table says; `None` where only the kubelet knows the claim.
    pub(super) mounted: Option<&'a MeasuredVolume>,
    /// Its driver says that something is wrong with it.
    pub(super) abnormal: bool,
}

/// How full a file system is, by what is used up first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fullness {
    pub(super) percent: f64,
    /// Inodes are the tighter figure.
    pub(super) of_inodes: Option<Inodes>,
}

/// All rows: what was not measured first, for nobody knows how full it is; then the fullest; then what has only a size.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let abnormal = snapshot.claims.iter().filter(|status| status.abnormal == Some(true));
    let abnormal: HashSet<&ClaimKey> = abnormal.map(|status| &*status.claim).collect();
    let is_abnormal = |key: Option<&ClaimKey>| key.is_some_and(|key| abnormal.contains(key));
    let mounted = snapshot.volumes.iter().map(|status| {
        let abnormal = is_abnormal(status.volume.claim.current_key().map(|key| &**key));
        Row { abnormal, ..Row::of_volume(status) }
    });
    let others = snapshot.unmounted_claims().into_iter();
    let others = others.map(|(key, of)| Row { abnormal: is_abnormal(Some(key)), ..Row::of_claim(key, &of) });
    let mut rows: Vec<_> = mounted.chain(others).map(|row| (row.rank(), row)).collect();
    rows.sort_by(|(a, _), (b, _)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    rows.into_iter().map(|(_, row)| row).collect()
}

impl<'a> Row<'a> {
    fn of_volume(status: &'a MeasuredVolume) -> Self {
        let volume = &*status.volume;
        Self {
            claim: volume.claim.key(),
            pods: volume.pods().map(|pod| (pod.namespace.as_str(), pod.name.as_str())).collect(),
            figures: status.measurement(),
            mounted: Some(status),
            abnormal: false,
        }
    }

    fn of_claim(key: &'a ClaimKey, of: &[&'a ClaimStats]) -> Self {
        let pods = of.iter().filter_map(|status| status.pod.as_deref());
        Self {
            claim: Some(key),
            pods: pods.map(|pod| (key.namespace.as_str(), pod)).collect(),
            figures: of.iter().find_map(|status| status.stats.figures()),
            mounted: None,
            abnormal: false,
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        match self.figures? {
            Measurement::Filesystem(usage) => Some(usage),
            Measurement::Block { .. } => None,
        }
    }

    pub(super) fn fullness(&self) -> Option<Fullness> {
        let usage = self.usage()?;
        let inodes =
            usage.inodes.and_then(|of| Some(Fullness { percent: of.percent_used()?, of_inodes: Some(of) }));
        let bytes = usage.percent_used().map(|percent| Fullness { percent, of_inodes: None });
        match (bytes, inodes) {
            (Some(bytes), Some(inodes)) if inodes.percent > bytes.percent => Some(inodes),
            (bytes, inodes) => bytes.or(inodes),
        }
    }

    /// The greatest comes first. Rows of the same rank stay in the order of their names.
    fn rank(&self) -> (bool, f64) {
        (self.figures.is_none(), self.fullness().map_or(-1.0, |fullness| fullness.percent))
    }
}
