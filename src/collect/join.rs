//! Joins mounts with what the cluster says about them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::hold_back::HoldBack;
use crate::snapshot::MeasuredVolume;
use crate::volume::{
    self, BoundClaim, ClaimKey, Exclusions, Metadata, PodMount, ProbeResult, Volume, VolumeMetadata,
    VolumeMount,
};

/// The volumes that are certainly `PersistentVolume`s, kept while neither mounts nor metadata change.
#[derive(Debug, Default)]
pub(super) struct JoinedVolumes {
    /// What they were made from.
    from: (Vec<Arc<VolumeMount>>, Arc<Metadata>),
    hold_back: HoldBack,
    exclusions: Exclusions,
    /// Sorted by name.
    pub(super) volumes: Vec<Arc<Volume>>,
    /// Names of which a mount is left out, because it cannot be told whose it is.
    pub(super) ambiguous: usize,
    /// Names left out until the cluster has answered.
    pub(super) pending: usize,
    /// Names left out because the settings exclude them, and their claims as far as they are known.
    pub(super) excluded: HashMap<String, Option<Arc<ClaimKey>>>,
    /// The pods of the mounts that are left out and of which the claim is not known.
    pub(super) left_out_pods: HashSet<String>,
    /// All mounts of the volumes, volume by volume.
    pub(super) mounts: Vec<Arc<VolumeMount>>,
}

impl JoinedVolumes {
    pub(super) fn new(exclusions: Exclusions) -> Self {
        Self { exclusions, ..Self::default() }
    }

