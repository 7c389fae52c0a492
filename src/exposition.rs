//! Snapshots as bytes for Prometheus.

mod catalogue;
mod encoder;
mod format;
mod info_metrics;
mod label_cache;
mod labels;
mod negotiate;
mod series;

use std::sync::Arc;

pub use catalogue::{FAMILIES, Family, Kind};
pub use format::{Encoding, Format};
pub use negotiate::negotiate;
pub use series::Series;

use crate::snapshot::Snapshot;
use label_cache::LabelCache;

/// Makes series of snapshots; keeps the label sets that the next snapshot can use, and counts dropped series.
#[derive(Debug, Default)]
pub struct Encoder {
    labels: Arc<LabelCache>,
    dropped_series: u64,
}

impl Encoder {
    /// The series of a snapshot, for all encodings.
    pub fn prepare(&mut self, snapshot: Snapshot) -> Series {
        if !self.labels.is_current(&snapshot.volumes) {
            self.labels = Arc::new(self.labels.update(&snapshot.volumes));
        }
        Series::new(snapshot, Arc::clone(&self.labels), &mut self.dropped_series)
    }
}

#[cfg(test)]
mod tests;
