//! One collection: the node's volumes, what was measured of them and what is known about them, as a snapshot.

mod changes;
mod join;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use shared::{CollectorGone, Request, Shared};

use crate::cluster::ObjectsFile;
use crate::node::Node;
use crate::snapshot::{ExporterStatus, Snapshot, SourceStatus};
use crate::volume::{Metadata, Mount};
use changes::Changes;
use join::{Grouped, Measured};

/// Makes snapshots; keeps what lasts from one to the next.
pub struct Collector {
    node: Node,
    objects: Option<ObjectsFile>,
    changes: Changes,
}

impl Collector {
    /// Collects from a node and, where there is one, a file of objects.
    #[must_use]
    pub fn new(node: Node, objects: Option<ObjectsFile>) -> Self {
        Self { node, objects, changes: Changes::default() }
    }

    /// Makes a snapshot, by the deadline at the latest but for what needs no waiting.
    pub fn collect(&mut self, deadline: Instant) -> Snapshot {
        let start = Instant::now();
        let metadata = match &mut self.objects {
            Some(objects) => objects.metadata(),
            None => Arc::new(Metadata::default()),
        };
        let Grouped { volumes, ambiguous } = join::group(self.node.scan(start), &metadata);
        let measured = self.measure(volumes.iter().flat_map(|volume| &volume.mounts), deadline);
        let snapshot = Snapshot {
            volumes: join::join(volumes, measured, &metadata),
            ambiguous,
            table: self.node.status(),
            sources: self.sources(),
            metadata_age: self.metadata_age(),
            exporter: ExporterStatus { collect_time: start.elapsed(), ..ExporterStatus::default() },
        };
        self.changes.log(&snapshot);
        snapshot
    }

    fn measure<'a>(
        &mut self,
        mounts: impl Iterator<Item = &'a Arc<Mount>>,
        deadline: Instant,
    ) -> Vec<Measured> {
        let mounts: Vec<Arc<Mount>> = mounts.cloned().collect();
        let answers = self.node.measure(&mounts, deadline);
        let still_mounted = self.node.still_mounted(&mounts, Instant::now());
        let measured = answers.into_iter().zip(still_mounted);
        measured.map(|(answer, still_mounted)| Measured { answer, still_mounted }).collect()
    }

    fn sources(&self) -> Vec<SourceStatus> {
        let objects =
            self.objects.as_ref().map(|objects| SourceStatus { name: "objects", success: objects.success() });
        let mounts = SourceStatus { name: "mounts", success: self.node.status().readable };
        [Some(mounts), objects].into_iter().flatten().collect()
    }

    fn metadata_age(&self) -> Option<Duration> {
        self.objects.as_ref()?.age(SystemTime::now())
    }
}
