//! The mount table as a source: the node's volumes with their metadata, measured.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::filesystems::Filesystems;
use super::join::JoinedVolumes;
use super::metrics::CollectorMetrics;
use crate::cluster::MetadataHandle;
use crate::node::Node;
use crate::runtime::Deadline;
use crate::snapshot::MeasuredVolume;
use crate::volume::{Exclusions, Measurement, ProbeResult, Reason, VolumeMount};

/// A node, the metadata of its volumes, and both joined.
pub(super) struct Mounts {
    pub(super) node: Node,
    pub(super) metadata: MetadataHandle,
    pub(super) joined: JoinedVolumes,
    /// The size of each volume when it was measured last, by the volume's name.
    sizes: HashMap<String, u128>,
    filesystems: Filesystems,
}

impl Mounts {
    pub(super) fn new(node: Node, metadata: MetadataHandle, exclusions: Exclusions) -> Self {
        let joined = JoinedVolumes::new(exclusions);
        Self { node, metadata, joined, sizes: HashMap::new(), filesystems: Filesystems::default() }
    }

    /// Finds the volumes that are mounted now.
    pub(super) fn scan(&mut self, now: Instant, deadline: &Deadline) {
        let mounts = self.node.scan(now, deadline);
        let metadata = self.metadata.update(&mounts);
        self.joined.update(mounts, metadata, Instant::now());
    }

    /// Measures these volumes. A mount that is not there any more makes the table be read again: one that was unmounted
    /// during the scrape is left out, and only one that the table still shows is an error.
    pub(super) fn measure(&mut self, deadline: &Deadline, metrics: &CollectorMetrics) -> Vec<MeasuredVolume> {
        let results = self.node.probe(&self.joined.mounts, deadline);
        metrics.observe_probes(&self.joined.volumes, results.iter().map(|(_, duration)| *duration));
        let results: Vec<_> = results.into_iter().map(|(result, _)| result).collect();
        let is_gone = |result: &ProbeResult| result.is_err_and(|error| error.reason == Reason::NotMounted);
        let has_gone = results.iter().any(is_gone);
        let mut volumes = self.joined.measured(results);
        self.report_resizes(&volumes);
        if has_gone {
            let mounted = self.node.rescan(Instant::now());
            let mounted: HashSet<_> = mounted.iter().map(|mount| mount.identity()).collect();
            let is_mounted = |mount: &VolumeMount| mounted.contains(&mount.identity());
            volumes = volumes.into_iter().filter_map(|volume| volume.retain_mounts(is_mounted)).collect();
        }
        self.filesystems.count(&mut volumes);
        volumes
    }

    /// Has the claims of volumes read again that are larger or smaller than at the last collection.
    fn report_resizes(&mut self, volumes: &[MeasuredVolume]) {
        let mut before = std::mem::take(&mut self.sizes);
        for volume in volumes {
            let before = before.remove_entry(&volume.volume.pv_name);
            let (name, before) = before
                .map_or_else(|| (volume.volume.pv_name.clone(), None), |(name, size)| (name, Some(size)));
            let size = volume.measurement().map(Measurement::size);
            if before.zip(size).is_some_and(|(before, size)| before != size) {
                self.metadata.report_resize(&name);
            }
            self.sizes.extend(size.or(before).map(|size| (name, size)));
        }
    }
}
