//! The names and CSI handles of the mounts, which only the kubelet's files and links tell; kept from one reading of the
//! mount table to the next.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::device_links::{self, UnnamedDevice};
use super::matcher::{MountCandidate, NameLookup};
use super::vol_data::{self, VolData};
use crate::node::host_path::Rootfs;
use crate::runtime::{BlockingWorker, Deadline, Job};
use crate::volume::VolumeMount;

/// A mount after its name was looked up.
#[derive(Debug, Clone)]
enum Resolved {
    /// A `PersistentVolume`, or an inline volume that only the pod object tells from one.
    Named(Arc<VolumeMount>),
    /// Certainly an inline volume.
    Inline,
    /// The file cannot be read yet: it is tried again at the next scrape. Until then the mount has the name of its path, if
    /// that has one.
    Pending(Option<Arc<VolumeMount>>),
}

type Lookups = Vec<(MountCandidate, Resolved)>;

/// Every mount of the last reading that may be a volume.
#[derive(Debug)]
pub(crate) struct ResolvedMounts {
    rootfs: Rootfs,
    /// The kubelet's directory may hang like any other.
    host_files: BlockingWorker,
    entries: Lookups,
    lookups: Option<Job<Lookups>>,
}

impl ResolvedMounts {
    pub(crate) fn new(rootfs: Rootfs, host_files: BlockingWorker) -> Self {
        Self { rootfs, host_files, entries: Vec::new(), lookups: None }
    }

    /// Takes a new reading; mounts that are still there keep their names.
    pub(crate) fn replace(&mut self, candidates: Vec<MountCandidate>) {
        let before = std::mem::take(&mut self.entries);
        let known: HashMap<_, &Resolved> =
            before.iter().map(|(candidate, resolved)| (candidate.mount.identity(), resolved)).collect();
        let resolved = |candidate: &MountCandidate| match known.get(&candidate.mount.identity()) {
            Some(Resolved::Named(before)) => Resolved::Named(updated(candidate, before)),
            Some(Resolved::Inline) => Resolved::Inline,
            Some(Resolved::Pending(_)) | None => by_path(candidate),
        };
        self.entries =
            candidates.into_iter().map(|candidate| (candidate.clone(), resolved(&candidate))).collect();
    }

    /// Forgets all mounts.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Looks up the names that are pending, until the deadline. Lookups that do not end in time are taken at a later scrape.
    pub(crate) fn resolve(&mut self, deadline: &Deadline) {
        let (job, deadline) = match self.lookups.take() {
            // They were waited for before.
            Some(job) => (job, deadline.at(deadline.started())),
            None => match self.start_lookups() {
                Some(job) => (job, deadline.clone()),
                None => return,
            },
        };
        match job.wait(&deadline) {
            Some(Ok(lookups)) => self.apply(&lookups),
            // A panic: they are tried again.
            Some(Err(_)) => {}
            None => self.lookups = Some(job),
        }
    }

    fn start_lookups(&self) -> Option<Job<Lookups>> {
        let is_pending =
            |(_, resolved): &&(MountCandidate, Resolved)| matches!(resolved, Resolved::Pending(_));
        let pending: Vec<MountCandidate> =
            self.entries.iter().filter(is_pending).map(|(candidate, _)| candidate.clone()).collect();
        let rootfs = self.rootfs.clone();
        let look_up_all = move || {
            let lookup = |candidate: MountCandidate| (candidate.clone(), look_up(&candidate, &rootfs));
            pending.into_iter().map(lookup).collect()
        };
        self.entries
            .iter()
            .any(|entry| is_pending(&entry))
            .then(|| self.host_files.run(thread::current(), look_up_all))
    }

    fn apply(&mut self, lookups: &Lookups) {
        let found: HashMap<_, &Resolved> =
            lookups.iter().map(|(candidate, resolved)| (candidate.mount.identity(), resolved)).collect();
        for (candidate, resolved) in &mut self.entries {
            if let Resolved::Pending(_) = resolved {
                match found.get(&candidate.mount.identity()) {
                    // The row may have changed meanwhile.
                    Some(Resolved::Named(mount)) => *resolved = Resolved::Named(updated(candidate, mount)),
                    Some(Resolved::Inline) => *resolved = Resolved::Inline,
                    Some(Resolved::Pending(_)) | None => {}
                }
            }
        }
    }

    /// The mounts, in the table's order.
    pub(crate) fn mounts(&self) -> Vec<Arc<VolumeMount>> {
        let named = self.entries.iter().filter_map(|(_, resolved)| match resolved {
            Resolved::Named(mount) | Resolved::Pending(Some(mount)) => Some(mount),
            Resolved::Inline | Resolved::Pending(None) => None,
        });
        named.cloned().collect()
    }

    /// The mountpoints of all mounts that may be volumes.
    pub(crate) fn mountpoints(&self) -> impl Iterator<Item = &PathBuf> {
        self.entries.iter().map(|(candidate, _)| &candidate.mount.mountpoint)
    }
}

