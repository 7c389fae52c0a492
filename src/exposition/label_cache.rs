//! The encoded labels of volumes, kept from one exposition to the next as long as the volume stays the same: encoding
//! them costs more than copying them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::info_metrics;
use super::labels::{self, LabelSet};
use crate::snapshot::MeasuredVolume;
use crate::volume::Volume;

/// All label sets of a volume but those of its errors.
#[derive(Debug)]
pub(super) struct EncodedLabels {
    volume: Arc<Volume>,
    pub(super) volume_labels: LabelSet,
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
    fn new(volume: &Arc<Volume>) -> Self {
        let mut seen = HashSet::new();
        let mut mounts: Vec<LabelSet> = info_metrics::mount_info_labels(volume).collect();
        mounts.retain(|labels| seen.insert(labels.clone()));
        Self {
            volume_labels: labels::volume_labels(volume),
            duplicate_mounts: (volume.mounts.len() - mounts.len()) as u64,
            mounts,
            info: info_metrics::volume_info_labels(volume),
            filesystem: info_metrics::filesystem_labels(volume),
            request: info_metrics::claim_request_sample(volume),
            volume: Arc::clone(volume),
        }
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
    pub(super) fn update(&self, measured: &[MeasuredVolume]) -> Self {
        let cached: HashMap<_, _> =
            self.0.iter().map(|cached| (Arc::as_ptr(&cached.volume), cached)).collect();
        let labels = |MeasuredVolume { volume, .. }: &MeasuredVolume| {
            let hit = cached.get(&Arc::as_ptr(volume)).map(|hit| Arc::clone(hit));
            hit.unwrap_or_else(|| Arc::new(EncodedLabels::new(volume)))
        };
        Self(measured.iter().map(labels).collect())
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
