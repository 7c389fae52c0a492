//! Snapshots as bytes for Prometheus.

mod catalogue;
mod infos;
mod kept;
mod labels;
mod negotiate;
mod series;
mod text;

use std::sync::Arc;

use bytes::Bytes;

pub use catalogue::{FAMILIES, Family, Kind};
pub use negotiate::negotiate;
pub use text::Format;

use crate::packed;
use crate::snapshot::Snapshot;
use kept::Kept;
use series::Series;

/// What is written, and how it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The exposition's format.
    pub format: Format,
    /// Packed by gzip.
    pub gzip: bool,
}

/// Writes expositions; keeps what the next one can use, and counts what no exposition may contain.
#[derive(Debug, Default)]
pub struct Exposition {
    kept: Arc<Kept>,
    dropped_series: u64,
}

/// A snapshot ready to be written in any encoding.
#[derive(Debug)]
pub struct Prepared(Series);

impl Exposition {
    /// Makes the series of a snapshot, once for all encodings.
    pub fn prepare(&mut self, snapshot: Snapshot) -> Prepared {
        if !self.kept.are_of(&snapshot.volumes) {
            self.kept = Arc::new(self.kept.renewed(&snapshot.volumes));
        }
        Prepared(Series::new(snapshot, Arc::clone(&self.kept), &mut self.dropped_series))
    }
}

impl Prepared {
    /// Whether the collection's deadline cut nothing off.
    #[must_use]
    pub fn in_time(&self) -> bool {
        self.0.in_time()
    }

    /// Whether a source of figures has answered.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.0.has_answer()
    }

    /// What it is made from.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.0.snapshot()
    }

    /// The exposition's bytes.
    #[must_use]
    pub fn write(&self, encoding: Encoding) -> Bytes {
        packed::body(encoding.gzip, |out| text::write(&self.0, encoding.format, out))
    }
}

#[cfg(test)]
mod tests;
