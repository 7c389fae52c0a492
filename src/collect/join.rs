//! Joins mounts with what the cluster says about them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::hold_back::HoldBack;
use crate::snapshot::MeasuredVolume;
use crate::volume::{
    self, BoundClaim, Lookup, Metadata, PersistentVolume, Pod, PodMount, ProbeResult, Volume, VolumeMetadata,
    VolumeMount,
};

/// Plugins whose volumes CSI drivers have taken over: the object names the old one, the path the new.
const MIGRATED: [&str; 8] =
    ["aws-ebs", "azure-disk", "azure-file", "cinder", "gce-pd", "portworx-volume", "rbd", "vsphere-volume"];

/// The volumes that are certainly `PersistentVolume`s, kept while neither mounts nor metadata change.
#[derive(Debug, Default)]
pub(super) struct JoinedVolumes {
    /// What they were made from.
    from: (Vec<Arc<VolumeMount>>, Arc<Metadata>),
    hold_back: HoldBack,
    /// Sorted by name.
    pub(super) volumes: Vec<Arc<Volume>>,
    /// Names of which a mount is left out, because it cannot be told whose it is.
    pub(super) ambiguous: usize,
    /// Names left out until the cluster has answered.
    pub(super) pending: usize,
    /// The pods of the mounts that are left out for either reason.
    pub(super) left_out_pods: HashSet<String>,
    /// All mounts of the volumes, volume by volume.
    pub(super) mounts: Vec<Arc<VolumeMount>>,
}

impl JoinedVolumes {
    /// Takes what is known now. A volume about which nothing changed stays the same one, so that what others made of it
    /// stays good.
    pub(super) fn update(&mut self, mounts: Vec<Arc<VolumeMount>>, metadata: Arc<Metadata>, now: Instant) {
        let has_same_mounts = volume::are_same(&self.from.0, &mounts);
        if has_same_mounts && self.from.1.has_same_objects(&metadata) && !self.hold_back.is_over(now) {
            self.from.1 = metadata;
            return;
        }
        if !has_same_mounts {
            self.hold_back.hold_new(&self.from.0, &mounts, now);
        }
        self.hold_back.release(&mounts, &metadata, now);
        let (held, shown): (Vec<_>, Vec<_>) =
            mounts.iter().map(Arc::clone).partition(|mount| self.hold_back.holds(mount));
        let before: HashMap<&str, &Arc<Volume>> =
            self.volumes.iter().map(|volume| (volume.pv_name.as_str(), volume)).collect();
        let mut grouped = group(&shown, &metadata);
        for volume in &mut grouped.volumes {
            if let Some(before) = before.get(volume.pv_name.as_str()).filter(|before| **before == volume) {
                *volume = Arc::clone(before);
            }
        }
        let names: HashSet<&str> = grouped.volumes.iter().map(|volume| volume.pv_name.as_str()).collect();
        let pending: HashSet<&str> = held.iter().map(|mount| mount.name.as_str()).collect();
        self.pending = pending.difference(&names).count();
        grouped.leave_out(&held);
        let Grouped { volumes, ambiguous, left_out_pods } = grouped;
        self.mounts =
            volumes.iter().flat_map(|volume| &volume.mounts).map(|of| Arc::clone(&of.mount)).collect();
        (self.volumes, self.ambiguous, self.left_out_pods) = (volumes, ambiguous, left_out_pods);
        self.from = (mounts, metadata);
    }

    /// The volumes with their measurements, one a mount in the order of `mounts`.
    pub(super) fn measured(&self, results: Vec<ProbeResult>) -> Vec<MeasuredVolume> {
        let mut results = results.into_iter();
        let measured = |volume: &Arc<Volume>| {
            let results: Box<[_]> = results.by_ref().take(volume.mounts.len()).collect();
            MeasuredVolume::new(Arc::clone(volume), results)
        };
        self.volumes.iter().map(measured).collect()
    }
}

#[derive(Debug, Default)]
struct Grouped {
    pub(super) volumes: Vec<Arc<Volume>>,
    ambiguous: usize,
    left_out_pods: HashSet<String>,
}

