//! The label sets of volumes, kept from one exposition to the next while the volumes stay the same: making them costs
//! more than writing them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::infos;
use super::labels::{self, LabelSet};
use crate::snapshot::MeasuredVolume;
use crate::volume::Volume;

/// All label sets of a volume but those of its failures.
#[derive(Debug)]
struct OfVolume {
    volume: Arc<Volume>,
    labels: LabelSet,
    mounts: Vec<LabelSet>,
    info: LabelSet,
    request: Option<(LabelSet, u128)>,
}

impl OfVolume {
    fn new(volume: &Arc<Volume>) -> Self {
        Self {
            labels: labels::of_volume(volume),
            mounts: infos::of_mounts(volume).collect(),
            info: infos::of_volume(volume),
            request: infos::request(volume),
            volume: Arc::clone(volume),
        }
    }
}

/// The label sets of a snapshot's volumes. One that is there twice would make Prometheus drop data: the second is left
/// out.
#[derive(Debug, Default)]
pub(super) struct Kept {
    volumes: Vec<Arc<OfVolume>>,
    /// Which label sets are left out: volumes by their place, mounts by that and their place in it.
    repeated_volumes: HashSet<usize>,
    repeated_mounts: HashSet<(usize, usize)>,
}

impl Kept {
    /// Whether these are the label sets of these volumes.
    pub(super) fn are_of(&self, statuses: &[MeasuredVolume]) -> bool {
        let is_same =
            |(kept, status): (&Arc<OfVolume>, &MeasuredVolume)| Arc::ptr_eq(&kept.volume, &status.volume);
        self.volumes.len() == statuses.len() && self.volumes.iter().zip(statuses).all(is_same)
    }

    /// Makes the label sets of these volumes, but those that are there.
    pub(super) fn renewed(&self, statuses: &[MeasuredVolume]) -> Self {
        let before: HashMap<&str, &Arc<OfVolume>> =
            self.volumes.iter().map(|kept| (kept.volume.pv_name.as_str(), kept)).collect();
        let of_volume = |status: &MeasuredVolume| {
            let before = before.get(status.volume.pv_name.as_str());
            match before.filter(|kept| Arc::ptr_eq(&kept.volume, &status.volume)) {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(OfVolume::new(&status.volume)),
            }
        };
        let volumes: Vec<_> = statuses.iter().map(of_volume).collect();
        let repeated_volumes = repeated(volumes.iter().enumerate().map(|(at, kept)| (at, &kept.labels)));
        let all = Self { volumes, repeated_volumes, repeated_mounts: HashSet::new() };
        Self { repeated_mounts: repeated(all.placed_mounts()), ..all }
    }

    /// How many are left out.
    pub(super) fn repeated(&self) -> usize {
        self.repeated_volumes.len() + self.repeated_mounts.len()
    }

    /// The labels of each volume, and its place among the snapshot's.
    pub(super) fn volumes(&self) -> impl Iterator<Item = (usize, &LabelSet)> {
        self.distinct().map(|(at, kept)| (at, &kept.labels))
    }

    pub(super) fn mounts(&self) -> impl Iterator<Item = &LabelSet> {
        let mounts = self.placed_mounts();
        mounts.filter(|(at, _)| !self.repeated_mounts.contains(at)).map(|(_, labels)| labels)
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = &LabelSet> {
        self.distinct().map(|(_, kept)| &kept.info)
    }

    /// What claims ask for.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&LabelSet, u128)> {
        self.distinct().filter_map(|(_, kept)| kept.request.as_ref().map(|(labels, bytes)| (labels, *bytes)))
    }

    fn placed_mounts(&self) -> impl Iterator<Item = ((usize, usize), &LabelSet)> {
        self.distinct().flat_map(|(at, kept)| {
            kept.mounts.iter().enumerate().map(move |(mount, labels)| ((at, mount), labels))
        })
    }

    fn distinct(&self) -> impl Iterator<Item = (usize, &OfVolume)> {
        let volumes = self.volumes.iter().enumerate().map(|(at, kept)| (at, &**kept));
        volumes.filter(|(at, _)| !self.repeated_volumes.contains(at))
    }
}

/// The keys of label sets that are there before.
fn repeated<'a, K: std::hash::Hash + Eq>(sets: impl Iterator<Item = (K, &'a LabelSet)>) -> HashSet<K> {
    let mut seen = HashSet::new();
    sets.filter(|(_, set)| !seen.insert(*set)).map(|(key, _)| key).collect()
}