    /// Takes what is known now. A volume about which nothing changed stays the same one, so that what others made of it
    /// stays good.
    pub(super) fn update(&mut self, mounts: Vec<Arc<VolumeMount>>, metadata: Arc<Metadata>, now: Instant) {
        let has_same_mounts = volume::are_same(&self.from.0, &mounts);
        if has_same_mounts && self.from.1.has_same_objects(&metadata) && !self.hold_back.is_over(now) {
            self.from.1 = metadata;
            return;
        }
        self.hold_back.update(&self.from.0, &mounts, &metadata, now);
        let (held, shown): (Vec<_>, Vec<_>) =
            mounts.iter().map(Arc::clone).partition(|mount| self.hold_back.holds(mount));
        let mut joined = group(&shown, &metadata, &self.exclusions);
        for volume in &mut joined.volumes {
            let before = self.volumes.binary_search_by(|before| before.pv_name.cmp(&volume.pv_name));
            if let Some(before) = before.ok().map(|at| &self.volumes[at]).filter(|before| *before == volume) {
                *volume = Arc::clone(before);
            }
        }
        let names = joined.volumes.iter().map(|volume| &volume.pv_name).chain(joined.excluded.keys());
        let names: HashSet<&str> = names.map(String::as_str).collect();
        let pending: HashSet<&str> = held.iter().map(|mount| mount.name.as_str()).collect();
        joined.pending = pending.difference(&names).count();
        joined.leave_out(&held);
        let mounts_of_volumes = joined.volumes.iter().flat_map(|volume| &volume.mounts);
        joined.mounts = mounts_of_volumes.map(|of| Arc::clone(&of.mount)).collect();
        joined.hold_back = std::mem::take(&mut self.hold_back);
        joined.exclusions = std::mem::take(&mut self.exclusions);
        joined.from = (mounts, metadata);
        *self = joined;
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

    fn leave_out(&mut self, mounts: &[Arc<VolumeMount>]) {
        self.left_out_pods.extend(mounts.iter().filter_map(|mount| mount.pod_uid.clone()));
    }
}

/// Groups mounts by the name of their volume, and adds what is known of it. Left out are pods' own volumes, mounts that are
/// not of the volume that has their name, names whose mounts are, as far as can be told, of several volumes, and those that
/// are excluded.
fn group(mounts: &[Arc<VolumeMount>], metadata: &Metadata, exclusions: &Exclusions) -> JoinedVolumes {
    let mut by_name: BTreeMap<&str, Vec<Arc<VolumeMount>>> = BTreeMap::new();
    for mount in mounts.iter().filter(|mount| !metadata.is_inline(mount)) {
        by_name.entry(&mount.name).or_default().push(Arc::clone(mount));
    }
    let mut grouped = JoinedVolumes::default();
    for (pv_name, mounts) in by_name {
        let known = mounts.iter().find_map(|mount| metadata.volume(mount));
        let (mounts, others) = of_volume(mounts, known, metadata);
        grouped.leave_out(&others);
        let is_excluded = |mount: &VolumeMount| exclusions.matches(mount, known, metadata);
        if !mounts.is_empty() && mounts.iter().all(|mount| is_excluded(mount)) {
            let claim = known.and_then(|known| bound_claim(known).current_key().cloned());
            if claim.is_none() {
                // The kubelet must not stand in for it: any claim of these pods may be its.
                grouped.leave_out(&mounts);
            }
            grouped.excluded.insert(pv_name.to_owned(), claim);
            continue;
        }
        let (mut mounts, unlisted): (Vec<_>, Vec<_>) =
            mounts.into_iter().partition(|mount| !may_be_unlisted(mount, metadata));
        // One that is known well tells about the others, and gives the figures if it can.
        mounts.sort_by_key(|mount| mount.csi.is_none());
        let uses_claim = |mount: &VolumeMount| uses_claim(mount, known, metadata);
        let is_of_claim = mounts.iter().all(|mount| uses_claim(mount));
        let is_one_volume = mounts.iter().all(|mount| is_same_volume(mount, &mounts[0], is_of_claim));
        grouped.ambiguous += usize::from(!is_one_volume || !unlisted.is_empty());
        grouped.leave_out(&unlisted);
        // Mounts of one export can be of two types, as nfs and nfs4.
        mounts.retain(|mount| !is_excluded(mount));
        if !is_one_volume {
            grouped.leave_out(&mounts);
        } else if !mounts.is_empty() {
            grouped.volumes.push(Arc::new(volume(pv_name, mounts, known, metadata)));
        }
    }
    grouped
}

type Mounts = Vec<Arc<VolumeMount>>;

/// Splits the mounts of a name, about which this is known, into those that may be of its `PersistentVolume` and the others. A
/// mount that is proven to be of it also tells about those that are known by their paths alone.
fn of_volume(mounts: Mounts, known: Option<&VolumeMetadata>, metadata: &Metadata) -> (Mounts, Mounts) {
    let pv = known.and_then(|known| known.pv.found());
    let is_other = |mount: &VolumeMount| {
        metadata.is_of_earlier_volume(mount) || pv.is_some_and(|pv| metadata.contradicts(pv, mount))
    };
    let is_proven = |mount: &VolumeMount| mount.csi.is_some() || uses_claim(mount, known, metadata);
    let proven = mounts.iter().find(|mount| !is_other(mount) && is_proven(mount)).cloned();
    let may_be_of = |mount: &Arc<VolumeMount>| {
        let agrees = |proven| is_proven(mount) || is_same_volume(mount, proven, false);
        !is_other(mount) && proven.as_ref().is_none_or(|proven| agrees(proven))
    };
    mounts.into_iter().partition(may_be_of)
}

/// Whether a mount may be of one of the volumes of its pod that are not kept.
fn may_be_unlisted(mount: &VolumeMount, metadata: &Metadata) -> bool {
    mount.csi.is_none() && metadata.pod(mount).is_some_and(|pod| pod.has_more_volumes)
}

/// Whether its pod uses the claim that the `PersistentVolume` of its name is bound to.
fn uses_claim(mount: &VolumeMount, known: Option<&VolumeMetadata>, metadata: &Metadata) -> bool {
    let uses = || metadata.pod(mount)?.uses(&known?.claim_ref()?.key);
    uses() == Some(true)
}

/// `is_of_claim` says that the pods of both use the claim of the volume that they are named after.
fn is_same_volume(a: &VolumeMount, b: &VolumeMount, is_of_claim: bool) -> bool {
    let same_storage = match (&a.csi, &b.csi) {
        (Some(of_a), Some(of_b)) => of_a == of_b && !are_on_two_disks(a, b),
        _ => is_same_storage(a, b) || (is_of_claim && !are_on_two_disks(a, b)),
    };
    std::ptr::eq(a, b) || (a.plugin == b.plugin && a.mode == b.mode && same_storage)
}

/// A volume is one disk. Where it is two, one of them may be gone, with figures that stay as they were. File systems without
/// a disk have a number of their own for each mount, whose major is 0.
fn are_on_two_disks(a: &VolumeMount, b: &VolumeMount) -> bool {
    let numbers = a.device_number.zip(b.device_number);
    numbers.is_some_and(|(a, b)| a != b && a.0 != 0 && b.0 != 0)
}

/// By the device's number, which tells network and FUSE mounts of one export apart: there the source tells, where
/// it names a place and not just a kind.
fn is_same_storage(a: &VolumeMount, b: &VolumeMount) -> bool {
    let same_number = a.device_number.is_some() && a.device_number == b.device_number;
    let source = a.device.to_string_lossy();
    let names_a_place = source.starts_with('/') || source.contains(':');
    a.root == b.root && (same_number || (names_a_place && a.device == b.device))
}

fn volume(
    pv_name: &str,
    mounts: Vec<Arc<VolumeMount>>,
    known: Option<&VolumeMetadata>,
    metadata: &Metadata,
) -> Volume {
    let pv = known.and_then(|known| known.pv.found()).cloned();
    let claim = known.filter(|_| pv.is_some()).map(bound_claim).unwrap_or_default();
    let with_pod = |mount: Arc<VolumeMount>| PodMount { pod: metadata.pod(&mount).cloned(), mount };
    Volume { pv_name: pv_name.to_owned(), mounts: mounts.into_iter().map(with_pod).collect(), pv, claim }
}

fn bound_claim(volume: &VolumeMetadata) -> BoundClaim {
    let key = volume.claim_ref().map(|reference| Arc::new(reference.key.clone()));
    BoundClaim { key, object: volume.claim.clone() }
}

#[cfg(test)]
mod tests;
