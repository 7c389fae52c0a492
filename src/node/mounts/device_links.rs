//! Names of block volumes that only the pod's links to their devices tell.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::node::host_path::{self, Rootfs};

/// A row of the mount table that is a block device without a name.
pub(crate) struct UnnamedDevice<'a> {
    pub(crate) kubelet_root: &'a [u8],
    pub(crate) plugin: &'a [u8],
    pub(crate) pod_uid: &'a [u8],
    pub(crate) mountpoint: &'a Path,
    /// The device's path within `/dev`.
    pub(crate) root: Option<&'a [u8]>,
}

/// The name that the pod gives to a device: that of its link to it in `<root>/pods/<uid>/volumeDevices/<plugin>/`.
pub(crate) fn name(device: &UnnamedDevice<'_>, rootfs: &Rootfs) -> Option<Vec<u8>> {
    let plugin = [b"kubernetes.io~", device.plugin].concat();
    let links = host_path::path(device.kubelet_root)
        .join("pods")
        .join(OsStr::from_bytes(device.pod_uid))
        .join("volumeDevices")
        .join(OsStr::from_bytes(&plugin));
    let number = device_number(&rootfs.join(device.mountpoint));
    let entries = std::fs::read_dir(rootfs.join(&links)).ok()?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let name = names.into_iter().find(|name| {
        let Some(target) = rootfs.resolve(&links.join(name)) else {
            return false;
        };
        let target_number = device_number(&rootfs.join(&target));
        // Where `/dev` cannot be seen, the device's path within it must do.
        let by_path =
            || device.root.is_some_and(|root| target.as_os_str().as_bytes() == [b"/dev", root].concat());
        match (number, target_number) {
            (Some(number), Some(target)) => number == target,
            _ => by_path(),
        }
    })?;
    Some(name.into_vec())
}

fn device_number(path: &Path) -> Option<u64> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| metadata.rdev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_link_names_its_device() {
        let dir = tempfile::tempdir().unwrap();
        let links = dir.path().join("k/pods/uid/volumeDevices/kubernetes.io~iscsi");
        std::fs::create_dir_all(&links).unwrap();
        let link = |target, name| std::os::unix::fs::symlink(target, links.join(name)).unwrap();
        link("/dev/sda", "pv-a");
        link("/dev/sdb", "pv-b");
        let device = |root| UnnamedDevice {
            kubelet_root: b"/k",
            plugin: b"iscsi",
            pod_uid: b"uid",
            mountpoint: Path::new("/nowhere"),
            root,
        };
        let rootfs = Rootfs::new(dir.path().to_owned());
        assert_eq!(name(&device(Some(b"/sdb")), &rootfs), Some(b"pv-b".to_vec()));
        assert_eq!(name(&device(Some(b"/sdc")), &rootfs), None);
        assert_eq!(name(&device(None), &rootfs), None);
    }
}
