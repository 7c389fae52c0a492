//! One collection: the node's volumes, their measurements and metadata, and the kubelet's stats, as a snapshot.

mod claims;
mod filesystems;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod hold_back;
mod join;
mod metrics;
mod mounts;
mod single_flight;
mod transition_log;

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::{Instant, SystemTime};

use prometheus_client::registry::Registry;

pub(crate) use hold_back::HOLD_BACK;
pub use single_flight::{
    CollectionPanicked, MIN_COLLECTION_INTERVAL, MIN_MEASURING_TIME, ScrapeRequest, SingleFlight,
};

use crate::cluster::MetadataHandle;
use crate::kubelet::Kubelet;
use crate::node::Node;
use crate::runtime::{BlockingWorker, Deadline, age};
use crate::snapshot::{KubeletStatus, Snapshot, SourceStatus};
use crate::volume::{Exclusions, KubeletSeriesOptions, ReportedVolume};
use claims::SettlingClaims;
use metrics::CollectorMetrics;
use mounts::Mounts;
use transition_log::TransitionLog;

/// What a collector reads, and which series it makes of it.
pub struct CollectorInputs {
    /// The mount table and the kernel, and the metadata of volumes.
    pub mounts: Option<(Node, MetadataHandle)>,
    /// The kubelet.
    pub kubelet: Option<Kubelet>,
    /// The thread that reads files of the node.
    pub host_files: BlockingWorker,
    /// The series of the kubelet's names, if there are any.
    pub names: Option<KubeletSeriesOptions>,
    /// The volumes that are not measured.
    pub exclusions: Exclusions,
}

/// Makes snapshots; keeps what lasts from one to the next.
pub struct Collector {
    mounts: Option<Mounts>,
    kubelet: Option<Kubelet>,
    host_files: BlockingWorker,
    names: Option<KubeletSeriesOptions>,
    exclusions: Exclusions,
    settling: SettlingClaims,
    log: TransitionLog,
    metrics: CollectorMetrics,
}

impl Collector {
    /// A collector of these sources.
    pub fn new(inputs: CollectorInputs) -> Self {
        let CollectorInputs { mounts, kubelet, host_files, names, exclusions } = inputs;
        let mounts = mounts.map(|(node, metadata)| Mounts::new(node, metadata, exclusions.clone()));
        Self {
            mounts,
            kubelet,
            host_files,
            names,
            exclusions,
            settling: SettlingClaims::default(),
            log: TransitionLog::default(),
            metrics: CollectorMetrics::default(),
        }
    }

