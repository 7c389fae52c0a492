//! The kubelet's directory layout: which mountpoints are volumes.

use std::collections::HashSet;

use regex::bytes::Regex;

use crate::node::host_path;
use crate::volume::VolumeMode;

/// Where the kubelet keeps its files unless it is told otherwise.
pub const DEFAULT_KUBELET_ROOT: &str = "/var/lib/kubelet";

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

/// The kubelet's own plugins that never hold a `PersistentVolume`, or mount nothing for one.
const OTHER_PLUGINS: [&[u8]; 8] = [
    b"configmap",
    b"downward-api",
    b"empty-dir",
    b"git-repo",
    b"host-path",
    b"image",
    b"projected",
    b"secret",
];

/// What the path of a mountpoint tells of a volume; names are bytes as in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathIdentity<'a> {
    /// Without `kubernetes.io~` if it is the kubelet's own; empty where a regular expression does not tell it.
    pub(crate) plugin: &'a [u8],
    /// `None` where only the pod's links to its devices tell it.
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) pod_uid: Option<&'a [u8]>,
    pub(crate) mode: VolumeMode,
}

/// What a mountpoint, as the host sees it, is to the kubelet that has this root.
pub(crate) fn classify<'a>(path: &'a [u8], root: &[u8]) -> Option<PathIdentity<'a>> {
    use VolumeMode::{Block, Filesystem};
    let names: Vec<&[u8]> = host_path::strip(path, root)?.split(|&b| b == b'/').skip(1).collect();
    let (plugin, name, pod_uid, mode) = match names[..] {
        [b"pods", pod_uid, b"volumes", b"kubernetes.io~csi", name, b"mount"] => {
            (&b"csi"[..], Some(name), pod_uid, Filesystem)
        }
        [b"pods", pod_uid, b"volumes", escaped, name] if escaped != b"kubernetes.io~csi" => {
            (plugin(escaped)?, Some(name), pod_uid, Filesystem)
        }
        // The kubelet mounts a CSI device twice; `publish` holds the other one, under the volume's name.
        [b"plugins", b"kubernetes.io", b"csi", b"volumeDevices", name, b"dev", pod_uid]
            if name != b"publish" =>
        {
            (&b"csi"[..], Some(name), pod_uid, Block)
        }
        [b"plugins", b"kubernetes.io~local-volume", b"volumeDevices", name, pod_uid] => {
            (&b"local-volume"[..], Some(name), pod_uid, Block)
        }
        [b"plugins", b"kubernetes.io", plugin, b"volumeDevices", .., pod_uid]
            if plugin != b"csi" && PLUGINS.contains(&plugin) && is_pod_uid(pod_uid) =>
        {
            (plugin, None, pod_uid, Block)
        }
        _ => return None,
    };
    Some(PathIdentity { plugin, name, pod_uid: Some(pod_uid), mode })
}

/// The same by the user's regular expression, which has the groups `name`, `pod_uid` and `plugin`.
pub(crate) fn classify_by_regex<'a>(path: &'a [u8], regex: &Regex) -> Option<PathIdentity<'a>> {
    let groups = regex.captures(path)?;
    let group = |name| groups.name(name).map(|found| found.as_bytes());
    Some(PathIdentity {
        plugin: group("plugin").and_then(normalize_plugin).unwrap_or_default(),
        name: Some(group("name").filter(|name| !name.is_empty())?),
        pod_uid: group("pod_uid"),
        mode: VolumeMode::Filesystem,
    })
}

/// The plugin behind a directory's name, if it can hold a `PersistentVolume`: one of the kubelet's own, or a
/// `FlexVolume` driver, whose vendor may be missing, or `kubernetes.io`.
fn plugin(escaped: &[u8]) -> Option<&[u8]> {
    let is_own = |name: &[u8]| PLUGINS.contains(&name) || OTHER_PLUGINS.contains(&name);
    match escaped.strip_prefix(b"kubernetes.io~") {
        Some(name) if is_own(name) => PLUGINS.contains(&name).then_some(name),
        // A driver of that name without a vendor would be taken for the kubelet's own plugin.
        None if is_own(escaped) => None,
        _ => Some(escaped),
    }
}

/// A plugin as users may write it: `nfs`, `kubernetes.io/nfs`, `kubernetes.io~nfs`, `vendor~driver`.
fn normalize_plugin(name: &[u8]) -> Option<&[u8]> {
    let own = name.strip_prefix(b"kubernetes.io~").or_else(|| name.strip_prefix(b"kubernetes.io/"));
    let own = own.unwrap_or(name);
    if PLUGINS.contains(&own) { Some(own) } else { plugin(name).filter(|name| name.contains(&b'~')) }
}

/// A pod's uid as in the API, or a static pod's hash.
fn is_pod_uid(name: &[u8]) -> bool {
    let lengths = || name.split(|&b| b == b'-').map(<[u8]>::len);
    (lengths().eq([32]) || lengths().eq([8, 4, 4, 4, 12]))
        && name.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Whatever holds pods' volumes as a kubelet's root does, but no kubelet that runs inside a volume or a container of
/// another.
pub(crate) fn kubelet_roots<'a>(mountpoints: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<Vec<u8>> {
    let containers: Vec<&[u8]> = mountpoints.clone().filter(|path| is_container_root(path)).collect();
    let inside = |path: &[u8], outer: &[u8]| host_path::strip(path, outer).is_some();
    let mut found: HashSet<&[u8]> = mountpoints.filter_map(kubelet_root_of).collect();
    found.retain(|root| !root.starts_with(GKE_MOUNTER) && !containers.iter().any(|c| inside(root, c)));
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
    let is_pods = |at: &usize| {
        let mut names = path[*at..].strip_prefix(b"/pods/")?.split(|&b| b == b'/');
        Some(is_pod_uid(names.next()?) && names.next()? == b"volumes")
    };
    (1..path.len()).find(|at| is_pods(at) == Some(true)).map(|at| &path[..at])
}

#[cfg(test)]
mod tests;
