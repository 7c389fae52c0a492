//! The mounts that are volumes, kept from one reading of the table to the next.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::block::{self, UnnamedDevice};
use super::discovery::{Candidate, Detail};
use super::paths::Rootfs;
use super::vol_data::{self, VolData};
use crate::aside::Aside;
use crate::volume::VolumeMount;

/// Every mount of the last reading that looks like a volume.
#[derive(Debug)]
pub(crate) struct Volumes {
    entries: Vec<Entry>,
    /// Looks for what the table does not tell. The kubelet's directory may hang like any other.
    looking: Aside<Vec<Candidate>, Vec<(Candidate, Outcome)>>,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    /// A `PersistentVolume`, or a pod's own volume that only the pod object tells from one.
    Volume(Arc<VolumeMount>),
    /// Certainly a pod's own volume.
    Inline,
    /// The file that tells the rest could not be read yet: asked again at the next scrape, until then known by its path
    /// alone.
    Unknown(Option<Arc<VolumeMount>>),
}

impl Volumes {
    /// No volumes yet.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn new(rootfs: Rootfs) -> io::Result<Self> {
        let look = move |candidates: Vec<Candidate>| {
            let outcomes = candidates.into_iter().map(|candidate| {
                let outcome = look(&candidate, &rootfs);
                (candidate, outcome)
            });
            outcomes.collect()
        };
        Ok(Self { entries: Vec::new(), looking: Aside::start("volumes", look)? })
    }

    /// Takes a new reading; what is known of mounts that are still there stays known.
    pub(crate) fn replace(&mut self, candidates: Vec<Candidate>) {
        let before = std::mem::take(&mut self.entries);
        let known: HashMap<_, &Outcome> =
            before.iter().map(|entry| (entry.candidate.mount.identity(), &entry.outcome)).collect();
        let outcome = |candidate: &Candidate| match known.get(&candidate.mount.identity()) {
            Some(Outcome::Volume(before)) => Outcome::Volume(renewed(candidate, before)),
            Some(Outcome::Inline) => Outcome::Inline,
            Some(Outcome::Unknown(_)) | None => by_path(candidate),
        };
        let entry = |candidate| Entry { outcome: outcome(&candidate), candidate };
        self.entries = candidates.into_iter().map(entry).collect();
    }

    /// Forgets all of it.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Looks for what the table did not tell of mounts. What does not come in time is taken the next time.
    pub(crate) fn look(&mut self, wait: Duration) {
        let mut wait = wait;
        if self.looking.busy_since().is_some() {
            wait = Duration::ZERO;
        } else {
            let unknown = self.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Unknown(_)));
            let unknown: Vec<Candidate> = unknown.map(|entry| entry.candidate.clone()).collect();
            if unknown.is_empty() {
                return;
            }
            self.looking.ask(unknown);
        }
        let found = self.looking.answer(wait).unwrap_or_default();
        let found: HashMap<_, _> =
            found.iter().map(|(candidate, outcome)| (candidate.mount.identity(), outcome)).collect();
        for entry in &mut self.entries {
            if !matches!(entry.outcome, Outcome::Unknown(_)) {
                continue;
            }
            match found.get(&entry.candidate.mount.identity()) {
                // The row may have changed since it was asked about.
                Some(Outcome::Volume(mount)) => {
                    entry.outcome = Outcome::Volume(renewed(&entry.candidate, mount));
                }
                Some(Outcome::Inline) => entry.outcome = Outcome::Inline,
                Some(Outcome::Unknown(_)) | None => {}
            }
        }
    }

    /// The mounts, in the table's order.
    pub(crate) fn mounts(&self) -> Vec<Arc<VolumeMount>> {
        let known = self.entries.iter().filter_map(|entry| match &entry.outcome {
            Outcome::Volume(mount) | Outcome::Unknown(Some(mount)) => Some(mount),
            Outcome::Inline | Outcome::Unknown(None) => None,
        });
        known.cloned().collect()
    }

    /// Where something that looks like a volume is mounted.
    pub(crate) fn mountpoints(&self) -> impl Iterator<Item = &PathBuf> {
        self.entries.iter().map(|entry| &entry.candidate.mount.mountpoint)
    }
}

/// The new row with what the files told of it before; the same one if nothing else is new.
fn renewed(candidate: &Candidate, before: &Arc<VolumeMount>) -> Arc<VolumeMount> {
    let renewed =
        VolumeMount { name: before.name.clone(), csi: before.csi.clone(), ..candidate.mount.clone() };
    if renewed == **before { Arc::clone(before) } else { Arc::new(renewed) }
}

