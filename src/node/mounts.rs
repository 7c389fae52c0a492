//! Which mounts of the node are volumes: the rows of a mount table, by the paths of their mountpoints.

pub(super) mod kubelet_roots;
pub(super) mod layout;
pub(super) mod mount_table;
pub(super) mod mountinfo;
pub(super) mod name_lookup;
pub(super) mod vol_data;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;

use super::host_path::{self, Rootfs};
use crate::snapshot::MountTableStatus;
use crate::volume::VolumeMount;
use layout::PathIdentity;
use mountinfo::{Row, has_option};

/// Which mounts are volumes.
#[derive(Debug, Clone, Default)]
pub struct VolumeMatcher {
    /// The kubelet's directory as the host sees it; found in the table where it is not given.
    pub kubelet_root: Option<PathBuf>,
    /// Instead of the kubelet's layout.
    pub volume_regex: Option<Regex>,
}

/// A reading of the mount table.
#[derive(Debug)]
pub(crate) struct TableReading {
    /// The mounts that may be volumes, as far as their paths tell: a name that the path does not tell is empty.
    pub(crate) mounts: Vec<VolumeMount>,
    pub(crate) kubelet_roots: Vec<Vec<u8>>,
    pub(crate) status: MountTableStatus,
}

/// Reads a table that may be seen from the host or from inside a container. `own` says that it is the live one of
/// this process, and `kubelet_roots` which roots there are, by those that the table shows.
pub(crate) fn read_table(
    bytes: &[u8],
    rootfs: &Rootfs,
    volume_regex: Option<&Regex>,
    own: bool,
    kubelet_roots: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>,
) -> TableReading {
    let (table, malformed) = mountinfo::parse(bytes);
    let prefix = prefix(&table, rootfs, own);
    let rows: Vec<(&[u8], &Row<'_>)> =
        table.iter().filter_map(|row| Some((host_path::strip(&row.mountpoint, prefix)?, row))).collect();
    let kubelet_roots = kubelet_roots(layout::kubelet_roots(rows.iter().map(|(path, _)| *path)));
    let in_container = own && !rootfs.is_host_root();
    let status = MountTableStatus {
        readable: true,
        rows: table.len(),
        malformed,
        propagation: in_container.then(|| propagation(&table, prefix, &kubelet_roots)).flatten(),
        ..MountTableStatus::default()
    };
    let classify = |path| match volume_regex {
        Some(regex) => layout::classify_by_regex(path, regex),
        None => kubelet_roots.iter().find_map(|root| layout::classify(path, root)),
    };
    TableReading { mounts: topmost_mounts(&rows, classify), kubelet_roots, status }
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

/// Whether the rows that hold the kubelet's roots receive mounts from elsewhere.
fn propagation(rows: &[Row<'_>], prefix: &[u8], roots: &[Vec<u8>]) -> Option<bool> {
    let is_propagated = |root: &Vec<u8>| {
        let path = [prefix, root].concat();
        let holders = rows.iter().filter(|row| host_path::strip(&path, &row.mountpoint).is_some());
        holders.max_by_key(|row| row.mountpoint.len())?.propagated
    };
    let propagated: Option<Vec<bool>> = roots.iter().map(is_propagated).collect();
    propagated.map(|propagated| !propagated.contains(&false))
}

/// The rows that may be volumes. Of several on one path the topmost counts: the one that no other is mounted on, else the
/// last of those.
fn topmost_mounts<'a>(
    rows: &[(&'a [u8], &Row<'_>)],
    classify: impl Fn(&'a [u8]) -> Option<PathIdentity<'a>>,
) -> Vec<VolumeMount> {
    let volumes = rows.iter().enumerate();
    let volumes = volumes.filter_map(|(position, (path, _))| Some((position, *path, classify(path)?)));
    let volumes: Vec<(usize, &[u8], PathIdentity<'_>)> = volumes.collect();
    let parents = volumes.iter().filter_map(|(position, path, _)| Some((*path, rows[*position].1.parent?)));
    let parents: HashSet<(&[u8], u64)> = parents.collect();
    let is_on_top = |path, row: &Row<'_>| !row.id.is_some_and(|id| parents.contains(&(path, id)));
    let mut topmost: HashMap<&[u8], (bool, usize, PathIdentity<'_>)> = HashMap::new();
    for (position, path, identity) in volumes {
        let is_on_top = is_on_top(path, rows[position].1);
        if is_on_top || topmost.get(path).is_none_or(|(other_is, ..)| !other_is) {
            topmost.insert(path, (is_on_top, position, identity));
        }
    }
    let mut topmost: Vec<_> = topmost.into_values().collect();
    topmost.sort_unstable_by_key(|(_, position, _)| *position);
    topmost.iter().map(|(_, position, identity)| mount(rows[*position], identity)).collect()
}

/// Takes what only the table of the namespace tells in which the mounts were made: this one's ids are others, and a mount that
/// is made read-only there, as the kubelet does in a second step, stays as it was here.
pub(crate) fn take_flags_of_host(mounts: &mut [VolumeMount], host: &[VolumeMount]) {
    let host: HashMap<&Path, &VolumeMount> = host.iter().map(|mount| (&*mount.mountpoint, mount)).collect();
    let is_same = |a: &VolumeMount, b: &VolumeMount| {
        a.device_number.is_some() && a.device_number == b.device_number && a.root == b.root
    };
    for mount in mounts {
        if let Some(host) = host.get(&*mount.mountpoint).filter(|host| is_same(host, mount)) {
            mount.read_only = host.read_only;
        }
    }
}

fn mount((path, row): (&[u8], &Row<'_>), identity: &PathIdentity<'_>) -> VolumeMount {
    let is_read_only = has_option(row.options, &["ro"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let os_string = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    VolumeMount {
        name: identity.name.map(text).unwrap_or_default(),
        plugin: text(identity.plugin).replace('~', "/"),
        pod_uid: identity.pod_uid.map(text),
        csi: None,
        mode: identity.mode,
        mountpoint: os_string(path).into(),
        id: row.id,
        device_number: row.device_number,
        device: os_string(&row.source),
        root: row.root.as_deref().map(os_string),
        fstype: os_string(&row.fstype),
        read_only: (is_read_only || !row.is_copy).then_some(is_read_only),
        is_read_only_here: is_read_only,
        superblock_read_only: is_superblock_read_only(row),
    }
}

fn is_superblock_read_only(row: &Row<'_>) -> Option<bool> {
    let has = |names: &[&str]| has_option(row.super_options, names);
    // Turned so after an error, or shut down.
    if has(&["emergency_ro", "shutdown"]) {
        return Some(true);
    }
    // Only mountinfo tells a superblock's `ro` from a mount's.
    let is_mountinfo = row.id.is_some();
    if has(&["ro"]) { is_mountinfo.then_some(true) } else { Some(false) }
}

#[cfg(test)]
mod tests;
