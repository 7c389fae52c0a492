//! One collection: the node's volumes, what was measured of them and what is known about them, as a snapshot.

mod changes;
mod earlier;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod join;
mod known;
mod metadata;
mod shared;

use std::time::Instant;

pub use metadata::MetadataSource;
pub use shared::{Collected, CollectorGone, LEAST_PATIENCE, Request, Shared};

use crate::node::{Interrupt, Node};
use crate::snapshot::{ExporterStatus, Snapshot, SourceStatus, VolumeStatus};
use changes::Changes;
use earlier::Earlier;
use known::Known;
use metadata::MetadataStatus;

/// How often is measured in one collection while the mount table changes.
const MOST_ATTEMPTS: usize = 3;
/// The share of a collection's time that measuring again may take besides.
const EXTRA_SHARE: u32 = 20;

/// Makes snapshots; keeps what lasts from one to the next.
pub struct Collector {
    node: Node,
    metadata: MetadataSource,
    known: Known,
    changes: Changes,
}

impl Collector {
    /// Collects from a node and a source of metadata.
    #[must_use]
    pub fn new(node: Node, metadata: MetadataSource) -> Self {
        Self { node, metadata, known: Known::default(), changes: Changes::default() }
    }

    /// Makes a snapshot, by the deadline at the latest but for what needs no waiting.
    pub fn collect(&mut self, deadline: Instant) -> Snapshot {
        let start = Instant::now();
        let (volumes, in_time) = self.measure(start, deadline);
        let MetadataStatus { mut sources, age, requests } = self.metadata.status();
        sources.insert(0, SourceStatus { name: "mounts", success: self.node.status().readable });
        let snapshot = Snapshot {
            volumes,
            in_time,
            ambiguous: self.known.ambiguous,
            pending: self.known.pending,
            table: self.node.status(),
            sources,
            metadata_age: age,
            kubernetes_requests: requests,
            exporter: ExporterStatus { collect_time: start.elapsed(), ..ExporterStatus::default() },
        };
        self.changes.log(&snapshot);
        snapshot
    }

    /// The volumes, measured, and whether the deadline cut nothing off. Where the mount table changed meanwhile, they are measured again: figures may be of
    /// something that was there for a moment only.
    fn measure(&mut self, start: Instant, deadline: Instant) -> (Vec<VolumeStatus>, bool) {
        let mut until = deadline;
        let mut earlier = Earlier::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mounts = self.node.scan(Instant::now(), until);
            let metadata = self.metadata.metadata(&mounts);
            self.known.update(mounts, metadata);
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
}
