//! The kubelet's directory layout: which mountpoints are volumes.

use std::collections::HashSet;

use regex::bytes::Regex;

use crate::node::host_path;
use crate::volume::VolumeMode;

/// Where the kubelet keeps its files unless it is told otherwise.
pub(crate) const DEFAULT_KUBELET_ROOT: &[u8] = b"/var/lib/kubelet";

/// GKE mounts some volumes by a helper with a root of its own, which shows the node's mounts again.
const GKE_MOUNTER: &[u8] = b"/home/kubernetes/containerized_mounter/";

/// The kubelet's own plugins that can hold a `PersistentVolume` and mount it below the pod's directory.
/// The last five are gone from Kubernetes but still met on older nodes.
const PLUGINS: [&[u8]; 20] = [
    b"csi",
    b"gce-pd",
    b"aws-ebs",
    b"azure-disk",
    b"azure-file",
    b"cinder",
    b"vsphere-volume",
    b"portworx-volume",
    b"rbd",
    b"cephfs",
    b"glusterfs",
    b"nfs",
    b"iscsi",
    b"fc",
    b"local-volume",
    b"flocker",
    b"photon-pd",
    b"quobyte",
    b"scaleio",
    b"storageos",
];

/// What the path of a mountpoint tells of a volume; names are bytes as in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathIdentity<'a> {
    /// Without `kubernetes.io~`; empty where a regular expression does not tell it.
    pub(crate) plugin: &'a [u8],
    pub(crate) name: PathName<'a>,
    pub(crate) pod_uid: Option<&'a [u8]>,
    pub(crate) mode: VolumeMode,
}

/// Whether the path names the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathName<'a> {
    Known(&'a [u8]),
    /// Only the pod's links to its devices do, below this kubelet root.
    InDeviceLinks {
        kubelet_root: &'a [u8],
    },
}

/// How mountpoints are told apart.
#[derive(Debug)]
pub(crate) enum Layout {
    /// The kubelet's, under these roots.
    Kubelet { roots: Vec<Vec<u8>> },
    /// The user's, with the groups `name`, `pod_uid` and `plugin`.
    Regex(Regex),
}

impl Layout {
    /// What the mountpoint `path`, as the host sees it, is.
    pub(crate) fn classify<'a>(&'a self, path: &'a [u8]) -> Option<PathIdentity<'a>> {
        match self {
            Self::Kubelet { roots } => roots.iter().find_map(|root| classify_kubelet_path(path, root)),
            Self::Regex(regex) => classify_by_regex(path, regex),
        }
    }
}

fn classify_kubelet_path<'a>(path: &'a [u8], root: &'a [u8]) -> Option<PathIdentity<'a>> {
    let names: Vec<&[u8]> = host_path::strip(path, root)?.split(|&b| b == b'/').skip(1).collect();
    if names.iter().any(|name| matches!(*name, b"" | b"." | b"..")) {
        return None;
    }
    match names[..] {
        [b"pods", pod_uid, b"volumes", b"kubernetes.io~csi", name, b"mount"] => {
            Some(identity(b"csi", name, pod_uid, VolumeMode::Filesystem))
        }
        [b"pods", pod_uid, b"volumes", escaped, name] => {
            let plugin = plugin(escaped).filter(|plugin| *plugin != b"csi")?;
            Some(identity(plugin, name, pod_uid, VolumeMode::Filesystem))
        }
        // The kubelet mounts a CSI device twice; `publish` holds the other one, under the volume's name.
        [b"plugins", b"kubernetes.io", b"csi", b"volumeDevices", name, b"dev", pod_uid]
            if name != b"publish" =>
        {
            Some(identity(b"csi", name, pod_uid, VolumeMode::Block))
        }
        [b"plugins", b"kubernetes.io~local-volume", b"volumeDevices", name, pod_uid] => {
            Some(identity(b"local-volume", name, pod_uid, VolumeMode::Block))
        }
        [b"plugins", b"kubernetes.io", plugin, b"volumeDevices", .., pod_uid]
            if plugin != b"csi" && PLUGINS.contains(&plugin) && is_pod_uid(pod_uid) =>
        {
            Some(PathIdentity {
                plugin,
                name: PathName::InDeviceLinks { kubelet_root: root },
                pod_uid: Some(pod_uid),
                mode: VolumeMode::Block,
            })
        }
        _ => None,
    }
}

