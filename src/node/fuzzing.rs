//! For `fuzz/`: mount tables and `vol_data.json` as bytes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host_path::Rootfs;
use super::mounts::kubelet_roots::{KubeletRoots, SearchedTable};
use super::mounts::{TableReading, VolumeMatcher, mountinfo, read_table, vol_data};
use crate::runtime::Deadline;
use crate::volume::{CsiVolume, VolumeMount};

/// What a mount table shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The mounts that may be volumes.
    pub mounts: Vec<VolumeMount>,
    /// Every path below which this program would look at something for them.
    pub reached: Vec<PathBuf>,
    /// Lines that are rows.
    pub rows: usize,
    /// Lines that are none.
    pub malformed: usize,
    /// Whether the rows that hold the kubelet's roots receive mounts.
    pub propagation: Option<bool>,
    /// The kubelet's roots.
    pub kubelet_roots: Vec<Vec<u8>>,
}

/// Reads a table; `own` says that it is the live one of this process.
pub fn discover(table: &[u8], rootfs: &Path, matcher: &VolumeMatcher, own: bool) -> Found {
    let rootfs = Rootfs::new(rootfs.to_owned());
    let mut roots = KubeletRoots::new(matcher.kubelet_root.clone(), rootfs.path.clone(), None);
    let roots = |found| roots.trusted(SearchedTable::Own, found, &Deadline::after(Duration::ZERO));
    let TableReading { mounts, kubelet_roots, status } =
        read_table(table, &rootfs, matcher.volume_regex.as_ref(), own, roots);
    let reached = mounts.iter().flat_map(|mount| [Some(mount.mountpoint.clone()), vol_data::path(mount)]);
    Found {
        reached: reached.flatten().map(|path| rootfs.join(&path)).collect(),
        mounts,
        rows: status.rows,
        malformed: status.malformed,
        propagation: status.propagation,
        kubelet_roots,
    }
}

/// The decoded mountpoint of every row.
pub fn mountpoints(table: &[u8]) -> Vec<Vec<u8>> {
    let (rows, _) = mountinfo::parse(table);
    rows.into_iter().map(|row| row.mountpoint.into_owned()).collect()
}

/// What a `vol_data.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolData {
    /// The volume's name.
    pub name: Option<String>,
    /// Driver and handle.
    pub csi: CsiVolume,
    /// A pod's own volume.
    pub ephemeral: bool,
}

/// Reads a `vol_data.json`.
pub fn vol_data(bytes: &[u8]) -> Option<VolData> {
    let data = vol_data::parse(bytes)?;
    let ephemeral = data.is_ephemeral();
    let csi = CsiVolume { driver: data.driver_name, handle: data.volume_handle };
    Some(VolData { name: data.name.filter(|name| !name.is_empty()), csi, ephemeral })
}
