//! For `fuzz/`: mounts, answers and metadata joined without a node.

use std::sync::Arc;
use std::time::Instant;

use super::filesystems::Filesystems;
use super::join::JoinedVolumes;
use crate::snapshot::{MountTableStatus, Snapshot};
use crate::volume::{Metadata, ProbeResult, VolumeMount};

/// The snapshot of these mounts, all of them measured by `measure` and still there.
pub fn snapshot(
    mounts: Vec<Arc<VolumeMount>>,
    metadata: Arc<Metadata>,
    measure: impl Fn(&VolumeMount) -> ProbeResult,
) -> Snapshot {
    let table = MountTableStatus { readable: true, rows: mounts.len(), ..MountTableStatus::default() };
    let mut known = JoinedVolumes::default();
    known.update(mounts, metadata, Instant::now());
    let answers = known.mounts.iter().map(|mount| measure(mount)).collect();
    let mut volumes = known.measured(answers);
    Filesystems::default().count(&mut volumes);
    Snapshot { volumes, ambiguous: known.ambiguous, table: Some(table), ..Snapshot::default() }
}
