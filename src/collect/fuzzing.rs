//! For `fuzz/`: mounts, answers and metadata joined without a node.

use std::sync::Arc;

use super::known::Known;
use crate::snapshot::{Snapshot, TableStatus};
use crate::volume::{Answer, Metadata, Mount};

/// The snapshot of these mounts, all of them measured by `measure` and still there.
pub fn snapshot(
    mounts: Vec<Arc<Mount>>,
    metadata: Arc<Metadata>,
    measure: impl Fn(&Mount) -> Answer,
) -> Snapshot {
    let table = TableStatus { readable: true, rows: mounts.len(), reads: 1, ..TableStatus::default() };
    let mut known = Known::default();
    known.update(mounts, metadata);
    let answers = known.mounts.iter().map(|mount| measure(mount)).collect();
    Snapshot {
        volumes: known.measured(answers),
        ambiguous: known.ambiguous,
        table: Some(table),
        ..Snapshot::default()
    }
}
