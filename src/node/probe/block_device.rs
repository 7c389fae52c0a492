//! The size of a block device, from sysfs: the device is never opened.

use std::path::{Path, PathBuf};

use crate::node::host_path::Rootfs;

/// The unit of `/sys/dev/block/<major>:<minor>/size`, whatever the device's own block size.
const SECTOR: u128 = 512;

/// The size in bytes of a block device, as the kernel publishes it: the device is never opened.
pub(crate) fn size(sysfs: &Path, (major, minor): (u32, u32)) -> Option<u128> {
    let file = sysfs.join(format!("dev/block/{major}:{minor}/size"));
    let sectors: u128 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some(sectors * SECTOR)
}

/// The node's `/sys`: below the rootfs where it is mounted there, else this process's own.
pub(crate) fn sysfs(rootfs: &Rootfs) -> PathBuf {
    let below = rootfs.join(Path::new("/sys"));
    if below.join("dev/block").is_dir() { below } else { PathBuf::from("/sys") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_in_sectors_of_512_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("dev/block/7:1");
        std::fs::create_dir_all(&device).unwrap();
        assert_eq!(size(dir.path(), (7, 1)), None);
        std::fs::write(device.join("size"), "131072\n").unwrap();
        assert_eq!(size(dir.path(), (7, 1)), Some(64 << 20));
        std::fs::write(device.join("size"), "many\n").unwrap();
        assert_eq!(size(dir.path(), (7, 1)), None);
    }

    #[test]
    fn the_nodes_sys_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::new(dir.path().to_owned());
        assert_eq!(sysfs(&rootfs), Path::new("/sys"));
        std::fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        assert_eq!(sysfs(&rootfs), dir.path().join("sys"));
    }
}
