//! Values for tests.

use std::sync::Arc;

use super::{Mount, Volume, VolumeMode};

/// An NFS mount; tests change what they are about.
pub(crate) fn mount(name: &str, plugin: &str, pod_uid: &str) -> Mount {
    Mount {
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
        read_only: false,
        superblock_read_only: false,
    }
}

/// A volume of which nothing else is known.
pub(crate) fn volume(mounts: Vec<Arc<Mount>>) -> Volume {
    let pods = mounts.iter().map(|_| None).collect();
    Volume { pv_name: mounts[0].name.clone(), mounts, pods, pv: None, claim: None, claim_key: None }
}
