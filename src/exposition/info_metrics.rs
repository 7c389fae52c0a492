//! The label sets of the `*_info` families, of errors and of claims.

use super::labels::LabelSet;
use crate::snapshot::ClaimStats;
use crate::volume::{PodMount, Reason, Volume};

fn pv_labels(volume: &Volume) -> LabelSet {
    LabelSet::default().with("pv_name", volume.pv_name.as_str())
}

/// The labels of a volume's claim: those of the bytes that it requests.
pub(super) fn claim_labels(volume: &Volume) -> LabelSet {
    let key = volume.claim.key.as_deref();
    pv_labels(volume)
        .with("pvc_namespace", key.map(|key| key.namespace.as_str()))
        .with("pvc_name", key.map(|key| key.name.as_str()))
}

/// The labels that the kubelet uses itself.
pub(super) fn kubelet_labels(ClaimStats { claim, pod, .. }: &ClaimStats) -> LabelSet {
    LabelSet::default()
        .with("namespace", claim.namespace.as_str())
        .with("persistentvolumeclaim", claim.name.as_str())
        .with("pod", pod.as_deref())
}

/// The labels of one reason why mounts of a volume were not measured.
pub(super) fn error_labels(volume: &Volume, reason: Reason) -> LabelSet {
    pv_labels(volume).with("reason", reason.as_str())
}

pub(super) fn mount_info_labels(volume: &Volume, PodMount { mount, pod }: &PodMount) -> LabelSet {
    let pod = pod.as_deref();
    pv_labels(volume)
        .with("pod_uid", mount.pod_uid.as_deref())
        .with("pod_namespace", pod.map(|pod| pod.namespace.as_str()))
        .with("pod_name", pod.map(|pod| pod.name.as_str()))
        .with("device", &*mount.device.to_string_lossy())
        .with("root", mount.root.as_ref().map(|root| root.to_string_lossy()).as_deref())
        .with("mountpoint", &*mount.mountpoint.to_string_lossy())
        .with("fstype", &*mount.fstype.to_string_lossy())
        .with("access", mount.access())
}

pub(super) fn volume_info_labels(volume: &Volume) -> LabelSet {
    let pv = volume.pv.as_deref();
    let source = volume.source();
    let mode = pv.and_then(|pv| pv.mode.as_deref());
    let access_modes = pv.map(|pv| pv.access_modes.join(",")).filter(|modes| !modes.is_empty());
    claim_labels(volume)
        .with("storage_class", pv.and_then(|pv| pv.storage_class.as_deref()))
        .with("volume_type", source.map(|(kind, _)| kind))
        .with("volume_instance", source.and_then(|(_, instance)| instance))
        .with("volume_mode", mode.unwrap_or(volume.mounts[0].mount.mode.as_str()))
        .with("access_modes", access_modes.as_deref())
        .with(
            "excluded_from_alerts",
            volume.claim.object().and_then(|claim| claim.excluded_from_alerts.as_deref()),
        )
}

/// The file system that the volume is on: its server, else its device number.
pub(super) fn filesystem_labels(volume: &Volume) -> Option<LabelSet> {
    let mount = &volume.mounts[0].mount;
    let device_number = mount.device_number.map(|(major, minor)| format!("{major}:{minor}"));
    let filesystem = mount.server().or(device_number)?;
    Some(pv_labels(volume).with("filesystem", filesystem.as_str()))
}