    /// Registers the metrics of collections and of what they read.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        if let Some(mounts) = &self.mounts {
            mounts.node.register_metrics(registry);
            mounts.metadata.register_metrics(registry);
        }
        if let Some(kubelet) = &self.kubelet {
            kubelet.register_metrics(registry);
        }
    }

    /// Makes a snapshot. Waits for mounts until the deadline, for the kubelet as far as needed, and for nothing else.
    pub fn collect(&mut self, deadline: &Deadline) -> Snapshot {
        let start = Instant::now();
        let measuring = deadline.remaining().min(MIN_MEASURING_TIME);
        if let Some(mounts) = &mut self.mounts {
            mounts.scan(start, deadline);
        }
        // However long the mount table is.
        let deadline = &deadline.at_least(Instant::now() + measuring);
        // The kubelet answers while the mounts are measured.
        if let Some(kubelet) = &mut self.kubelet {
            kubelet.refresh_if_stale(start);
        }
        let volumes =
            self.mounts.as_mut().map(|mounts| mounts.measure(deadline, &self.metrics)).unwrap_or_default();
        let all_measured = !deadline.is_over();
        let has_answered = match &mut self.kubelet {
            Some(kubelet) if self.mounts.is_some() => kubelet.wait_for_lacking(start, deadline),
            _ => self.wait_for_kubelet(deadline),
        };
        let mounts = self.mounts.as_ref();
        let metadata = mounts.map(|mounts| mounts.metadata.metadata()).unwrap_or_default();
        let mut snapshot = Snapshot {
            volumes,
            complete: all_measured && has_answered,
            ambiguous: mounts.map_or(0, |mounts| mounts.joined.ambiguous),
            pending: mounts.map_or(0, |mounts| mounts.joined.pending),
            excluded: mounts.map_or(0, |mounts| mounts.joined.excluded.len()),
            table: mounts.map(|mounts| mounts.node.status()),
            sources: [self.source_status(), metadata.sources.clone()].concat(),
            metadata_age: metadata.oldest.and_then(|oldest| age(oldest, SystemTime::now())),
            host_files_busy_time: self.host_files.busy_time(),
            ..Snapshot::default()
        };
        self.add_kubelet_volume_stats(&mut snapshot, start);
        snapshot.collect_time = start.elapsed();
        self.metrics.collections.observe(snapshot.collect_time.as_secs_f64());
        self.log.record(&snapshot);
        snapshot
    }

    /// Waits for requests to the kubelet that a collection did not wait for; whether none is under way any more.
    pub fn wait_for_kubelet(&mut self, deadline: &Deadline) -> bool {
        self.kubelet.as_mut().is_none_or(|kubelet| kubelet.wait(deadline))
    }

    /// Whether each source of measurements could be read.
    fn source_status(&self) -> Vec<SourceStatus> {
        let kubelet = self.kubelet.as_ref();
        let sources = [
            ("mounts", self.mounts.as_ref().map(|mounts| mounts.node.status().shows_volumes())),
            ("kubelet", kubelet.and_then(Kubelet::summary_status).map(|status| status.success)),
            ("kubelet_metrics", kubelet.and_then(Kubelet::exposed_claims_success)),
        ];
        let known = sources.into_iter().filter_map(|(name, success)| Some((name, success?)));
        known.map(|(name, success)| SourceStatus { name, success }).collect()
    }

    /// Adds the series of the kubelet's names, and how reading the kubelet's summary goes.
    fn add_kubelet_volume_stats(&mut self, snapshot: &mut Snapshot, start: Instant) {
        let time = SystemTime::now();
        let kubelet = self.kubelet.as_ref();
        let summary = kubelet.and_then(|kubelet| kubelet.summary(start));
        let summary_stats = summary.as_ref().map(|summary| summary.as_slice()).unwrap_or_default();
        let (reported, excluded_claims) = self.without_excluded(summary_stats);
        if self.mounts.is_none() {
            snapshot.excluded = excluded_claims;
        }
        let nothing = HashSet::new();
        let left_out_pods = self.mounts.as_ref().map_or(&nothing, |mounts| &mounts.joined.left_out_pods);
        let max_age = kubelet.map(|kubelet| kubelet.max_age).unwrap_or_default();
        snapshot.kubelet = kubelet.and_then(Kubelet::summary_status).map(|status| KubeletStatus {
            answered: status.answered,
            stale: summary.is_some().then(|| claims::count_stale(&reported, left_out_pods, max_age, time)),
        });
        if let Some(names) = self.names {
            let exposed = kubelet.and_then(|kubelet| kubelet.exposed_claims(start));
            let settling = names.only_missing_after.map(|delay| {
                self.settling.update(&snapshot.volumes, &reported, exposed.as_ref(), delay, start)
            });
            let sources = claims::ClaimStatsInputs {
                volumes: &snapshot.volumes,
                left_out_pods,
                reported: &reported,
                max_age,
                exposed: exposed.as_ref(),
                settling: &settling.unwrap_or_default(),
            };
            snapshot.claims = claims::claim_stats(names, sources, time);
        }
    }

    /// The kubelet's stats without those of excluded claims, and how many claims these are.
    fn without_excluded<'a>(&self, reported: &'a [ReportedVolume]) -> (Cow<'a, [ReportedVolume]>, usize) {
        let of_mounts = self.mounts.iter().flat_map(|mounts| mounts.joined.excluded.values().flatten());
        let of_mounts: HashSet<_> = of_mounts.collect();
        let is_excluded = |volume: &&ReportedVolume| {
            self.exclusions.matches_claim(&volume.claim) || of_mounts.contains(&volume.claim)
        };
        let excluded: HashSet<_> = reported.iter().filter(is_excluded).map(|volume| &volume.claim).collect();
        if excluded.is_empty() {
            return (reported.into(), 0);
        }
        let others = reported.iter().filter(|volume| !excluded.contains(&volume.claim)).cloned();
        (others.collect(), excluded.len())
    }
}
