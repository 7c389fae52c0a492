//! One collection: the node's volumes, what was measured of them and what is known about them, as a snapshot.

mod changes;
mod earlier;
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
use earlier::Earlier;
use join::{Grouped, Measured};

/// How often is measured in one collection while the mount table changes.
const MOST_ATTEMPTS: usize = 3;
/// The share of a collection's time that measuring again may take besides.
const EXTRA_SHARE: u32 = 20;

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
        let (Grouped { volumes, ambiguous }, measured) = self.measure(&metadata, start, deadline);
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

    /// The volumes and one measurement a mount. Where the mount table changed while they were measured, they are
    /// measured again: figures may be of something that was there for a moment only.
    fn measure(
        &mut self,
        metadata: &Metadata,
        start: Instant,
        deadline: Instant,
    ) -> (Grouped, Vec<Measured>) {
        let mut until = deadline;
        let mut earlier = Earlier::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let grouped = join::group(self.node.scan(Instant::now()), metadata);
            let mounts: Vec<Arc<Mount>> =
                grouped.volumes.iter().flat_map(|volume| &volume.mounts).cloned().collect();
            let mut answers = self.node.measure(&mounts, until);
            earlier.complete(&mounts, &mut answers);
            let now = Instant::now();
            let has_changed = self.node.has_changed(now);
            if has_changed && attempts < MOST_ATTEMPTS {
                earlier = Earlier { mounts, answers };
                // What answers does so at once, and what hangs is known by now.
                until = deadline.max(now) + deadline.saturating_duration_since(start) / EXTRA_SHARE;
                continue;
            }
            let still_mounted =
                if has_changed { self.node.still_mounted(&mounts) } else { vec![true; mounts.len()] };
            let measured = answers.into_iter().zip(still_mounted);
            let measured = measured.map(|(answer, still_mounted)| Measured { answer, still_mounted });
            return (grouped, measured.collect());
        }
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