fn identity<'a>(plugin: &'a [u8], name: &'a [u8], pod_uid: &'a [u8], mode: VolumeMode) -> PathIdentity<'a> {
    PathIdentity { plugin, name: PathName::Known(name), pod_uid: Some(pod_uid), mode }
}

/// The plugin behind a directory's name, if it can hold a `PersistentVolume`: one of the kubelet's own, or a
/// `FlexVolume` driver, `<vendor>~<driver>`.
fn plugin(escaped: &[u8]) -> Option<&[u8]> {
    match escaped.strip_prefix(b"kubernetes.io~") {
        Some(own) => PLUGINS.contains(&own).then_some(own),
        None => escaped.contains(&b'~').then_some(escaped),
    }
}

/// A plugin as users may write it: `nfs`, `kubernetes.io/nfs`, `kubernetes.io~nfs`, `vendor~driver`.
fn normalize_plugin(name: &[u8]) -> Option<&[u8]> {
    let own = name
        .strip_prefix(b"kubernetes.io")
        .and_then(|rest| rest.strip_prefix(b"~").or(rest.strip_prefix(b"/")));
    let own = own.unwrap_or(name);
    if PLUGINS.contains(&own) { Some(own) } else { plugin(name) }
}

fn classify_by_regex<'a>(path: &'a [u8], regex: &Regex) -> Option<PathIdentity<'a>> {
    let groups = regex.captures(path)?;
    let group = |name| groups.name(name).map(|found| found.as_bytes());
    Some(PathIdentity {
        plugin: group("plugin").and_then(normalize_plugin).unwrap_or_default(),
        name: PathName::Known(group("name").filter(|name| !name.is_empty())?),
        pod_uid: group("pod_uid"),
        mode: VolumeMode::Filesystem,
    })
}

/// A pod's uid as in the API, or a static pod's hash.
fn is_pod_uid(name: &[u8]) -> bool {
    match name.len() {
        32 => name.iter().all(u8::is_ascii_hexdigit),
        36 => name.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        }),
        _ => false,
    }
}

/// The kubelet's roots: the usual one, and whatever else holds pods' volumes, but no kubelet that runs inside a
/// volume or a container of another.
pub(crate) fn kubelet_roots<'a>(mountpoints: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<Vec<u8>> {
    let containers: Vec<&[u8]> = mountpoints.clone().filter(|path| is_container_root(path)).collect();
    let inside = |path: &[u8], outer: &[u8]| host_path::strip(path, outer).is_some();
    let mut found: HashSet<&[u8]> = mountpoints.filter_map(kubelet_root_of).collect();
    found.retain(|root| !root.starts_with(GKE_MOUNTER) && !containers.iter().any(|c| inside(root, c)));
    found.insert(DEFAULT_KUBELET_ROOT);
    let mut roots: Vec<&[u8]> = found.into_iter().collect();
    roots.sort_unstable();
    let outermost = |root: &&[u8]| !roots.iter().any(|o| o != root && inside(root, o));
    roots.iter().copied().filter(outermost).map(<[u8]>::to_vec).collect()
}

/// Whether a container's root directory is mounted here, by the names that container runtimes give to them.
fn is_container_root(mountpoint: &[u8]) -> bool {
    mountpoint.ends_with(b"/rootfs") || mountpoint.ends_with(b"/merged")
}

/// `<root>` of `<root>/pods/<uid>/volumes/…`, the shortest there is.
pub(crate) fn kubelet_root_of(path: &[u8]) -> Option<&[u8]> {
    const PODS: &[u8] = b"/pods/";
    let starts = path.windows(PODS.len()).enumerate().filter(|(_, window)| *window == PODS).map(|(at, _)| at);
    starts.filter(|at| *at > 0).find_map(|at| {
        let mut names = path[at + PODS.len()..].split(|&b| b == b'/');
        let is_pod = is_pod_uid(names.next()?) && names.next()? == b"volumes";
        is_pod.then(|| &path[..at])
    })
}

#[cfg(test)]
mod tests;
