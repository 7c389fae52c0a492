//! Snapshots as bytes for Prometheus.

mod catalogue;
mod encoder;
mod format;
mod infos;
mod kept;
mod labels;
mod negotiate;
mod series;

use std::sync::Arc;

pub use catalogue::{FAMILIES, Family, Kind};
pub use format::{Encoding, Format};
pub use negotiate::negotiate;
pub use series::Series;

use crate::snapshot::Snapshot;
use kept::Kept;

/// Makes series of snapshots; keeps the label sets that the next snapshot can use, and counts dropped series.
#[derive(Debug, Default)]
pub struct Encoder {
    kept: Arc<Kept>,
    dropped_series: u64,
}

impl Encoder {
    /// The series of a snapshot, for all encodings.
    pub fn prepare(&mut self, snapshot: Snapshot) -> Series {
        if !self.kept.are_of(&snapshot.volumes) {
            self.kept = Arc::new(self.kept.renewed(&snapshot.volumes));
        }
        Series::new(snapshot, Arc::clone(&self.kept), &mut self.dropped_series)
    }
}

#[cfg(test)]
mod tests;
