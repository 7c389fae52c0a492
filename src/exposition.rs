//! Snapshots as bytes for Prometheus.

mod catalogue;
mod encoder;
mod info_metrics;
mod label_cache;
mod labels;
mod negotiate;
mod series;

use std::collections::HashSet;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub use catalogue::{FAMILIES, Family};
pub use negotiate::{Encoding, Format, negotiate};
pub use series::Series;

use crate::snapshot::Snapshot;
use crate::volume::Selections;
use label_cache::LabelCache;

/// Makes series of snapshots; keeps the label sets that the next snapshot can use, and counts dropped series.
#[derive(Debug)]
pub struct Encoder {
    selections: Selections,
    labels: Arc<LabelCache>,
    /// Volumes of which labels are left out, which is logged once.
    incomplete: HashSet<String>,
    dropped_series: Counter,
    registry: Arc<Registry>,
}

impl Encoder {
    /// An encoder of expositions with these labels of objects, which end with what is registered.
    pub fn new(selections: Selections, mut registry: Registry) -> Self {
        let dropped_series = Counter::default();
        let help = "Series left out because one with the same labels was already written";
        registry.register("disk_usage_exporter_dropped_series", help, dropped_series.clone());
        Self {
            selections,
            labels: Arc::default(),
            incomplete: HashSet::new(),
            dropped_series,
            registry: Arc::new(registry),
        }
    }

    /// The series of a snapshot, for all encodings.
    pub fn prepare(&mut self, mut snapshot: Snapshot) -> Series {
        // Two samples with the same labels would make Prometheus drop data.
        let all = snapshot.volumes.len();
        snapshot.volumes.dedup_by(|later, first| later.volume.pv_name == first.volume.pv_name);
        if !self.labels.is_current(&snapshot.volumes) {
            self.labels = Arc::new(self.labels.update(&snapshot.volumes, &self.selections));
            self.log_dropped_labels();
        }
        let duplicate_volumes = (all - snapshot.volumes.len()) as u64;
        self.dropped_series.inc_by(duplicate_volumes + self.labels.duplicate_mounts());
        Series { snapshot, labels: Arc::clone(&self.labels), registry: Arc::clone(&self.registry) }
    }

    fn log_dropped_labels(&mut self) {
        let before = std::mem::take(&mut self.incomplete);
        for (pv_name, dropped) in self.labels.dropped() {
            if !before.contains(pv_name) {
                tracing::warn!(
                    event = "labels_dropped",
                    pv_name,
                    dropped,
                    "left out labels of the volume that are too many or too large: choose fewer by --pvc-labels, \
                     --pv-labels and --volume-labels"
                );
            }
            self.incomplete.insert(pv_name.to_owned());
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Selections::default(), Registry::default())
    }
}

#[cfg(test)]
mod tests;
