//! The mount table's part of a collection: which volumes there are, what is known of them, and how full they are.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use super::earlier::Earlier;
use super::join::JoinedVolumes;
use crate::cluster::MetadataHandle;
use crate::node::Node;
use crate::runtime::Deadline;
use crate::snapshot::{MeasuredVolume, MountTableStatus};
use crate::volume::VolumeMount;

/// How often is measured in one collection while the mount table changes.
const MOST_ATTEMPTS: usize = 3;
/// The share of a collection's time that measuring again may take besides.
const EXTRA_SHARE: u32 = 20;

/// A node, and what is known of its volumes.
pub(super) struct Mounts {
    node: Node,
    metadata: MetadataHandle,
    known: JoinedVolumes,
}

impl Mounts {
    pub(super) fn new(node: Node, metadata: MetadataHandle) -> Self {
        Self { node, metadata, known: JoinedVolumes::default() }
    }

    /// Finds the volumes that are mounted now.
    pub(super) fn look(&mut self, deadline: &Deadline) {
        let mounts = self.node.scan(Instant::now(), deadline.instant());
        let metadata = self.metadata.update(&mounts);
        self.known.update(mounts, metadata, Instant::now());
    }

    /// The volumes that were found, measured, and whether the deadline cut nothing off. Where the mount table changed
    /// meanwhile, they are found and measured again: figures may be of something that was there for a moment only.
    pub(super) fn measure(&mut self, start: Instant, deadline: &Deadline) -> (Vec<MeasuredVolume>, bool) {
        let given = deadline.instant();
        let mut until = given;
        let mut earlier = Earlier::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mounts = &self.known.mounts;
            let mut answers = self.node.measure(mounts, until);
            earlier.complete(mounts, &mut answers);
            let now = Instant::now();
            let has_changed = self.node.has_changed(now);
            if has_changed && attempts < MOST_ATTEMPTS {
                earlier = Earlier { mounts: mounts.clone(), answers };
                // What answers does so at once, and what hangs is known by now.
                until = given.max(now) + given.saturating_duration_since(start) / EXTRA_SHARE;
                self.look(&deadline.at(until));
                continue;
            }
            let mut volumes = self.known.measured(answers);
            if has_changed {
                let mounted = self.node.mounted();
                let there: HashSet<_> = mounted.iter().map(|mount| mount.identity()).collect();
                let keep = |mount: &VolumeMount| there.contains(&mount.identity());
                volumes = volumes.into_iter().filter_map(|volume| volume.retain_mounts(keep)).collect();
            }
            return (volumes, now < until);
        }
    }

    /// The kubelet's directories, as they are reached here.
    pub(super) fn kubelet_directories(&self) -> Vec<PathBuf> {
        self.node.kubelet_directories()
    }

    /// Names left out because several pods use them for different volumes of their own.
    pub(super) fn ambiguous(&self) -> usize {
        self.known.ambiguous
    }

    /// Names left out until more is known of them.
    pub(super) fn pending(&self) -> usize {
        self.known.pending
    }

    /// The pods of mounts that are left out for either reason.
    pub(super) fn left_out_pods(&self) -> &HashSet<String> {
        &self.known.left_out_pods
    }

    pub(super) fn table(&self) -> MountTableStatus {
        self.node.status()
    }

    pub(super) fn metadata(&self) -> &MetadataHandle {
        &self.metadata
    }
}
