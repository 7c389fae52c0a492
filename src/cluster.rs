//! The Kubernetes side: what the objects of the cluster say about the volumes of this node.

mod api;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod objects;
mod quantity;
mod schema;
mod source;

pub use api::{Access, AccessError, Api, Settings, Status, WATCH_TIME};
pub use objects::{ObjectsError, ObjectsFile};

use crate::volume::LabelFilter;

/// Which labels of which objects become metric labels.
#[derive(Debug, Clone)]
pub struct Selections {
    /// Of `PersistentVolume`s.
    pub pv_labels: LabelFilter,
    /// Of `PersistentVolumeClaim`s.
    pub pvc_labels: LabelFilter,
}
