//! Matches the rows of a mount table that may be volumes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;

use super::layout::{self, Layout, PathIdentity, PathName};
use super::mountinfo::{self, Row};
use crate::node::host_path::{self, Rootfs};
use crate::volume::{VolumeMode, VolumeMount};

/// Which mounts are volumes.
#[derive(Debug, Clone, Default)]
pub struct VolumeMatcher {
    /// The kubelet's directory as the host sees it; found in the table where it is not given.
    pub kubelet_root: Option<PathBuf>,
    /// Instead of the kubelet's layout.
    pub volume_regex: Option<Regex>,
}

/// A mount that may be a volume, and where the rest about it is written.
#[derive(Debug, Clone)]
pub(crate) struct MountCandidate {
    pub(crate) mount: VolumeMount,
    pub(crate) lookup: NameLookup,
}

/// What has to be read to know a volume's name and CSI handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameLookup {
    /// Nothing: the path tells all.
    None,
    /// This `vol_data.json`, a path of the host.
    VolData(PathBuf),
    /// The pod's links to its devices, below this kubelet root.
    DeviceLinks(Vec<u8>),
}

/// A reading of the mount table.
#[derive(Debug, Default)]
pub(crate) struct TableReading {
    pub(crate) candidates: Vec<MountCandidate>,
    pub(crate) rows: usize,
    pub(crate) malformed: usize,
    /// Whether mounts made on the host appear below the kubelet's roots.
    pub(crate) propagation: Option<bool>,
    pub(crate) kubelet_roots: Vec<Vec<u8>>,
}

/// Reads a table that may be seen from the host or from inside a container. `own` says that it is the live one of
/// this process.
pub(crate) fn read_table(bytes: &[u8], rootfs: &Rootfs, matcher: &VolumeMatcher, own: bool) -> TableReading {
    let table = mountinfo::parse(bytes);
    let prefix = prefix(&table.rows, rootfs, own);
    let rows: Vec<(&[u8], &Row<'_>)> =
        table.rows.iter().filter_map(|row| Some((host_path::strip(&row.mountpoint, prefix)?, row))).collect();
    let kubelet_roots = kubelet_roots(&rows, matcher);
    let in_container = own && !rootfs.is_host_root();
    let propagation = in_container.then(|| propagation(&table.rows, prefix, &kubelet_roots));
    let layout = match &matcher.volume_regex {
        Some(regex) => Layout::Regex(regex.clone()),
        None => Layout::Kubelet { roots: kubelet_roots.clone() },
    };
    TableReading {
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
    let has_pods = |paths: &[&[u8]]| paths.iter().any(|path| layout::kubelet_root_of(path).is_some());
    let is_container = |prefix: &&[u8]| {
        let mountpoints = rows.iter().map(|row| &*row.mountpoint);
        let (inside, outside): (Vec<&[u8]>, Vec<&[u8]>) =
            mountpoints.partition(|path| host_path::strip(path, prefix).is_some());
        !inside.is_empty() && (own || has_pods(&inside) || !has_pods(&outside))
    };
    rootfs.prefixes(own).into_iter().find(is_container).unwrap_or_default()
}

fn kubelet_roots(rows: &[(&[u8], &Row<'_>)], matcher: &VolumeMatcher) -> Vec<Vec<u8>> {
    match &matcher.kubelet_root {
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
            let holds = |row: &&Row<'_>| host_path::strip(&path, &row.mountpoint).is_some();
            let holder = rows.iter().filter(holds).max_by_key(|row| row.mountpoint.len())?;
            holder.propagated
        })
        .collect();
    held.map(|held| held.into_iter().all(|propagated| propagated))
}

/// The rows that are volumes. Of several on one path the topmost counts: the one mounted on the other, else the later.
fn candidates(rows: &[(&[u8], &Row<'_>)], layout: &Layout) -> Vec<MountCandidate> {
    let mut topmost: HashMap<&[u8], (usize, &Row<'_>)> = HashMap::new();
    let mut found: Vec<Option<MountCandidate>> = Vec::new();
    for (path, row) in rows {
        let Some(identity) = layout.classify(path) else {
            continue;
        };
        if let Some((at, other)) = topmost.get(path) {
            if other.parent.is_some() && other.parent == row.id {
                continue;
            }
            found[*at] = None;
        }
        topmost.insert(path, (found.len(), row));
        found.push(Some(candidate(path, row, &identity)));
    }
    found.into_iter().flatten().collect()
}

fn candidate(path: &[u8], row: &Row<'_>, identity: &PathIdentity<'_>) -> MountCandidate {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = match identity.name {
        PathName::Known(name) => text(name),
        PathName::InDeviceLinks { .. } => String::new(),
    };
    let mount = VolumeMount {
        name,
        plugin: text(identity.plugin).replace('~', "/"),
        pod_uid: identity.pod_uid.map(text),
        csi: None,
        mode: identity.mode,
        mountpoint: host_path::path(path).to_owned(),
        id: row.id,
        device_number: row.device_number,
        device: OsStr::from_bytes(&row.source).to_owned(),
        root: row.root.as_deref().map(|root| OsStr::from_bytes(root).to_owned()),
        fstype: OsStr::from_bytes(&row.fstype).to_owned(),
        read_only: row.read_only(),
        superblock_read_only: row.superblock_read_only(),
    };
    MountCandidate { lookup: name_lookup(&mount, identity.name), mount }
}

fn name_lookup(mount: &VolumeMount, name: PathName<'_>) -> NameLookup {
    let directory = |levels| mount.mountpoint.ancestors().nth(levels).map(Path::to_owned);
    let vol_data = match (name, mount.mode) {
        (PathName::InDeviceLinks { kubelet_root }, _) => {
            return NameLookup::DeviceLinks(kubelet_root.to_vec());
        }
        // In-tree plugins name the directory after the PV or the inline volume, unescaped: nothing to look up.
        _ if mount.plugin != "csi" => None,
        (_, VolumeMode::Filesystem) => directory(1).map(|directory| directory.join("vol_data.json")),
        (_, VolumeMode::Block) => directory(2).map(|directory| directory.join("data/vol_data.json")),
    };
    vol_data.map_or(NameLookup::None, NameLookup::VolData)
}

#[cfg(test)]
mod tests;
