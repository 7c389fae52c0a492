//! The program on a node whose volumes are FUSE file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::exporter::Exporter;
use super::exposition::Exposition;
use super::fuse::{Behaviour, Figures, Fuse};
use super::namespace::{Node, PODS};

/// Threads of the program besides one for each mount that hangs.
pub(crate) const FEW_THREADS: usize = 8;

/// A file system as it should be.
pub(crate) fn healthy() -> Behaviour {
    Behaviour::Answers(Figures::default())
}

/// The ways of not answering.
pub(crate) const HANGING: [Behaviour; 2] = [Behaviour::Deaf, Behaviour::Silent];

/// Volumes, by their names, that all behave so.
pub(crate) fn volumes(prefix: &str, count: usize, behaviour: Behaviour) -> Vec<(String, Behaviour)> {
    (0..count).map(|number| (format!("{prefix}-{number:04}"), behaviour)).collect()
}

/// What is known of each volume of these.
pub(crate) fn all(volumes: &[(String, Behaviour)], outcome: &str) -> BTreeMap<String, String> {
    volumes.iter().map(|(name, _)| (name.clone(), outcome.to_owned())).collect()
}

pub(crate) struct Subject<'a> {
    // Goes first: it frees whoever hangs, and only then the program can end.
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

    pub(crate) fn set(&self, volumes: &[(String, Behaviour)], behaviour: Behaviour) {
        for (name, _) in volumes {
            self.fuse.set(name, behaviour);
        }
    }

    /// Where a volume is mounted. Whoever looks there may hang.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.node.kubelet().join(format!("pods/{}/volumes/kubernetes.io~nfs/{name}", PODS[0]))
    }
}

fn mount(node: &Node, fuse: &Fuse, volumes: &[(String, Behaviour)]) {
    for (name, behaviour) in volumes {
        fuse.mount(name, &node.volume(PODS[0], "nfs", name), *behaviour);
    }
}

/// What is said of every volume: `measured`, or why not. Figures are there for those and for no others.
pub(crate) fn outcomes(scrape: &Exposition) -> BTreeMap<String, String> {
    let errors = scrape.all("pv_disk_usage_error", &[]);
    let label = |labels: &[(String, String)], name: &str| {
        labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap()
    };
    let reasons: BTreeMap<String, String> =
        errors.into_iter().map(|(labels, _)| (label(labels, "pv_name"), label(labels, "reason"))).collect();
    let ups = scrape.all("pv_disk_usage_up", &[]);
    let outcomes: BTreeMap<String, String> = ups
        .into_iter()
        .map(|(labels, up)| {
            let name = label(labels, "pv_name");
            let reason = reasons.get(&name).cloned();
            assert_eq!(up == 1.0, reason.is_none(), "{name}: {up}, {reason:?}");
            (name, reason.unwrap_or_else(|| "measured".to_owned()))
        })
        .collect();
    let measured: BTreeSet<&str> =
        outcomes.iter().filter(|(_, outcome)| *outcome == "measured").map(|(name, _)| &name[..]).collect();
    for family in ["pv_disk_usage_bytes_total", "pv_disk_usage_bytes_used", "pv_disk_usage_bytes_available"] {
        let with_figures: BTreeSet<&str> = scrape.label(family, "pv_name").into_iter().collect();
        assert_eq!(with_figures, measured, "{family}");
    }
    outcomes
}

/// How many volumes are in each state, as the program counts them.
pub(crate) fn states(scrape: &Exposition) -> [f64; 4] {
    ["measured", "failed", "hung", "skipped"]
        .map(|state| scrape.value("disk_usage_exporter_volumes", &[("state", state)]).unwrap())
}
