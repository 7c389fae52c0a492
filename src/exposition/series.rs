//! A snapshot with all label sets of its series, ready to be encoded in any format.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::label_cache::{EncodedLabels, LabelCache};
use super::labels::LabelSet;
use crate::snapshot::{MeasuredVolume, Snapshot};

/// A snapshot as series.
#[derive(Debug)]
pub struct Series {
    pub(super) snapshot: Snapshot,
    pub(super) labels: Arc<LabelCache>,
    /// The labels of the snapshot's claims, in their order.
    pub(super) claim_labels: Vec<LabelSet>,
    /// What the exposition ends with.
    pub(super) registry: Arc<Registry>,
}

impl AsRef<Snapshot> for Series {
    fn as_ref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Series {
    /// The volumes with their labels.
    pub(super) fn volumes(&self) -> impl Iterator<Item = (&EncodedLabels, &MeasuredVolume)> {
        self.labels.0.iter().map(Arc::as_ref).zip(&self.snapshot.volumes)
    }
}
