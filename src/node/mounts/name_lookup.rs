//! The names and CSI handles of the mounts, which only the kubelet's files and links tell; kept from one reading of the
//! mount table to the next.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::vol_data;
use crate::host_files;
use crate::node::host_path::Rootfs;
use crate::runtime::{BlockingWorker, Deadline, SingleJob};
use crate::volume::{CsiVolume, MAX_NAME_BYTES, VolumeMount};

/// A mount that may be a volume.
#[derive(Debug)]
struct ResolvedMount {
    /// With what was looked up; until then, with the name of its path, if that has one.
    mount: Arc<VolumeMount>,
    state: LookupState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookupState {
    /// A `PersistentVolume`, or an inline volume that only the pod object tells from one.
    Named,
    /// Certainly an inline volume.
    Inline,
    /// The file cannot be read yet: it is tried again at the next scrape.
    Pending,
}

/// Every mount of the last reading that may be a volume, in the table's order.
#[derive(Debug)]
pub(crate) struct ResolvedMounts {
    rootfs: Rootfs,
    /// The kubelet's directory may hang like any other.
    host_files: BlockingWorker,
    entries: Vec<ResolvedMount>,
    lookups: SingleJob<Vec<ResolvedMount>>,
}

impl ResolvedMounts {
    pub(crate) fn new(rootfs: Rootfs, host_files: BlockingWorker) -> Self {
        Self { rootfs, host_files, entries: Vec::new(), lookups: SingleJob::default() }
    }

    /// Takes a new reading; mounts that are still there keep their names.
    pub(crate) fn replace(&mut self, mounts: Vec<VolumeMount>) {
        let before = std::mem::take(&mut self.entries);
        let before = by_identity(&before);
        let entry = |mount: VolumeMount| match before.get(&mount.identity()) {
            Some(before) => before.with_row(mount),
            None => ResolvedMount::by_path(mount),
        };
        self.entries = mounts.into_iter().map(entry).collect();
    }

    /// Looks up the names that are pending, until the deadline. Lookups that do not end in time are taken at a later scrape.
    pub(crate) fn resolve(&mut self, deadline: &Deadline) {
        let pending = self.entries.iter().filter(|entry| entry.state == LookupState::Pending);
        let pending: Vec<_> = pending.map(|entry| Arc::clone(&entry.mount)).collect();
        let rootfs = self.rootfs.clone();
        let is_any_pending = !pending.is_empty();
        let look_up_all = move || pending.iter().filter_map(|mount| look_up(mount, &rootfs)).collect();
        let start = || is_any_pending.then(|| self.host_files.run(look_up_all));
        let Some(found) = self.lookups.wait(deadline, start) else {
            return;
        };
        let found = by_identity(&found);
        for entry in self.entries.iter_mut().filter(|entry| entry.state == LookupState::Pending) {
            if let Some(found) = found.get(&entry.mount.identity()) {
                // The row may have changed meanwhile.
                *entry = found.with_row((*entry.mount).clone());
            }
        }
    }

    /// The mounts that have a name, and are no inline volumes.
    pub(crate) fn mounts(&self) -> Vec<Arc<VolumeMount>> {
        let is_name = |name: &str| (1..=MAX_NAME_BYTES).contains(&name.len());
        let is_shown =
            |entry: &&ResolvedMount| entry.state != LookupState::Inline && is_name(&entry.mount.name);
        self.entries.iter().filter(is_shown).map(|entry| Arc::clone(&entry.mount)).collect()
    }

    /// The mountpoints of all mounts that may be volumes.
    pub(crate) fn mountpoints(&self) -> impl Iterator<Item = &PathBuf> {
        self.entries.iter().map(|entry| &entry.mount.mountpoint)
    }
}

fn by_identity(mounts: &[ResolvedMount]) -> HashMap<(Option<u64>, &Path, &OsStr), &ResolvedMount> {
    mounts.iter().map(|resolved| (resolved.mount.identity(), resolved)).collect()
}

impl ResolvedMount {
    /// What the path alone tells. In-tree plugins name the directory after the PV or the inline volume, unescaped.
    fn by_path(mount: VolumeMount) -> Self {
        let is_named = mount.plugin != "csi" && !mount.name.is_empty();
        let state = if is_named { LookupState::Named } else { LookupState::Pending };
        Self { mount: Arc::new(mount), state }
    }