/// What the path alone tells.
fn by_path(candidate: &Candidate) -> Outcome {
    let mount = || Arc::new(candidate.mount.clone());
    match candidate.detail {
        Detail::Complete => Outcome::Volume(mount()),
        Detail::VolData(_) => Outcome::Unknown(Some(mount())),
        Detail::Links(_) => Outcome::Unknown(None),
    }
}

/// What the kubelet's files and links tell besides.
fn look(candidate: &Candidate, rootfs: &Rootfs) -> Outcome {
    let mount = &candidate.mount;
    let found = match &candidate.detail {
        Detail::Complete => None,
        Detail::VolData(path) => vol_data::read(&rootfs.join(path)).map(|data| match data {
            VolData { ephemeral: true, .. } => Outcome::Inline,
            VolData { name, csi, .. } => Outcome::Volume(Arc::new(VolumeMount {
                name: name.unwrap_or_else(|| mount.name.clone()),
                csi: Some(csi),
                ..mount.clone()
            })),
        }),
        Detail::Links(kubelet_root) => block_name(mount, kubelet_root, rootfs)
            .map(|name| Outcome::Volume(Arc::new(VolumeMount { name, ..mount.clone() }))),
    };
    found.unwrap_or_else(|| by_path(candidate))
}

fn block_name(mount: &VolumeMount, kubelet_root: &[u8], rootfs: &Rootfs) -> Option<String> {
    let device = UnnamedDevice {
        kubelet_root,
        plugin: mount.plugin.as_bytes(),
        pod_uid: mount.pod_uid.as_deref().unwrap_or_default().as_bytes(),
        mountpoint: &mount.mountpoint,
        root: mount.root.as_deref().map(OsStrExt::as_bytes),
    };
    block::name(&device, rootfs).map(|name| String::from_utf8_lossy(&name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::mount;

    #[test]
    fn a_late_answer_leaves_the_newer_row() {
        let found = |candidates: Vec<Candidate>| {
            let found = |candidate: Candidate| {
                let mount = Arc::new(VolumeMount { name: "told".into(), ..candidate.mount.clone() });
                (candidate, Outcome::Volume(mount))
            };
            candidates.into_iter().map(found).collect()
        };
        let looking = Aside::start("test", found).unwrap();
        let mut volumes = Volumes { entries: Vec::new(), looking };
        let mut candidate =
            Candidate { mount: mount("pv", "csi", "uid"), detail: Detail::VolData("/d".into()) };
        volumes.replace(vec![candidate.clone()]);
        volumes.look(Duration::ZERO);
        candidate.mount.superblock_read_only = true;
        volumes.replace(vec![candidate]);
        while volumes.mounts()[0].name != "told" {
            volumes.look(Duration::from_mins(1));
        }
        assert!(volumes.mounts()[0].superblock_read_only);
    }

    #[test]
    fn what_cannot_be_looked_at_in_time_is_known_by_its_path_until_it_can() {
        let (go_on, gate) = std::sync::mpsc::channel();
        let hangs = move |candidates: Vec<Candidate>| {
            let _ = gate.recv();
            let inline = |candidate| (candidate, Outcome::Inline);
            candidates.into_iter().map(inline).collect()
        };
        let looking = Aside::start("test", hangs).unwrap();
        let mut volumes = Volumes { entries: Vec::new(), looking };
        let candidate = |name, detail| Candidate { mount: mount(name, "csi", "uid"), detail };
        let all = ["told", "noted", "linked"];
        let details = [Detail::Complete, Detail::VolData("/d".into()), Detail::Links(vec![])];
        volumes.replace(all.into_iter().zip(details).map(|(name, detail)| candidate(name, detail)).collect());
        let names = |volumes: &Volumes| -> Vec<String> {
            volumes.mounts().iter().map(|mount| mount.name.clone()).collect()
        };
        volumes.look(Duration::ZERO);
        assert_eq!(names(&volumes), ["told", "noted"], "a link's name is not known before");
        volumes.look(Duration::from_mins(1));
        assert_eq!(names(&volumes), ["told", "noted"], "it is not waited for twice");
        go_on.send(()).unwrap();
        while volumes.looking.busy_since().is_some() {
            volumes.look(Duration::ZERO);
        }
        assert_eq!(names(&volumes), ["told"]);
    }
}
