//! The encoded labels of volumes, kept from one exposition to the next as long as the volume stays the same: encoding
//! them costs more than copying them.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::info_metrics;
use super::labels::{self, LabelSet};
use crate::snapshot::MeasuredVolume;
use crate::volume::{MAX_LABEL_SET_BYTES, Selections, Volume};

/// The label sets of all volumes together: an exposition has each ten times.
const MAX_NODE_BYTES: usize = 2 << 20;

/// All label sets of a volume but those of its errors.
#[derive(Debug)]
pub(super) struct EncodedLabels {
    volume: Arc<Volume>,
    pub(super) volume_labels: LabelSet,
    /// The size of `volume_labels` with the labels of objects, whether or not it has them.
    whole_bytes: usize,
    /// The labels of objects are left out, because those of all volumes are too large.
    is_reduced: bool,
    pub(super) mounts: Vec<LabelSet>,
    pub(super) info: LabelSet,
    /// The labels of its file system.
    pub(super) filesystem: Option<LabelSet>,
    /// The labels of the claim's request, and its bytes.
    pub(super) request: Option<(LabelSet, u128)>,
    /// Mounts left out, because their label set is another mount's too.
    duplicate_mounts: u64,
}

impl EncodedLabels {
    fn new(volume: &Arc<Volume>, selections: &Selections) -> Self {
        let mut seen = HashSet::new();
        let mut mounts: Vec<LabelSet> = info_metrics::mount_info_labels(volume).collect();
        mounts.retain(|labels| seen.insert(labels.as_bytes().to_vec()));
        let volume_labels = labels::volume_labels(volume, selections, MAX_LABEL_SET_BYTES);
        Self {
            whole_bytes: volume_labels.as_bytes().len(),
            is_reduced: false,
            volume_labels,
            duplicate_mounts: (volume.mounts.len() - mounts.len()) as u64,
            mounts,
            info: info_metrics::volume_info_labels(volume),
            filesystem: info_metrics::filesystem_labels(volume),
            request: info_metrics::claim_request_sample(volume),
            volume: Arc::clone(volume),
        }
    }

    /// The same without the labels of objects.
    fn reduced(volume: &Arc<Volume>, selections: &Selections) -> Self {
        let whole = Self::new(volume, selections);
        Self { volume_labels: labels::volume_labels(volume, selections, 0), is_reduced: true, ..whole }
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
pub(super) struct LabelCache(Vec<Arc<EncodedLabels>>);

impl LabelCache {
    /// Whether it has the labels of exactly these volumes.
    pub(super) fn is_current(&self, measured: &[MeasuredVolume]) -> bool {
        let is_same = |(cached, measured): (&Arc<EncodedLabels>, &MeasuredVolume)| {
            Arc::ptr_eq(&cached.volume, &measured.volume)
        };
        self.0.len() == measured.len() && self.0.iter().zip(measured).all(is_same)
    }

    /// The labels of these volumes; encodes those that are new or have changed.
    pub(super) fn update(&self, measured: &[MeasuredVolume], selections: &Selections) -> Self {
        let cached: HashMap<_, _> =
            self.0.iter().map(|cached| (Arc::as_ptr(&cached.volume), cached)).collect();
        let labels = |MeasuredVolume { volume, .. }: &MeasuredVolume| {
            let hit = cached.get(&Arc::as_ptr(volume)).map(|hit| Arc::clone(hit));
            hit.unwrap_or_else(|| Arc::new(EncodedLabels::new(volume, selections)))
        };
        let mut updated = Self(measured.iter().map(labels).collect());
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
                let encode = if is_reduced { EncodedLabels::reduced } else { EncodedLabels::new };
                *labels = Arc::new(encode(&labels.volume, selections));
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

    /// How many mounts are left out.
    pub(super) fn duplicate_mounts(&self) -> u64 {
        self.0.iter().map(|labels| labels.duplicate_mounts).sum()
    }

    /// The labels, each with its volume in this snapshot.
    pub(super) fn of<'a>(
        &'a self,
        measured: &'a [MeasuredVolume],
    ) -> impl Iterator<Item = (&'a EncodedLabels, &'a MeasuredVolume)> + Clone {
        self.0.iter().map(Arc::as_ref).zip(measured)
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
