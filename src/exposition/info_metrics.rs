//! The label sets of the `*_info` families, of errors and of claims.

use std::borrow::Cow;
use std::ffi::OsStr;

use super::labels::{self, LabelSet};
use crate::snapshot::ClaimStats;
use crate::volume::{Pod, Reason, Volume, VolumeMount};

type Label<'a> = (&'static str, Option<Cow<'a, str>>);

/// `pv_name` and other labels; labels without a value are left out.
fn pv_labels<'a>(volume: &'a Volume, others: impl IntoIterator<Item = Label<'a>>) -> LabelSet {
    let pv_name = ("pv_name", Some(Cow::Borrowed(volume.pv_name.as_str())));
    let all = std::iter::once(pv_name).chain(others);
    LabelSet::new(all.filter_map(|(name, value)| Some((name, value?))))
}

fn claim_labels(volume: &Volume) -> [Label<'_>; 2] {
    let key = volume.claim.key.as_deref();
    [
        ("pvc_namespace", key.map(|key| Cow::Borrowed(key.namespace.as_str()))),
        ("pvc_name", key.map(|key| Cow::Borrowed(key.name.as_str()))),
    ]
}

/// The labels that the kubelet uses itself.
pub(super) fn kubelet_labels(status: &ClaimStats) -> LabelSet {
    let ClaimStats { claim, pod, .. } = status;
    let claim = [("namespace", claim.namespace.as_str()), ("persistentvolumeclaim", claim.name.as_str())];
    let pod = pod.as_deref().map(|pod| ("pod", pod));
    LabelSet::new(claim.into_iter().chain(pod).map(|(name, value)| (name, value.into())))
}

/// The labels of one reason why mounts of a volume were not measured.
pub(super) fn error_labels(volume: &Volume, reason: Reason) -> LabelSet {
    pv_labels(volume, [("reason", Some(reason.as_str().into()))])
}

/// One label set for each mount.
pub(super) fn mount_info_labels(volume: &Volume) -> impl Iterator<Item = LabelSet> {
    volume.mounts.iter().map(|of| of_mount(volume, &of.mount, of.pod.as_deref()))
}

fn of_mount<'a>(volume: &'a Volume, mount: &'a VolumeMount, pod: Option<&'a Pod>) -> LabelSet {
    let os = |text: &'a OsStr| Some(labels::lossy(text));
    pv_labels(
        volume,
        [
            ("pod_uid", mount.pod_uid.as_deref().map(Cow::Borrowed)),
            ("pod_namespace", pod.map(|pod| Cow::Borrowed(pod.namespace.as_str()))),
            ("pod_name", pod.map(|pod| Cow::Borrowed(pod.name.as_str()))),
            ("device", os(&mount.device)),
            ("root", mount.root.as_deref().and_then(os)),
            ("mountpoint", os(mount.mountpoint.as_os_str())),
            ("fstype", os(&mount.fstype)),
            ("access", mount.access().map(Cow::Borrowed)),
        ],
    )
}

pub(super) fn volume_info_labels(volume: &Volume) -> LabelSet {
    let pv = volume.pv.as_deref();
    let source = volume.source().map(Cow::into_owned);
    let (kind, instance) = source.map_or((None, None), |s| (Some(s.kind), s.instance));
    let mode = pv.and_then(|pv| pv.mode.as_deref());
    let access_modes = pv.map(|pv| pv.access_modes.join(",")).filter(|modes| !modes.is_empty());
    let excluded_from_alerts = volume.claim.object().and_then(|claim| claim.excluded_from_alerts.as_deref());
    let others = [
        ("storage_class", pv.and_then(|pv| pv.storage_class.as_deref()).map(Cow::Borrowed)),
        ("volume_type", kind.map(Cow::Owned)),
        ("volume_instance", instance.map(Cow::Owned)),
        ("volume_mode", Some(mode.unwrap_or(volume.mounts[0].mount.mode.as_str()).into())),
        ("access_modes", access_modes.map(Cow::Owned)),
        ("excluded_from_alerts", excluded_from_alerts.map(Cow::Borrowed)),
    ];
    pv_labels(volume, claim_labels(volume).into_iter().chain(others))
}

/// The file system that the volume is on: its server, else its device number.
pub(super) fn filesystem_labels(volume: &Volume) -> Option<LabelSet> {
    let mount = &volume.mounts[0].mount;
    let device_number = mount.device_number.map(|(major, minor)| format!("{major}:{minor}"));
    let filesystem = mount.server().or(device_number)?;
    Some(pv_labels(volume, [("filesystem", Some(filesystem.into()))]))
}

/// The bytes that the claim requests, with their labels.
pub(super) fn claim_request_sample(volume: &Volume) -> Option<(LabelSet, u128)> {
    let requested = volume.claim.object()?.requested_bytes?;
    Some((pv_labels(volume, claim_labels(volume)), requested))
}
