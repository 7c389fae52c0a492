//! Snapshots as bytes for Prometheus.

mod catalogue;
mod encoder;
mod info_metrics;
mod label_cache;
mod labels;
mod negotiate;
mod series;

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub use catalogue::{FAMILIES, Family};
pub use negotiate::{Encoding, Format, negotiate};
pub use series::Series;

use crate::snapshot::Snapshot;
use label_cache::LabelCache;

/// Makes series of snapshots; keeps the label sets that the next snapshot can use, and counts dropped series.
#[derive(Debug)]
pub struct Encoder {
    labels: Arc<LabelCache>,
    dropped_series: Counter,
    registry: Arc<Registry>,
}

impl Encoder {
    /// An encoder of expositions that end with what is registered.
    pub fn new(mut registry: Registry) -> Self {
        let dropped_series = Counter::default();
        let help = "Series left out because one with the same labels was already written";
        registry.register("disk_usage_exporter_dropped_series", help, dropped_series.clone());
        Self { labels: Arc::default(), dropped_series, registry: Arc::new(registry) }
    }

    /// The series of a snapshot, for all encodings.
    pub fn prepare(&mut self, mut snapshot: Snapshot) -> Series {
        // Two samples with the same labels would make Prometheus drop data.
        let all = snapshot.volumes.len();
        snapshot.volumes.dedup_by(|later, first| later.volume.pv_name == first.volume.pv_name);
        if !self.labels.is_current(&snapshot.volumes) {
            self.labels = Arc::new(self.labels.update(&snapshot.volumes));
        }
        let duplicate_volumes = (all - snapshot.volumes.len()) as u64;
        self.dropped_series.inc_by(duplicate_volumes + self.labels.duplicate_mounts());
        Series { snapshot, labels: Arc::clone(&self.labels), registry: Arc::clone(&self.registry) }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Registry::default())
    }
}

#[cfg(test)]
mod tests;
