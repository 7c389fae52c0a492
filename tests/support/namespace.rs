//! A node in a mount namespace: the test runs itself again inside one.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::tool::is_there;
use super::{current_test, fuse, skip};

const INSIDE: &str = "DISK_USAGE_EXPORTER_TEST_INSIDE";

/// What a test needs of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// tmpfs and bind mounts: a user namespace will do.
    Mounts,
    /// Also FUSE: `/dev/fuse`, which most systems let everybody open.
    Fuse,
    /// Loop devices: root of the system.
    Root,
}

/// Runs a test in a mount namespace.
pub(crate) fn in_namespace(needs: Needs, test: impl FnOnce(&Node)) {
    if std::env::var_os(INSIDE).is_some() {
        return test(&Node::new());
    }
    let is_root = nix::unistd::geteuid().is_root();
    if needs == Needs::Root && !is_root {
        return skip("it needs loop devices, and so root");
    }
    if let Some(why) = (needs == Needs::Fuse).then(fuse::missing).flatten() {
        return skip(&why);
    }
    let mut flags = vec!["--mount", "--propagation=private"];
    if !is_root {
        flags.extend(["--user", "--map-root-user"]);
    }
    if !is_there("unshare", &[&flags[..], &["true"]].concat()) {
        return;
    }
    let output = Command::new("unshare")
        .args(&flags)
        .arg(std::env::current_exe().unwrap())
        .args([&current_test(), "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    print!("{printed}");
}

/// Where a node's files are. Root alone can write there, as it must be above a kubelet's directory; a user namespace's root
/// owns no more than what it mounts.
const PLACE: &str = "/mnt";

/// A node whose kubelet has its directory in a temporary place.
pub(crate) struct Node {
    place: &'static Path,
    _directory: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        // What is still mounted would keep the directory.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// The uids of pods.
pub(crate) const PODS: [&str; 3] = [
    "6ad83273-bbc5-4a23-9e8c-d796d288e15a",
    "af4310c8-1942-44e3-8442-2e5d9120afaf",
    "e33700e9-99eb-4394-b27f-2ddda8ce417d",
];

impl Node {
    /// Another node, for one that is already in the namespace.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // A mount of its own: it goes with all that is mounted below it.
        let place = Path::new(PLACE);
        bind(directory.path(), place);
        Self { place, _directory: directory }
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.place
    }

    /// The kubelet's directory.
    pub(crate) fn kubelet(&self) -> PathBuf {
        self.path().join("kubelet")
    }

    /// The directory of a pod's volume, made if it is not there.
    pub(crate) fn volume(&self, pod: &str, plugin: &str, name: &str) -> PathBuf {
        let path = self.kubelet().join(format!("pods/{pod}/volumes/kubernetes.io~{plugin}/{name}"));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A tmpfs as the first pod's NFS volume: to this program all mounts are alike.
    pub(crate) fn tmpfs_volume(&self, name: &str, options: &str) -> PathBuf {
        let path = self.volume(PODS[0], "nfs", name);
        tmpfs(&path, options);
        path
    }
}

pub(crate) fn tmpfs(path: &Path, options: &str) {
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

pub(crate) fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// The same, of a file or a device to a file that is made for it.
pub(crate) fn bind_file(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::write(to, "").unwrap();
    bind(from, to);
}

pub(crate) fn remount_read_only(path: &Path) {
    propagation(path, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
}

pub(crate) fn propagation(path: &Path, flags: MsFlags) {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).unwrap();
}

/// Unmounts as the kubelet does: not lazily, so that it fails while the mount is in use.
pub(crate) fn unmount(path: &Path) {
    umount2(path, MntFlags::empty()).unwrap();
}

pub(crate) fn unmount_all(paths: &[impl AsRef<Path>]) {
    for path in paths {
        unmount(path.as_ref());
    }
}
