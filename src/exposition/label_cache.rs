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
            request: info_metrics::claim_request_sample(volume),
            volume: Arc::clone(volume),
        }
    }
}

/// The labels of a snapshot's volumes, in their order. Two samples with the same labels would make Prometheus drop data,
/// so a second volume of the same name has none.
#[derive(Debug, Default)]
pub(super) struct LabelCache {
    volumes: Vec<Arc<Volume>>,
    labels: Vec<Option<Arc<EncodedLabels>>>,
}

impl LabelCache {
    /// Whether it has the labels of exactly these volumes.
    pub(super) fn is_current(&self, measured: &[MeasuredVolume]) -> bool {
        let is_same =
            |(cached, measured): (&Arc<Volume>, &MeasuredVolume)| Arc::ptr_eq(cached, &measured.volume);
        self.volumes.len() == measured.len() && self.volumes.iter().zip(measured).all(is_same)
    }

    /// The labels of these volumes; encodes those that are new or have changed.
    pub(super) fn update(&self, measured: &[MeasuredVolume]) -> Self {
        let cached: HashMap<&str, &Arc<EncodedLabels>> =
            self.labels.iter().flatten().map(|cached| (cached.volume.pv_name.as_str(), cached)).collect();
        let mut names = HashSet::new();
        let labels = |MeasuredVolume { volume, .. }: &MeasuredVolume| {
            if !names.insert(volume.pv_name.clone()) {
                return None;
            }
            let hit =
                cached.get(volume.pv_name.as_str()).filter(|cached| Arc::ptr_eq(&cached.volume, volume));
            Some(hit.map_or_else(|| Arc::new(EncodedLabels::new(volume)), |hit| Arc::clone(hit)))
        };
        Self {
            labels: measured.iter().map(labels).collect(),
            volumes: measured.iter().map(|measured| Arc::clone(&measured.volume)).collect(),
        }
    }

    /// How many label sets are left out.
    pub(super) fn dropped(&self) -> u64 {
        let of_volume =
            |labels: &Option<Arc<EncodedLabels>>| labels.as_ref().map_or(1, |labels| labels.duplicate_mounts);
        self.labels.iter().map(of_volume).sum()
    }

    /// The labels, each with its position among the snapshot's volumes.
    pub(super) fn volumes(&self) -> impl Iterator<Item = (usize, &EncodedLabels)> {
        self.labels.iter().enumerate().filter_map(|(at, labels)| Some((at, labels.as_deref()?)))
    }
}
