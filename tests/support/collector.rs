//! The program's part that collects, in this process: the kubelet as its only source.

use std::time::Duration;

use disk_usage_exporter::collect::{Collector, CollectorInputs};
use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::host_files::HostPath;
use disk_usage_exporter::kubelet::Kubelet;
use disk_usage_exporter::runtime::{BlockingWorker, Clients, Deadline};
use disk_usage_exporter::snapshot::Snapshot;

use super::{PATIENCE, ask_until};

/// A collector, and how long each collection may take.
pub(crate) struct KubeletCollector(Collector, Duration);

impl KubeletCollector {
    /// One that is configured as what is printed once is: with these flags.
    pub(crate) fn start(args: &[&str]) -> Self {
        let line = [&["disk-usage-exporter"], args, &["metrics"]].concat();
        let config = Config::try_from(Args::read(line).unwrap()).unwrap();
        let (clients, host_files) = (Clients::start().unwrap(), BlockingWorker::start("host-files").unwrap());
        let directory = HostPath { rootfs: "/".into(), path: "/var/lib/kubelet".into() };
        let kubelet =
            Kubelet::new(config.kubelet, directory, config.sources, "node-1".into(), &clients, &host_files);
        let inputs = CollectorInputs {
            mounts: None,
            kubelet: Some(kubelet),
            host_files,
            names: config.sources.kubelet_series,
            exclusions: config.exclusions,
        };
        Self(Collector::new(inputs), config.stat_timeout)
    }

    pub(crate) fn collect(&mut self) -> Snapshot {
        self.0.collect(&Deadline::after(self.1))
    }

    /// Collects until this is so.
    pub(crate) fn collect_until(&mut self, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        ask_until(PATIENCE, what, || self.collect(), is_so)
    }
}

/// The claims that have series.
pub(crate) fn claims(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.claims.iter().map(|claim| claim.claim.name.as_str()).collect()
}