impl Grouped {
    fn leave_out(&mut self, mounts: &[Arc<VolumeMount>]) {
        self.left_out_pods.extend(mounts.iter().filter_map(|mount| mount.pod_uid.clone()));
    }
}

/// Groups mounts by the name of their volume, and adds what is known of it. Pods' own volumes are left out: those that
/// the pod objects list, and names whose mounts are not of one volume.
fn group(mounts: &[Arc<VolumeMount>], metadata: &Metadata) -> Grouped {
    let mut by_name: BTreeMap<&str, Vec<Arc<VolumeMount>>> = BTreeMap::new();
    for mount in mounts.iter().filter(|mount| !is_inline(mount, metadata)) {
        by_name.entry(&mount.name).or_default().push(Arc::clone(mount));
    }
    let mut grouped = Grouped::default();
    for (pv_name, mounts) in by_name {
        let (mut mounts, unproven): (Vec<_>, Vec<_>) =
            mounts.into_iter().partition(|mount| is_proven(mount, metadata));
        // One that is known well tells about the others, and gives the figures if it can.
        mounts.sort_by_key(|mount| mount.csi.is_none());
        let is_one_volume = mounts.iter().all(|mount| is_same_volume(mount, &mounts[0]));
        grouped.ambiguous += usize::from(!is_one_volume || !unproven.is_empty());
        grouped.leave_out(&unproven);
        if !is_one_volume {
            grouped.leave_out(&mounts);
        } else if !mounts.is_empty() {
            grouped.volumes.push(Arc::new(volume(pv_name, mounts, metadata)));
        }
    }
    grouped
}

/// Whether a mount cannot be of one of the volumes of its pod that are not kept.
fn is_proven(mount: &VolumeMount, metadata: &Metadata) -> bool {
    mount.csi.is_some() || !metadata.pod(mount).is_some_and(|pod| pod.has_more_volumes)
}

fn is_inline(mount: &VolumeMount, metadata: &Metadata) -> bool {
    metadata.pod(mount).is_some_and(|pod| pod.has_inline(mount) || is_migrated_inline(mount, pod, metadata))
}

/// Whether a mount is, as far as can be told, of a volume that the pod lists with the old plugin and a CSI driver serves:
/// the kubelet makes up a name for it. A name that is absent may also be of a `PersistentVolume` that was deleted while
/// it is mounted.
fn is_migrated_inline(mount: &VolumeMount, pod: &Pod, metadata: &Metadata) -> bool {
    mount.plugin == "csi"
        && metadata.volume(mount).is_some_and(|volume| volume.pv == Lookup::Absent)
        && pod.inline_volumes.iter().any(|(plugin, _)| MIGRATED.contains(&plugin.as_str()))
}

fn is_same_volume(a: &VolumeMount, b: &VolumeMount) -> bool {
    let same_storage = match (&a.csi, &b.csi) {
        (Some(a), Some(b)) => a == b,
        // What one of them is cannot be told yet: no reason to hide the one that can.
        (Some(_), None) | (None, Some(_)) => true,
        (None, None) => is_same_storage(a, b),
    };
    std::ptr::eq(a, b) || (a.plugin == b.plugin && a.mode == b.mode && same_storage)
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
    let known = mounts.iter().find_map(|mount| metadata.volume(mount));
    let pv = known.and_then(|known| known.pv.found());
    let pv = pv.filter(|pv| mounts.iter().all(|mount| may_be_of(mount, pv))).cloned();
    let claim = known.filter(|_| pv.is_some()).map(bound_claim).unwrap_or_default();
    let with_pod = |mount: Arc<VolumeMount>| PodMount { pod: metadata.pod(&mount).cloned(), mount };
    Volume { pv_name: pv_name.to_owned(), mounts: mounts.into_iter().map(with_pod).collect(), pv, claim }
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

fn bound_claim(volume: &VolumeMetadata) -> BoundClaim {
    let key = volume.claim_ref().map(|reference| Arc::new(reference.key.clone()));
    BoundClaim { key, object: volume.claim.clone() }
}

#[cfg(test)]
mod tests;
