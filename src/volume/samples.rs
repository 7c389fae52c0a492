//! Values for tests.

use std::sync::Arc;

use super::{BoundClaim, PodMount, Volume, VolumeMode, VolumeMount};

/// An NFS mount; tests change what they are about.
pub(crate) fn mount(name: &str, plugin: &str, pod_uid: &str) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        plugin: plugin.into(),
        pod_uid: Some(pod_uid.into()),
        csi: None,
        mode: VolumeMode::Filesystem,
        mountpoint: format!("/var/lib/kubelet/pods/{pod_uid}/volumes/{plugin}/{name}").into(),
        id: Some(1),
        device_number: Some((0, 50)),
        device: "server:/export".into(),
        root: Some("/".into()),
        fstype: "nfs4".into(),
        read_only: Some(false),
        is_read_only_here: false,
        superblock_read_only: Some(false),
    }
}

/// A volume without metadata.
pub(crate) fn volume(mounts: Vec<Arc<VolumeMount>>) -> Volume {
    let pv_name = mounts[0].name.clone();
    let mounts = mounts.into_iter().map(|mount| PodMount { mount, pod: None }).collect();
    Volume { pv_name, mounts, pv: None, claim: BoundClaim::default() }
}