    /// A newer row of the same mount, with what was looked up; the same allocation if nothing else is new.
    fn with_row(&self, mut row: VolumeMount) -> Self {
        row.name.clone_from(&self.mount.name);
        row.csi.clone_from(&self.mount.csi);
        let mount = if row == *self.mount { Arc::clone(&self.mount) } else { Arc::new(row) };
        Self { mount, state: self.state }
    }
}

/// What the kubelet's files and links tell.
fn look_up(mount: &VolumeMount, rootfs: &Rootfs) -> Option<ResolvedMount> {
    let (name, csi, state) = if mount.name.is_empty() {
        (Some(name_by_device_links(mount, rootfs)?), None, LookupState::Named)
    } else {
        let data = vol_data::parse(&host_files::read(&rootfs.path, &vol_data::path(mount)?).ok()?)?;
        let state = if data.is_ephemeral() { LookupState::Inline } else { LookupState::Named };
        let csi = CsiVolume { driver: data.driver_name, handle: data.volume_handle };
        (data.name.filter(|name| !name.is_empty()), Some(csi), state)
    };
    let name = name.unwrap_or_else(|| mount.name.clone());
    Some(ResolvedMount { mount: Arc::new(VolumeMount { name, csi, ..mount.clone() }), state })
}

/// The name that the pod gives to a device of `<root>/plugins/kubernetes.io/<plugin>/volumeDevices/…`: that of its link to it
/// in `<root>/pods/<uid>/volumeDevices/kubernetes.io~<plugin>/`.
fn name_by_device_links(mount: &VolumeMount, rootfs: &Rootfs) -> Option<String> {
    let VolumeMount { plugin, pod_uid, mountpoint, .. } = mount;
    let devices = format!("plugins/kubernetes.io/{plugin}/volumeDevices");
    let kubelet_root = mountpoint.ancestors().find(|path| path.ends_with(&devices))?.ancestors().nth(4)?;
    let links = format!("pods/{}/volumeDevices/kubernetes.io~{plugin}", pod_uid.as_deref()?);
    let links = kubelet_root.join(links);
    let (rootfs, root) = (&rootfs.path, mount.root.as_deref().map(OsStrExt::as_bytes));
    let number = host_files::device_number(rootfs, mountpoint);
    let is_device = |name: &OsString| match (number, host_files::device_number(rootfs, &links.join(name))) {
        (Some(number), Some(target)) => number == target,
        // Where `/dev` cannot be seen, the device's path within it must do.
        _ => host_files::link_target(rootfs, &links, name).is_ok_and(|target| {
            root.is_some() && target.as_os_str().as_bytes().strip_prefix(b"/dev") == root
        }),
    };
    let names = host_files::names(rootfs, &links).ok()?;
    names.iter().find(|name| is_device(name)).map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::VolumeMode;
    use crate::volume::samples::mount;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_mins(10);

    fn names(mounts: &ResolvedMounts) -> Vec<String> {
        mounts.mounts().iter().map(|mount| mount.name.clone()).collect()
    }

    /// A worker that is busy until the sender is used, and mounts that it resolves.
    fn busy_worker() -> (mpsc::Sender<()>, BlockingWorker, ResolvedMounts) {
        let worker = BlockingWorker::start("test").unwrap();
        let (go_on, gate) = mpsc::channel::<()>();
        let _busy = worker.run(move || gate.recv().is_ok());
        // It is skipped if it has not begun when nobody waits for it any more.
        while worker.busy_time().is_zero() {
            std::thread::yield_now();
        }
        let mounts = ResolvedMounts::new(Rootfs::new("/".into()), worker.clone());
        (go_on, worker, mounts)
    }

    /// A CSI mount whose `vol_data.json` is in this directory.
    fn csi_mount(name: &str, directory: &tempfile::TempDir, mode: &str) -> VolumeMount {
        let text = format!(
            r#"{{"specVolID": "looked-up", "driverName": "d", "volumeHandle": "h", "volumeLifecycleMode": "{mode}"}}"#
        );
        std::fs::write(directory.path().join("vol_data.json"), text).unwrap();
        VolumeMount { mountpoint: directory.path().join("mount"), ..mount(name, "csi", "uid") }
    }

    /// A device of an iSCSI volume.
    fn device(root: Option<&str>) -> VolumeMount {
        VolumeMount {
            mountpoint: "/k/plugins/kubernetes.io/iscsi/volumeDevices/iface-default/lun-0/uid".into(),
            mode: VolumeMode::Block,
            root: root.map(Into::into),
            ..mount("", "iscsi", "uid")
        }
    }

    #[test]
    fn a_late_lookup_does_not_undo_a_newer_row() {
        let directory = tempfile::tempdir().unwrap();
        let (go_on, worker, mut mounts) = busy_worker();
        let mut changed = csi_mount("pv", &directory, "Persistent");
        mounts.replace(vec![changed.clone()]);
        mounts.resolve(&Deadline::after(Duration::ZERO));
        changed.superblock_read_only = Some(true);
        mounts.replace(vec![changed]);
        go_on.send(()).unwrap();
        worker.run(|| ()).wait(&Deadline::after(LONG)).unwrap().unwrap();
        mounts.resolve(&Deadline::after(LONG));
        assert_eq!(names(&mounts), ["looked-up"]);
        assert_eq!(mounts.mounts()[0].superblock_read_only, Some(true));
    }

    #[test]
    fn a_lookup_that_hangs_leaves_mounts_the_names_of_their_paths() {
        let directory = tempfile::tempdir().unwrap();
        let (go_on, worker, mut mounts) = busy_worker();
        mounts.replace(vec![
            mount("in-path", "nfs", "uid"),
            csi_mount("inline", &directory, "Ephemeral"),
            device(None),
        ]);
        mounts.resolve(&Deadline::after(Duration::ZERO));
        assert_eq!(names(&mounts), ["in-path", "inline"], "a link's name is not known before");
        // Were they waited for again, this would take ten minutes.
        mounts.resolve(&Deadline::after(LONG));
        assert_eq!(names(&mounts), ["in-path", "inline"]);
        go_on.send(()).unwrap();
        worker.run(|| ()).wait(&Deadline::after(LONG)).unwrap().unwrap();
        mounts.resolve(&Deadline::after(LONG));
        assert_eq!(names(&mounts), ["in-path"]);
    }

    #[test]
    fn a_pods_link_names_its_device() {
        let dir = tempfile::tempdir().unwrap();
        let links = dir.path().join("k/pods/uid/volumeDevices/kubernetes.io~iscsi");
        std::fs::create_dir_all(&links).unwrap();
        let link = |target, name| std::os::unix::fs::symlink(target, links.join(name)).unwrap();
        link("/dev/sda", "pv-a");
        link("/dev/sdb", "pv-b");
        let rootfs = Rootfs::new(dir.path().to_owned());
        let name = |root| name_by_device_links(&device(root), &rootfs);
        assert_eq!(name(Some("/sdb")).as_deref(), Some("pv-b"));
        assert_eq!(name(Some("/sdc")), None);
        assert_eq!(name(None), None);
    }
}
