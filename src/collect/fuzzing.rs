//! For `fuzz/`: mounts, answers and metadata joined without a node.

use std::sync::Arc;

use super::join::{self, Grouped, Measured};
use crate::snapshot::{Snapshot, TableStatus};
use crate::volume::{Answer, Metadata, Mount};

/// The snapshot of these mounts, all of them measured by `measure` and still there.
pub fn snapshot(
    mounts: Vec<Arc<Mount>>,
    metadata: &Metadata,
    measure: impl Fn(&Mount) -> Answer,
) -> Snapshot {
    let table = TableStatus { readable: true, rows: mounts.len(), reads: 1, ..TableStatus::default() };
    let Grouped { volumes, ambiguous } = join::group(mounts, metadata);
    let mounts = volumes.iter().flat_map(|volume| &volume.mounts);
    let measured = mounts.map(|mount| Measured { answer: measure(mount), still_mounted: true }).collect();
    let volumes = join::join(volumes, measured, metadata);
    Snapshot { volumes, ambiguous, table, ..Snapshot::default() }
}
