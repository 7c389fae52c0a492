//! One collection: the node's volumes, what was measured of them and what is known about them, as a snapshot.

mod changes;
mod claims;
mod earlier;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod hold_back;
mod join;
mod mounts;
mod shared;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

pub(crate) use hold_back::HOLD_BACK;
pub use shared::{Collected, CollectorGone, LEAST_PATIENCE, Request, Shared};

use crate::cluster::MetadataHandle;
use crate::kubelet::{self, Kubelet};
use crate::node::{self, Node};
use crate::snapshot::{ExporterStatus, KubeletStatus, RequestCount, Snapshot, SourceStatus};
use crate::volume::KubeletNames;
use changes::Changes;
use mounts::Mounts;

/// Where everything comes from, and what is made of it.
pub struct Sources {
    /// The mount table and the kernel, and what is known of volumes.
    pub mounts: Option<(Node, MetadataHandle)>,
    /// The kubelet.
    pub kubelet: Option<Kubelet>,
    /// The kubelet's directory as it is reached here, where none is found in the mount table.
    pub kubelet_directory: PathBuf,
    /// The series of the kubelet's names, if there are any.
    pub names: Option<KubeletNames>,
}

fn request_counts(handle: &MetadataHandle) -> Vec<RequestCount> {
    let count = |(resource, verb, code, count)| RequestCount { resource, verb, code, count };
    handle.requests().into_iter().map(count).collect()
}

/// Makes snapshots; keeps what lasts from one to the next.
pub struct Collector {
    mounts: Option<Mounts>,
    kubelet: Option<Kubelet>,
    kubelet_directory: PathBuf,
    names: Option<KubeletNames>,
    changes: Changes,
}

/// Ends waiting before its deadline, for good.
pub struct Interrupt {
    node: Option<node::Interrupt>,
    kubelet: Option<kubelet::Interrupt>,
}

impl Interrupt {
    /// Collections end with what there is by now.
    pub fn end_waiting(&self) {
        if let Some(node) = &self.node {
            node.end_measuring();
        }
        if let Some(kubelet) = &self.kubelet {
            kubelet.end_waiting();
        }
    }
}

impl Collector {
    /// Collects from these.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let Sources { mounts, kubelet, kubelet_directory, names } = sources;
        let mounts = mounts.map(|(node, metadata)| Mounts::new(node, metadata));
        Self { mounts, kubelet, kubelet_directory, names, changes: Changes::default() }
    }

    /// What ends collections before their deadline.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        Interrupt {
            node: self.mounts.as_ref().map(Mounts::interrupt),
            kubelet: self.kubelet.as_ref().map(Kubelet::interrupt),
        }
    }

    /// Makes a snapshot, by the deadline at the latest but for what needs no waiting.
    pub fn collect(&mut self, deadline: Instant) -> Snapshot {
        let start = Instant::now();
        if let Some(mounts) = &mut self.mounts {
            mounts.look(deadline);
        }
        // It answers while the mounts are measured.
        self.ask_kubelet();
        let measured = self.mounts.as_mut().map(|mounts| mounts.measure(start, deadline));
        let (volumes, measured) = measured.unwrap_or((Vec::new(), true));
        let answered = self.await_kubelet(deadline);
        let handle = self.mounts.as_ref().map(Mounts::metadata);
        let metadata = handle.map(MetadataHandle::metadata).unwrap_or_default();
        let age = |oldest| SystemTime::now().duration_since(oldest).unwrap_or_default();
        let mut snapshot = Snapshot {
            volumes,
            in_time: measured && answered,
            ambiguous: self.mounts.as_ref().map_or(0, Mounts::ambiguous),
            pending: self.mounts.as_ref().map_or(0, Mounts::pending),
            table: self.mounts.as_ref().map(Mounts::table),
            sources: [self.source_status(), metadata.sources.clone()].concat(),
            metadata_age: metadata.oldest.map(age),
            kubernetes_requests: handle.map(request_counts).unwrap_or_default(),
            ..Snapshot::default()
        };
        self.add_claims(&mut snapshot, start);
        snapshot.exporter = ExporterStatus { collect_time: start.elapsed(), ..ExporterStatus::default() };
        self.changes.log(&snapshot);
        snapshot
    }

    /// Asks the kubelet, where what it said is old.
    pub fn ask_kubelet(&mut self) {
        if let Some(kubelet) = &mut self.kubelet {
            let mut directories = self.mounts.as_ref().map(Mounts::kubelet_directories).unwrap_or_default();
            if directories.is_empty() {
                directories.push(self.kubelet_directory.clone());
            }
            kubelet.refresh(Instant::now(), &directories);
        }
    }

    /// Waits for what the kubelet was asked; whether nothing is under way any more.
    pub fn await_kubelet(&mut self, deadline: Instant) -> bool {
        self.kubelet.as_mut().is_none_or(|kubelet| kubelet.wait(deadline))
    }

    /// How the sources of figures go.
    fn source_status(&self) -> Vec<SourceStatus> {
        let kubelet = self.kubelet.as_ref();
        let sources = [
            ("mounts", self.mounts.as_ref().map(|mounts| mounts.table().readable)),
            ("kubelet", kubelet.and_then(Kubelet::summary_status).map(|status| status.success)),
            ("kubelet_metrics", kubelet.and_then(Kubelet::exposed_success)),
        ];
        let known = sources.into_iter().filter_map(|(name, success)| Some((name, success?)));
        known.map(|(name, success)| SourceStatus { name, success }).collect()
    }

    /// Adds the series of the kubelet's names, and how it goes with the kubelet.
    fn add_claims(&self, snapshot: &mut Snapshot, start: Instant) {
        let time = SystemTime::now();
        let kubelet = self.kubelet.as_ref();
        let summary = kubelet.and_then(|kubelet| kubelet.summary(start));
        let reported = summary.as_ref().map(|summary| summary.as_slice()).unwrap_or_default();
        snapshot.kubelet = kubelet.and_then(Kubelet::summary_status).map(|status| KubeletStatus {
            errors: status.errors,
            answered: status.answered,
            stale: summary.is_some().then(|| claims::stale(reported, time)),
        });
        if let Some(names) = self.names {
            let exposed = kubelet.and_then(|kubelet| kubelet.exposed(start));
            let nothing = HashSet::new();
            let figures = claims::ClaimSources {
                volumes: &snapshot.volumes,
                left_out_pods: self.mounts.as_ref().map_or(&nothing, Mounts::left_out_pods),
                reported,
                exposed: exposed.as_ref(),
            };
            snapshot.claims = claims::claims(names, figures, time);
        }
    }
}
