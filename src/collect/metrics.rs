//! The histograms of collections and probes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::volume::Volume;

/// `volume_type`, where it is known.
type ProbeLabels = Vec<(&'static str, String)>;

/// What collections and probes cost.
#[derive(Debug)]
pub(super) struct CollectorMetrics {
    pub(super) collections: Histogram,
    probes: Family<ProbeLabels, Histogram, fn() -> Histogram>,
}

impl Default for CollectorMetrics {
    fn default() -> Self {
        let collections = Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0]);
        // From a cached `statvfs` to a server that hardly answers.
        let probes = || Histogram::new([0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]);
        Self { collections, probes: Family::new_with_constructor(probes) }
    }
}

impl CollectorMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "disk_usage_exporter_collection_duration",
            "Time that collections took: reading the mount table, measuring and joining",
            Unit::Seconds,
            self.collections.clone(),
        );
        registry.register_with_unit(
            "disk_usage_exporter_probe_duration",
            "Time that measuring a mount took, or had taken when its scrape ended",
            Unit::Seconds,
            self.probes.clone(),
        );
    }

    /// Observes the probes of volumes: the durations of all their mounts, volume by volume.
    pub(super) fn observe_probes(
        &self,
        volumes: &[Arc<Volume>],
        mut durations: impl Iterator<Item = Option<Duration>>,
    ) {
        // Looked up once for each kind of volume, not for each volume.
        let mut histograms: HashMap<Option<&str>, Histogram> = HashMap::new();
        for volume in volumes {
            let kind = volume.source().map(|(kind, _)| kind);
            let histogram = histograms.entry(kind).or_insert_with(|| {
                let labels = kind.map(|kind| ("volume_type", kind.to_owned())).into_iter().collect();
                self.probes.get_or_create_owned(&labels)
            });
            let durations = durations.by_ref().take(volume.mounts.len()).flatten();
            durations.for_each(|duration| histogram.observe(duration.as_secs_f64()));
        }
    }
}
