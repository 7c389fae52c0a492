//! From the bytes of a mount table to the mounts that may be volumes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;

use super::layout::{self, Layout, Place};
use super::mountinfo::{self, Row};
use super::paths::{self, Rootfs};
use crate::volume::{VolumeMode, VolumeMount};

/// What tells volumes from other mounts.
#[derive(Debug, Clone, Default)]
pub struct Recognition {
    /// The kubelet's directory as the host sees it; found in the table where it is not given.
    pub kubelet_root: Option<PathBuf>,
    /// Instead of the kubelet's layout.
    pub volume_regex: Option<Regex>,
}

/// A mount that looks like a volume; what the path does not tell is told by `detail`.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) mount: VolumeMount,
    pub(crate) detail: Detail,
}

/// Where the rest about a volume is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Nowhere: the path told all.
    Complete,
    /// In this `vol_data.json`, a path of the host.
    VolData(PathBuf),
    /// In the pod's links to its devices, below this kubelet root.
    Links(Vec<u8>),
}

/// A table, understood.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) rows: usize,
    pub(crate) malformed: usize,
    /// Whether mounts made on the host appear below the kubelet's roots.
    pub(crate) propagation: Option<bool>,
    pub(crate) kubelet_roots: Vec<Vec<u8>>,
}

/// Reads a table that may be seen from the host or from inside a container. `own` says that it is the live one of
/// this process.
pub(crate) fn discover(bytes: &[u8], rootfs: &Rootfs, recognition: &Recognition, own: bool) -> Discovery {
    let table = mountinfo::parse(bytes);
    let prefix = prefix(&table.rows, rootfs, own);
    let rows: Vec<(&[u8], &Row<'_>)> =
        table.rows.iter().filter_map(|row| Some((paths::strip(&row.mountpoint, prefix)?, row))).collect();
    let kubelet_roots = kubelet_roots(&rows, recognition);
    let in_container = own && !rootfs.is_host_root();
    let propagation = in_container.then(|| propagation(&table.rows, prefix, &kubelet_roots));
    let layout = match &recognition.volume_regex {
        Some(regex) => Layout::Regex(regex.clone()),
        None => Layout::Kubelet { roots: kubelet_roots.clone() },
    };
    Discovery {
        candidates: candidates(&rows, &layout),
        rows: table.rows.len(),
        malformed: table.malformed,
        propagation: propagation.flatten(),
        kubelet_roots,
    }
}

/// What every path of the host carries in this table: nothing, unless it shows a container's view. Hosts may have a
/// mount of that name too: then pods' volumes are outside of it, and none inside.
fn prefix<'a>(rows: &[Row<'_>], rootfs: &'a Rootfs, own: bool) -> &'a [u8] {
    let has_pods = |paths: &[&[u8]]| paths.iter().any(|path| layout::root_of(path).is_some());
    let is_container = |prefix: &&[u8]| {
        let mountpoints = rows.iter().map(|row| &*row.mountpoint);
        let (inside, outside): (Vec<&[u8]>, Vec<&[u8]>) =
            mountpoints.partition(|path| paths::strip(path, prefix).is_some());
        !inside.is_empty() && (own || has_pods(&inside) || !has_pods(&outside))
    };
    rootfs.prefixes(own).into_iter().find(is_container).unwrap_or_default()
}

fn kubelet_roots(rows: &[(&[u8], &Row<'_>)], recognition: &Recognition) -> Vec<Vec<u8>> {
    match &recognition.kubelet_root {
        Some(root) => vec![root.as_os_str().as_bytes().to_vec()],
        None => layout::kubelet_roots(rows.iter().map(|(path, _)| *path)),
    }
}

/// Whether the rows that hold the kubelet's roots receive mounts from elsewhere.
fn propagation(rows: &[Row<'_>], prefix: &[u8], roots: &[Vec<u8>]) -> Option<bool> {
    let held: Option<Vec<bool>> = roots
        .iter()
        .map(|root| {
            let path = [prefix, root].concat();
            let holds = |row: &&Row<'_>| paths::strip(&path, &row.mountpoint).is_some();
            let holder = rows.iter().filter(holds).max_by_key(|row| row.mountpoint.len())?;
            holder.propagated
        })
        .collect();
    held.map(|held| held.into_iter().all(|propagated| propagated))
}

/// The rows that are volumes. Of several on one path the topmost counts: the one mounted on the other, else the later.
fn candidates(rows: &[(&[u8], &Row<'_>)], layout: &Layout) -> Vec<Candidate> {
    let mut topmost: HashMap<&[u8], (usize, &Row<'_>)> = HashMap::new();
    let mut found: Vec<Option<Candidate>> = Vec::new();
    for (path, row) in rows {
        let Some(place) = layout.classify(path) else {
            continue;
        };
        if let Some((at, other)) = topmost.get(path) {
            if other.parent.is_some() && other.parent == row.id {
                continue;
            }
            found[*at] = None;
        }
        topmost.insert(path, (found.len(), row));
        found.push(Some(candidate(path, row, &place)));
    }
    found.into_iter().flatten().collect()
}

fn candidate(path: &[u8], row: &Row<'_>, place: &Place<'_>) -> Candidate {
    let (plugin, name, pod_uid, mode) = match place {
        Place::Filesystem(v) => (v.plugin, v.name, v.pod_uid, VolumeMode::Filesystem),
        Place::Block(v) => (v.plugin, v.name, v.pod_uid, VolumeMode::Block),
        Place::UnnamedBlock { plugin, pod_uid, .. } => (*plugin, &b""[..], Some(*pod_uid), VolumeMode::Block),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mount = VolumeMount {
        name: text(name),
        plugin: text(plugin).replace('~', "/"),
        pod_uid: pod_uid.map(text),
        csi: None,
        mode,
        mountpoint: paths::path(path).to_owned(),
        id: row.id,
        device_number: row.device_number,
        device: OsStr::from_bytes(&row.source).to_owned(),
        root: row.root.as_deref().map(|root| OsStr::from_bytes(root).to_owned()),
        fstype: OsStr::from_bytes(&row.fstype).to_owned(),
        read_only: row.read_only(),
        superblock_read_only: row.superblock_read_only(),
    };
    Candidate { detail: detail(&mount, place), mount }
}

fn detail(mount: &VolumeMount, place: &Place<'_>) -> Detail {
    let up = |levels| mount.mountpoint.ancestors().nth(levels).map(Path::to_owned);
    let vol_data = match place {
        // The names of the kubelet's own volumes that are no CSI's are PVs' or pods' names as they are.
        Place::Filesystem(_) if mount.plugin == "csi" => up(1).map(|dir| dir.join("vol_data.json")),
        Place::Block(_) if mount.plugin == "csi" => up(2).map(|dir| dir.join("data/vol_data.json")),
        Place::UnnamedBlock { root, .. } => return Detail::Links(root.to_vec()),
        Place::Filesystem(_) | Place::Block(_) => None,
    };
    vol_data.map_or(Detail::Complete, Detail::VolData)
}

#[cfg(test)]
mod tests;
