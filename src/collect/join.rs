//! Mounts and metadata to volumes; pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::volume::{BoundClaim, Claim, Metadata, PersistentVolume, Pod, PodMount, Volume, VolumeMount};

/// Plugins whose volumes CSI drivers have taken over: the object names the old one, the path the new.
const MIGRATED: [&str; 8] =
    ["aws-ebs", "azure-disk", "azure-file", "cinder", "gce-pd", "portworx-volume", "rbd", "vsphere-volume"];

/// The volumes that are certainly `PersistentVolume`s.
#[derive(Debug, Default)]
pub(super) struct Grouped {
    /// Sorted by name.
    pub(super) volumes: Vec<Arc<Volume>>,
    /// Names left out, for different volumes carry them.
    pub(super) ambiguous: usize,
    /// Names left out until more is known of them.
    pub(super) pending: usize,
    /// The pods of the mounts that are left out for either reason.
    pub(super) left_out_pods: HashSet<String>,
}

impl Grouped {
    fn leave_out(&mut self, mounts: &[Arc<VolumeMount>]) {
        self.left_out_pods.extend(mounts.iter().filter_map(|mount| mount.pod_uid.clone()));
    }
}

/// Groups mounts by the name of their volume, and adds what is known of it. Pods' own volumes are left out: those that
/// the pod objects list, and names whose mounts are not of one volume.
pub(super) fn group(mounts: &[Arc<VolumeMount>], metadata: &Metadata) -> Grouped {
    let mut by_name: BTreeMap<&str, Vec<Arc<VolumeMount>>> = BTreeMap::new();
    for mount in mounts.iter().filter(|mount| !is_inline(mount, metadata)) {
        by_name.entry(&mount.name).or_default().push(Arc::clone(mount));
    }
    let mut grouped = Grouped::default();
    for (pv_name, mut mounts) in by_name {
        if metadata.pending.contains(pv_name) {
            grouped.pending += 1;
            grouped.leave_out(&mounts);
            continue;
        }
        // One that is known well tells about the others, and gives the figures if it can.
        mounts.sort_by_key(|mount| mount.csi.is_none());
        let first = &mounts[0];
        let same = |mount: &Arc<VolumeMount>| Arc::ptr_eq(mount, first) || is_same_volume(mount, first);
        if mounts.iter().all(same) {
            grouped.volumes.push(Arc::new(volume(pv_name, mounts, metadata)));
        } else {
            grouped.ambiguous += 1;
            grouped.leave_out(&mounts);
        }
    }
    grouped
}

fn is_inline(mount: &VolumeMount, metadata: &Metadata) -> bool {
    let pod = mount.pod_uid.as_ref().and_then(|uid| metadata.pods.get(uid));
    pod.is_some_and(|pod| pod.has_inline(mount) || is_migrated_inline(mount, pod, metadata))
}

/// Whether a mount is, as far as can be told, of a volume that the pod lists with the old plugin and a CSI driver serves:
/// the kubelet makes up a name for it. A name that is absent may also be of a `PersistentVolume` that was deleted while
/// it is mounted.
fn is_migrated_inline(mount: &VolumeMount, pod: &Pod, metadata: &Metadata) -> bool {
    mount.plugin == "csi"
        && metadata.absent.contains(&mount.name)
        && !metadata.persistent_volumes.contains_key(&mount.name)
        && pod.inline_volumes.iter().any(|(plugin, _)| MIGRATED.contains(&plugin.as_str()))
}

fn is_same_volume(a: &VolumeMount, b: &VolumeMount) -> bool {
    let same_storage = match (&a.csi, &b.csi) {
        (Some(a), Some(b)) => a == b,
        // What one of them is cannot be told yet: no reason to hide the one that can.
        (Some(_), None) | (None, Some(_)) => true,
        (None, None) => is_same_storage(a, b),
    };
    a.plugin == b.plugin && a.mode == b.mode && same_storage
}

/// By the device's number, which tells network and FUSE mounts of one export apart: there the source tells, where
/// it names a place and not just a kind.
fn is_same_storage(a: &VolumeMount, b: &VolumeMount) -> bool {
    let same_number = a.device_number.is_some() && a.device_number == b.device_number;
    let source = a.device.to_string_lossy();
    let names_a_place = source.starts_with('/') || source.contains(':');
    a.root == b.root && (same_number || (names_a_place && a.device == b.device))
}

fn volume(pv_name: &str, mounts: Vec<Arc<VolumeMount>>, metadata: &Metadata) -> Volume {
    let pv = metadata.persistent_volumes.get(pv_name);
    let pv = pv.filter(|pv| mounts.iter().all(|mount| may_be_of(mount, pv)));
    let with_pod = |mount: Arc<VolumeMount>| {
        let pod = mount.pod_uid.as_ref().and_then(|uid| metadata.pods.get(uid)).cloned();
        PodMount { mount, pod }
    };
    Volume {
        pv_name: pv_name.to_owned(),
        mounts: mounts.into_iter().map(with_pod).collect(),
        pv: pv.cloned(),
        claim: pv.map_or(BoundClaim::None, |pv| bound_claim(pv, metadata)),
    }
}

/// Whether a mount may be of this `PersistentVolume`: a pod's own volume can have the name of another one's.
fn may_be_of(mount: &VolumeMount, pv: &PersistentVolume) -> bool {
    let Some(source) = pv.source.as_ref().filter(|_| !mount.plugin.is_empty()) else {
        return true;
    };
    match &mount.csi {
        Some(csi) if source.plugin == "csi" => {
            csi.driver == source.kind && source.instance.as_ref().is_none_or(|handle| *handle == csi.handle)
        }
        _ if mount.plugin == "csi" && MIGRATED.contains(&source.plugin.as_str()) => true,
        _ => mount.plugin == source.plugin,
    }
}

fn bound_claim(pv: &PersistentVolume, metadata: &Metadata) -> BoundClaim {
    let Some(reference) = &pv.claim else {
        return BoundClaim::None;
    };
    let key = Arc::new(reference.key.clone());
    let claims = metadata.claims.get(&reference.key);
    let is_the_one = |claim: &&Arc<Claim>| reference.matches_uid(claim.uid.as_deref());
    let object = claims.and_then(|claims| claims.iter().find(is_the_one)).cloned();
    match object {
        _ if metadata.gone_claims.contains(reference) => BoundClaim::Gone(key, object),
        Some(claim) => BoundClaim::Known(key, claim),
        None if claims.is_some() => BoundClaim::Gone(key, None),
        None => BoundClaim::Named(key),
    }
}

#[cfg(test)]
mod tests;
