//! The program on a node whose volumes are FUSE file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::exporter::Exporter;
use super::exposition::Exposition;
use super::fuse::{Behaviour, Figures, Fuse};
use super::namespace::{Node, PODS};
use super::{PATIENCE, ask_until};

/// Threads of the program besides one for each mount that hangs.
pub(crate) const FEW_THREADS: usize = 11;

pub(crate) type Volumes = Vec<(String, Behaviour)>;

/// By volume: `measured`, or the reason why not.
pub(crate) type Outcomes = BTreeMap<String, String>;

pub(crate) fn healthy() -> Behaviour {
    Behaviour::Answers(Figures::HEALTHY)
}

/// The ways of not answering.
pub(crate) const HANGING: [Behaviour; 2] = [Behaviour::Deaf, Behaviour::Silent];

/// Volumes that all behave so.
pub(crate) fn volumes(prefix: &str, count: usize, behaviour: Behaviour) -> Volumes {
    (0..count).map(|number| (format!("{prefix}-{number:04}"), behaviour)).collect()
}

/// All of these volumes with this outcome.
pub(crate) fn all(volumes: &[(String, Behaviour)], outcome: &str) -> Outcomes {
    volumes.iter().map(|(name, _)| (name.clone(), outcome.to_owned())).collect()
}

/// The one volumes are measured, the others have this outcome.
pub(crate) fn measured_and(well: &Volumes, ill: &Volumes, outcome: &str) -> Outcomes {
    all(well, "measured").into_iter().chain(all(ill, outcome)).collect()
}

pub(crate) struct Subject<'a> {
    // Dropped first: a program that hangs in it can only end then.
    pub(crate) fuse: Fuse,
    pub(crate) exporter: Exporter,
    node: &'a Node,
}

impl<'a> Subject<'a> {
    /// Mounts these volumes, then starts the program.
    pub(crate) fn start(node: &'a Node, volumes: &[(String, Behaviour)], args: &[&str]) -> Self {
        Self::start_by(node, volumes, || Exporter::start(&[&["--rootfs=/"], args].concat()))
    }

    pub(crate) fn start_by(
        node: &'a Node,
        volumes: &[(String, Behaviour)],
        start: impl FnOnce() -> Exporter,
    ) -> Self {
        let fuse = Fuse::start();
        mount(node, &fuse, volumes);
        Self { fuse, exporter: start(), node }
    }

    pub(crate) fn mount(&self, volumes: &[(String, Behaviour)]) {
        mount(self.node, &self.fuse, volumes);
    }

    /// The same of a server, as the mount table shows it.
    pub(crate) fn mount_of(&self, server: &str, volumes: &[(String, Behaviour)]) {
        for (name, behaviour) in volumes {
            self.fuse.mount_of(server, name, &self.node.volume(PODS[0], "glusterfs", name), *behaviour);
        }
    }

    pub(crate) fn set(&self, volumes: &[(String, Behaviour)], behaviour: Behaviour) {
        for (name, _) in volumes {
            self.fuse.set(name, behaviour);
        }
    }

    /// Where a volume is mounted, without looking there, which may hang.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.node.kubelet().join(format!("pods/{}/volumes/kubernetes.io~nfs/{name}", PODS[0]))
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        outcomes(&self.exporter.scrape())
    }

    /// The outcomes of a scrape by a client with so many seconds of time.
    pub(crate) fn outcomes_within(&self, seconds: f64) -> Outcomes {
        outcomes(&self.exporter.scrape_within(seconds))
    }
}

fn mount(node: &Node, fuse: &Fuse, volumes: &[(String, Behaviour)]) {
    for (name, behaviour) in volumes {
        fuse.mount(name, &node.volume(PODS[0], "nfs", name), *behaviour);
    }
}

/// The outcome of every volume. Figures are there for those that are measured and for no others.
pub(crate) fn outcomes(scrape: &Exposition) -> Outcomes {
    let names = scrape.label("pv_disk_usage_error", "pv_name").into_iter();
    let reasons: BTreeMap<_, _> = names.zip(scrape.label("pv_disk_usage_error", "reason")).collect();
    let names = scrape.label("pv_disk_usage_up", "pv_name").into_iter();
    let outcomes = names.zip(scrape.all("pv_disk_usage_up", &[])).map(|(name, (_, up))| {
        let reason = reasons.get(name).copied();
        assert_eq!(up == 1.0, reason.is_none(), "{name}: {up}, {reason:?}");
        (name, reason.unwrap_or("measured"))
    });
    let outcomes: BTreeMap<_, _> = outcomes.collect();
    let measured = outcomes.iter().filter(|(_, outcome)| **outcome == "measured").map(|(name, _)| *name);
    let measured: BTreeSet<&str> = measured.collect();
    for family in ["pv_disk_usage_bytes_total", "pv_disk_usage_bytes_used", "pv_disk_usage_bytes_available"] {
        let names: BTreeSet<_> = scrape.label(family, "pv_name").into_iter().collect();
        assert_eq!(names, measured, "{family}");
    }
    outcomes.into_iter().map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect()
}

/// How many volumes are in each state, as the program counts them.
pub(crate) fn states(scrape: &Exposition) -> [f64; 4] {
    ["measured", "failed", "hung", "skipped"]
        .map(|state| scrape.value("disk_usage_exporter_volumes", &[("state", state)]).unwrap())
}

/// Waits until this is so.
pub(crate) fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    ask_until(PATIENCE, what, is_so, |is_so| *is_so);
}
