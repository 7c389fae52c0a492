//! Snapshots as bytes for Prometheus.

mod catalogue;
mod infos;
mod kept;
mod labels;
mod negotiate;
mod series;
mod text;

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

pub use catalogue::{FAMILIES, Family, Kind};
pub use negotiate::negotiate;
pub use text::Format;

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

/// Compression costs far more than everything else; level 1 costs a sixth of level 6 and packs these texts nearly as well.
const LEVEL: Compression = Compression::new(1);
/// What is written reaches the encoder in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;

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

    /// The exposition's bytes.
    #[must_use]
    pub fn write(&self, encoding: Encoding) -> Bytes {
        let mut bytes = Vec::new();
        let written = if encoding.gzip {
            self.write_gzip(encoding.format, &mut bytes)
        } else {
            text::write(&self.0, encoding.format, &mut bytes)
        };
        // Writing to memory does not fail.
        debug_assert!(written.is_ok(), "{written:?}");
        // It stays until the slowest client has it.
        bytes.shrink_to_fit();
        bytes.into()
    }

    fn write_gzip(&self, format: Format, bytes: &mut Vec<u8>) -> io::Result<()> {
        let encoder = GzEncoder::new(bytes, LEVEL);
        let mut pieces = io::BufWriter::with_capacity(PIECE_BYTES, encoder);
        text::write(&self.0, format, &mut pieces)?;
        pieces.flush()?;
        let encoder = pieces.into_inner().map_err(io::IntoInnerError::into_error)?;
        encoder.finish().map(drop)
    }
}

#[cfg(test)]
mod tests;
