//! One collection: the node's volumes, what was measured of them and what is known about them, as a snapshot.

mod changes;
mod earlier;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod join;
mod known;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use shared::{Collected, CollectorGone, LEAST_PATIENCE, Request, Shared};

use crate::cluster::ObjectsFile;
use crate::node::{Interrupt, Node};
use crate::snapshot::{ExporterStatus, Snapshot, SourceStatus, VolumeStatus};
use crate::volume::Metadata;
use changes::Changes;
use earlier::Earlier;
use known::Known;

/// How often is measured in one collection while the mount table changes.
const MOST_ATTEMPTS: usize = 3;
/// The share of a collection's time that measuring again may take besides.
const EXTRA_SHARE: u32 = 20;

/// Makes snapshots; keeps what lasts from one to the next.
pub struct Collector {
    node: Node,
    objects: Option<ObjectsFile>,
    no_metadata: Arc<Metadata>,
    known: Known,
    changes: Changes,
}

impl Collector {
    /// Collects from a node and, where there is one, a file of objects.
    #[must_use]
    pub fn new(node: Node, objects: Option<ObjectsFile>) -> Self {
        Self {
            node,
            objects,
            no_metadata: Arc::default(),
            known: Known::default(),
            changes: Changes::default(),
        }
    }

    /// Makes a snapshot, by the deadline at the latest but for what needs no waiting.
    pub fn collect(&mut self, deadline: Instant) -> Snapshot {
        let start = Instant::now();
        let metadata = match &mut self.objects {
            Some(objects) => objects.metadata(),
            None => Arc::clone(&self.no_metadata),
        };
        let (volumes, in_time) = self.measure(&metadata, start, deadline);
        let snapshot = Snapshot {
            volumes,
            in_time,
            ambiguous: self.known.ambiguous,
            table: self.node.status(),
            sources: self.sources(),
            metadata_age: self.metadata_age(),
            exporter: ExporterStatus { collect_time: start.elapsed(), ..ExporterStatus::default() },
        };
        self.changes.log(&snapshot);
        snapshot
    }

    /// The volumes, measured, and whether the deadline cut nothing off. Where the mount table changed meanwhile, they are measured again: figures may be of
    /// something that was there for a moment only.
    fn measure(
        &mut self,
        metadata: &Arc<Metadata>,
        start: Instant,
        deadline: Instant,
    ) -> (Vec<VolumeStatus>, bool) {
        let mut until = deadline;
        let mut earlier = Earlier::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.known.update(self.node.scan(Instant::now(), until), Arc::clone(metadata));
            let mounts = &self.known.mounts;
            let mut answers = self.node.measure(mounts, until);
            earlier.complete(mounts, &mut answers);
            let now = Instant::now();
            let has_changed = self.node.has_changed(now);
            if has_changed && attempts < MOST_ATTEMPTS {
                earlier = Earlier { mounts: mounts.clone(), answers };
                // What answers does so at once, and what hangs is known by now.
                until = deadline.max(now) + deadline.saturating_duration_since(start) / EXTRA_SHARE;
                continue;
            }
            let mut volumes = self.known.measured(answers);
            if has_changed {
                known::retain_mounted(&mut volumes, &self.node.still_mounted(mounts));
            }
            return (volumes, now < until);
        }
    }

    /// What ends collections before their deadline, for good.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.node.interrupt()
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
