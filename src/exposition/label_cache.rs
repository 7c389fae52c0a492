//! The encoded labels of volumes, kept from one exposition to the next as long as the volume stays the same: encoding
//! them costs more than copying them.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::info_metrics::{claim_labels, filesystem_labels, mount_info_labels, volume_info_labels};
use super::labels::{LabelSet, volume_labels};
use crate::snapshot::MeasuredVolume;
use crate::volume::{MAX_LABEL_SET_BYTES, Selections, Volume};

/// The label sets of all volumes together: an exposition has each ten times.
const MAX_NODE_BYTES: usize = 2 << 20;

/// All label sets of a volume but those of its errors.
#[derive(Debug, Clone)]
pub(super) struct EncodedLabels {
    pub(super) volume: Arc<Volume>,
    pub(super) volume_labels: LabelSet,
    /// The size of `volume_labels` with the labels of objects, whether or not it has them.
    whole_bytes: usize,
    /// The labels of objects are left out, because those of all volumes are too large.
    is_reduced: bool,
    /// One for each mount, but for those whose labels are another mount's too.
    pub(super) mounts: Vec<LabelSet>,
    pub(super) info: LabelSet,
    pub(super) filesystem: Option<LabelSet>,
    pub(super) claim: LabelSet,
}

impl EncodedLabels {
    fn new(volume: &Arc<Volume>, selections: &Selections) -> Self {
        let mut seen = HashSet::new();
        let mounts = volume.mounts.iter().map(|of| mount_info_labels(volume, of));
        let mounts = mounts.filter(|labels| seen.insert(labels.clone())).collect();
        let volume_labels = volume_labels(volume, selections, MAX_LABEL_SET_BYTES);
        Self {
            whole_bytes: volume_labels.as_bytes().len(),
            is_reduced: false,
            volume_labels,
            mounts,
            info: volume_info_labels(volume),
            filesystem: filesystem_labels(volume),
            claim: claim_labels(volume),
            volume: Arc::clone(volume),
        }
    }

    /// How many labels are left out because of their number or size.
    pub(super) fn dropped(&self) -> usize {
        let of_pv = self.volume.pv.as_ref().map_or(0, |pv| pv.dropped_labels);
        let of_claim = self.volume.claim.object().map_or(0, |claim| claim.dropped_labels);
        let sets = self.mounts.iter().chain([&self.volume_labels, &self.info]);
        of_pv + of_claim + sets.map(|set| set.dropped).sum::<usize>()
    }
}

/// The labels of a snapshot's volumes, in their order.
#[derive(Debug, Default)]
pub(super) struct LabelCache(pub(super) Vec<Arc<EncodedLabels>>);

impl LabelCache {
    /// Whether it has the labels of exactly these volumes.
    pub(super) fn is_current(&self, measured: &[MeasuredVolume]) -> bool {
        let cached = self.0.iter().map(|labels| Arc::as_ptr(&labels.volume));
        cached.eq(measured.iter().map(|measured| Arc::as_ptr(&measured.volume)))
    }

    /// The labels of these volumes; encodes those that are new or have changed.
    pub(super) fn update(&self, measured: &[MeasuredVolume], selections: &Selections) -> Self {
        let cached: HashMap<_, _> =
            self.0.iter().map(|labels| (Arc::as_ptr(&labels.volume), labels)).collect();
        let labels = measured.iter().map(|MeasuredVolume { volume, .. }| {
            let cached = cached.get(&Arc::as_ptr(volume)).map(|labels| Arc::clone(labels));
            cached.unwrap_or_else(|| Arc::new(EncodedLabels::new(volume, selections)))
        });
        let mut updated = Self(labels.collect());
        updated.limit(selections);
        updated
    }

    /// Leaves out the labels of objects of the volumes that have most, until all together fit.
    fn limit(&mut self, selections: &Selections) {
        let mut bytes: usize = self.0.iter().map(|labels| labels.whole_bytes).sum();
        let mut largest_first: Vec<&mut Arc<EncodedLabels>> = self.0.iter_mut().collect();
        largest_first.sort_by_key(|labels| Reverse(labels.whole_bytes));
        for labels in largest_first {
            let is_reduced = bytes > MAX_NODE_BYTES;
            if labels.is_reduced != is_reduced {
                let labels = Arc::make_mut(labels);
                let max_bytes = if is_reduced { 0 } else { MAX_LABEL_SET_BYTES };
                labels.volume_labels = volume_labels(&labels.volume, selections, max_bytes);
                labels.is_reduced = is_reduced;
            }
            if is_reduced {
                bytes -= labels.whole_bytes - labels.volume_labels.as_bytes().len();
            }
        }
    }

    /// The volumes of which labels are left out because of their number or size, and how many.
    pub(super) fn dropped(&self) -> impl Iterator<Item = (&str, usize)> {
        let dropped = self.0.iter().map(|labels| (labels.volume.pv_name.as_str(), labels.dropped()));
        dropped.filter(|(_, dropped)| *dropped > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::{mount, volume};
    use crate::volume::{BoundClaim, Claim, Lookup, Measurement};

    /// A volume whose set has about 16 KiB, or next to nothing.
    fn measured(number: usize, is_large: bool) -> MeasuredVolume {
        let value = |label: usize| (format!("l{label:02}"), "v".repeat(if is_large { 520 } else { 1 }));
        let claim = Claim { labels: (0..15).map(value).collect(), dropped_labels: 7, ..Claim::default() };
        let claim = BoundClaim { key: None, object: Some(Lookup::Found(Arc::new(claim))) };
        let of_mount = volume(vec![Arc::new(mount(&format!("pv-{number:03}"), "nfs", "uid"))]);
        MeasuredVolume::new(Arc::new(Volume { claim, ..of_mount }), [Ok(Measurement::Block { size: 1 })])
    }

    fn bytes(cache: &LabelCache) -> usize {
        cache.0.iter().map(|labels| labels.volume_labels.as_bytes().len()).sum()
    }

    fn reduced(cache: &LabelCache) -> Vec<usize> {
        let dropped = cache.dropped().enumerate().filter(|(_, (_, dropped))| *dropped > 7);
        dropped.map(|(index, _)| index).collect()
    }

    #[test]
    fn the_largest_sets_of_a_node_lose_objects_labels_first_and_get_them_back() {
        let selections = Selections::default();
        let mut volumes: Vec<_> = (0..100).map(|number| measured(number, false)).collect();
        volumes.extend((100..300).map(|number| measured(number, true)));
        let cache = LabelCache::default().update(&volumes, &selections);
        assert!(cache.0.iter().all(|labels| labels.volume_labels.as_bytes().len() <= MAX_LABEL_SET_BYTES));
        let left = MAX_NODE_BYTES - bytes(&cache);
        assert!(left < MAX_LABEL_SET_BYTES, "{left} bytes left");
        let lost = reduced(&cache);
        assert!(lost.len() > 60 && lost.iter().all(|index| *index >= 100), "{lost:?}");
        assert_eq!(cache.dropped().map(|(_, dropped)| dropped).sum::<usize>(), 300 * 7 + lost.len() * 30);
        let again = cache.update(&volumes, &selections);
        assert!(again.0.iter().zip(&cache.0).all(|(again, before)| Arc::ptr_eq(again, before)));
        volumes.truncate(200);
        let fewer = cache.update(&volumes, &selections);
        assert_eq!(reduced(&fewer), [0; 0]);
        assert!(bytes(&fewer) > 100 * 15 * 1024);
    }
}