/// The new row with the name that was looked up before; the same allocation if nothing else is new.
fn updated(candidate: &MountCandidate, before: &Arc<VolumeMount>) -> Arc<VolumeMount> {
    let updated =
        VolumeMount { name: before.name.clone(), csi: before.csi.clone(), ..candidate.mount.clone() };
    if updated == **before { Arc::clone(before) } else { Arc::new(updated) }
}

/// What the path alone tells.
fn by_path(candidate: &MountCandidate) -> Resolved {
    let mount = || Arc::new(candidate.mount.clone());
    match candidate.lookup {
        NameLookup::None => Resolved::Named(mount()),
        NameLookup::VolData(_) => Resolved::Pending(Some(mount())),
        NameLookup::DeviceLinks(_) => Resolved::Pending(None),
    }
}

/// What the kubelet's files and links tell.
fn look_up(candidate: &MountCandidate, rootfs: &Rootfs) -> Resolved {
    let mount = &candidate.mount;
    let found = match &candidate.lookup {
        NameLookup::None => None,
        NameLookup::VolData(path) => vol_data::read(&rootfs.join(path)).map(|data| match data {
            VolData { ephemeral: true, .. } => Resolved::Inline,
            VolData { name, csi, .. } => Resolved::Named(Arc::new(VolumeMount {
                name: name.unwrap_or_else(|| mount.name.clone()),
                csi: Some(csi),
                ..mount.clone()
            })),
        }),
        NameLookup::DeviceLinks(kubelet_root) => block_name(mount, kubelet_root, rootfs)
            .map(|name| Resolved::Named(Arc::new(VolumeMount { name, ..mount.clone() }))),
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
    device_links::name(&device, rootfs).map(|name| String::from_utf8_lossy(&name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::mount;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_mins(10);

    fn candidate(name: &str, lookup: NameLookup) -> MountCandidate {
        MountCandidate { mount: mount(name, "csi", "uid"), lookup }
    }

    fn names(mounts: &ResolvedMounts) -> Vec<String> {
        mounts.mounts().iter().map(|mount| mount.name.clone()).collect()
    }

    /// A worker that is busy until the sender is used, and mounts that it resolves.
    fn busy_worker() -> (mpsc::Sender<()>, BlockingWorker, ResolvedMounts) {
        let worker = BlockingWorker::start("test").unwrap();
        let (go_on, gate) = mpsc::channel::<()>();
        let _busy = worker.run(thread::current(), move || gate.recv().is_ok());
        let mounts = ResolvedMounts::new(Rootfs::new("/".into()), worker.clone());
        (go_on, worker, mounts)
    }

    fn vol_data(directory: &tempfile::TempDir, mode: &str) -> NameLookup {
        let path = directory.path().join("vol_data.json");
        let text = format!(
            r#"{{"specVolID": "looked-up", "driverName": "d", "volumeHandle": "h", "volumeLifecycleMode": "{mode}"}}"#
        );
        std::fs::write(&path, text).unwrap();
        NameLookup::VolData(path)
    }

    #[test]
    fn a_late_lookup_does_not_undo_a_newer_row() {
        let directory = tempfile::tempdir().unwrap();
        let (go_on, _worker, mut mounts) = busy_worker();
        let mut changed = candidate("pv", vol_data(&directory, "Persistent"));
        mounts.replace(vec![changed.clone()]);
        mounts.resolve(&Deadline::after(Duration::ZERO));
        changed.mount.superblock_read_only = true;
        mounts.replace(vec![changed]);
        go_on.send(()).unwrap();
        let job = mounts.lookups.take().unwrap();
        mounts.apply(&job.wait(&Deadline::after(LONG)).unwrap().unwrap());
        assert_eq!(names(&mounts), ["looked-up"]);
        assert!(mounts.mounts()[0].superblock_read_only);
    }

    #[test]
    fn a_lookup_that_hangs_leaves_mounts_the_names_of_their_paths() {
        let directory = tempfile::tempdir().unwrap();
        let (go_on, worker, mut mounts) = busy_worker();
        let lookups = [NameLookup::None, vol_data(&directory, "Ephemeral"), NameLookup::DeviceLinks(vec![])];
        let candidates = ["in-path", "inline", "linked"].into_iter().zip(lookups);
        mounts.replace(candidates.map(|(name, lookup)| candidate(name, lookup)).collect());
        mounts.resolve(&Deadline::after(Duration::ZERO));
        assert_eq!(names(&mounts), ["in-path", "inline"], "a link's name is not known before");
        // Were they waited for again, this would take ten minutes.
        mounts.resolve(&Deadline::after(LONG));
        assert_eq!(names(&mounts), ["in-path", "inline"]);
        go_on.send(()).unwrap();
        worker.run(thread::current(), || ()).wait(&Deadline::after(LONG)).unwrap().unwrap();
        mounts.resolve(&Deadline::after(LONG));
        assert_eq!(names(&mounts), ["in-path"]);
    }
}
