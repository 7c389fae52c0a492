//! The `kubelet_volume_stats_*` series: measured volumes joined with the kubelet's own stats.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::kubelet::ExposedClaims;
use crate::runtime::age;
use crate::snapshot::{ClaimStats, MeasuredVolume, VolumeState};
use crate::volume::{ClaimKey, Inodes, KubeletSeriesOptions, Measurement, ReportedVolume};

/// Everything that is joined.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClaimStatsInputs<'a> {
    /// The volumes of the mount table.
    pub(super) volumes: &'a [MeasuredVolume],
    /// Pods with mounts that are not among these.
    pub(super) left_out_pods: &'a HashSet<String>,
    /// The kubelet's stats, the newest first.
    pub(super) reported: &'a [ReportedVolume],
    /// How old these may be.
    pub(super) max_age: Duration,
    /// The claims that the kubelet exposes itself, if only the others are wanted.
    pub(super) exposed: Option<&'a ExposedClaims>,
    /// Those that it may expose soon, for they are new.
    pub(super) settling: &'a HashSet<Arc<ClaimKey>>,
}

/// How many of these volumes have stale stats. Those of pods with a mount that is left out here may be that mount's, and are
/// not used in any case.
pub(super) fn count_stale(
    reported: &[ReportedVolume],
    left_out_pods: &HashSet<String>,
    max_age: Duration,
    now: SystemTime,
) -> usize {
    let is_used = |volume: &&ReportedVolume| !left_out_pods.contains(&*volume.pod_uid);
    reported.iter().filter(is_used).filter(|volume| !is_fresh(volume, max_age, now)).count()
}

/// Old stats are stale: the kubelet repeats the last ones of a volume that hangs. A volume without a timestamp counts as
/// stale, and so does one of a time that is still to come: its figures would look new until then.
fn is_fresh(volume: &ReportedVolume, max_age: Duration, now: SystemTime) -> bool {
    let age = volume.measured.and_then(|measured| age(measured, now));
    age.is_some_and(|age| age <= max_age)
}

/// The claims to expose, sorted. A measured value wins. The kubelet's value is used only for volumes that are not in the
/// mount table (for a mounted volume that cannot be measured the kubelet repeats its last value), and for inodes that a
/// measured file system does not count: there its CSI driver may.
pub(super) fn claim_stats(
    options: KubeletSeriesOptions,
    inputs: ClaimStatsInputs<'_>,
    now: SystemTime,
) -> Vec<ClaimStats> {
    if matches!(inputs.exposed, Some(ExposedClaims::NotYet)) {
        // Any claim could turn out to be exposed by the kubelet too.
        return Vec::new();
    }
    let mut mounted = MountedClaims::new(inputs);
    let fresh = || inputs.reported.iter().filter(|volume| is_fresh(volume, inputs.max_age, now));
    mounted.add_inodes(fresh());
    let mut series = Vec::new();
    for (claim, volume, stats) in &mounted.measured {
        let pods = volume.volume.pods().map(|pod| Some(pod.name.as_str().into()));
        let pods = if options.per_pod { pods.collect() } else { vec![None] };
        let of_pod = |pod| ClaimStats { claim: Arc::clone(claim), pod, stats: Some(*stats), abnormal: None };
        series.extend(pods.into_iter().map(of_pod));
    }
    let reported = fresh().filter(|volume| mounted.may_use_kubelet_stats(volume));
    series.extend(reported.map(|ReportedVolume { claim, pod, stats, abnormal, .. }| ClaimStats {
        claim: Arc::clone(claim),
        pod: options.per_pod.then(|| Arc::clone(pod)),
        stats: *stats,
        abnormal: *abnormal,
    }));
    let is_exposed = |claim: &ClaimKey| match inputs.exposed {
        Some(ExposedClaims::Known(exposed)) => exposed.contains(claim),
        _ => false,
    };
    series.retain(|of| !is_exposed(&of.claim) && !inputs.settling.contains(&of.claim));
    series.retain(|of| of.stats.is_some() || of.abnormal.is_some());
    // Of one series, what is measured stays first, and then the newest.
    series.sort_by(|a, b| (&a.claim, &a.pod).cmp(&(&b.claim, &b.pod)));
    series.dedup_by(|later, first| {
        let is_same = (&later.claim, &later.pod) == (&first.claim, &first.pod);
        if is_same {
            first.stats = first.stats.or(later.stats);
            first.abnormal = first.abnormal.max(later.abnormal);
        }
        is_same
    });
    series
}

/// The volumes of the mount table, by claim.
struct MountedClaims<'a> {
    measured: Vec<(&'a Arc<ClaimKey>, &'a MeasuredVolume, Measurement)>,
    /// Claims whose volume was not measured.
    failed: HashSet<&'a ClaimKey>,
    /// Pods with volumes of unknown claims that were not measured or are not shown, and of claims that are gone.
    failed_pods: HashSet<&'a str>,
}

impl<'a> MountedClaims<'a> {
    fn new(inputs: ClaimStatsInputs<'a>) -> Self {
        let mut by_claim: HashMap<&Arc<ClaimKey>, Vec<&MeasuredVolume>> = HashMap::new();
        let mut failed_pods: HashSet<&str> = inputs.left_out_pods.iter().map(String::as_str).collect();
        for volume in inputs.volumes {
            match volume.volume.claim.current_key() {
                Some(claim) => by_claim.entry(claim).or_default().push(volume),
                // Of a claim that is gone, the kubelet tells under the name that another one may have by now.
                None if volume.volume.claim.key.is_some() || may_be_frozen(volume) => {
                    failed_pods.extend(volume.mounts().filter_map(|(of, _)| of.mount.pod_uid.as_deref()));
                }
                None => {}
            }
        }
        let mut claims = Self { measured: Vec::new(), failed: HashSet::new(), failed_pods };
        for (claim, volumes) in by_claim {
            let volume = bound_volume(&volumes);
            match volume.and_then(|volume| Some((volume, volume.measurement()?))) {
                Some((volume, measurement)) => claims.measured.push((claim, volume, measurement)),
                None if volume.is_none_or(may_be_frozen) => drop(claims.failed.insert(claim)),
                None => {}
            }
        }
        claims
    }

    /// Takes the inode figures that are not known here from the kubelet.
    fn add_inodes(&mut self, reported: impl Iterator<Item = &'a ReportedVolume>) {
        let mut known: HashMap<&ClaimKey, Inodes> = HashMap::new();
        for volume in reported {
            if let Some(inodes) = volume.stats.and_then(|stats| stats.usage()?.inodes) {
                known.entry(&volume.claim).or_insert(inodes);
            }
        }
        for (claim, volume, measurement) in &mut self.measured {
            if let (Measurement::Filesystem(usage), Some(inodes)) = (measurement, known.get(&***claim))
                && !(inodes.free == 0 && is_cephfs(volume))
            {
                usage.inodes = usage.inodes.or(Some(*inodes));
            }
        }
    }

    fn may_use_kubelet_stats(&self, volume: &ReportedVolume) -> bool {
        !self.failed.contains(&*volume.claim) && !self.failed_pods.contains(&*volume.pod_uid)
    }
}

/// Whether the kubelet may repeat its last stats of it: it cannot be measured. Of a file system without capacity the CSI
/// driver may know more.
fn may_be_frozen(volume: &MeasuredVolume) -> bool {
    !matches!(volume.state(), VolumeState::Measured | VolumeState::Unsupported)
}

/// Its inodes have no limit; old versions of its driver tell the kubelet that none is free.
fn is_cephfs(volume: &MeasuredVolume) -> bool {
    volume.volume.source().is_some_and(|(kind, _)| kind.ends_with("cephfs.csi.ceph.com"))
}

/// Of several volumes that name a claim, the one whose uid is the claim's.
fn bound_volume<'a>(volumes: &[&'a MeasuredVolume]) -> Option<&'a MeasuredVolume> {
    if let [only] = volumes {
        return Some(only);
    }
    let mut bound = volumes.iter().filter(|volume| volume.volume.claim.object().is_some());
    bound.next().filter(|_| bound.next().is_none()).copied()
}

/// A claim and the uid of a pod that mounts it.
type MountKey = (Arc<ClaimKey>, String);

/// Claims that the kubelet may be about to expose, which it does only after it has measured their volume in a pod.
#[derive(Debug, Default)]
pub(super) struct SettlingClaims {
    /// When pods were first seen with the claims that they mount.
    mounted: HashMap<MountKey, Instant>,
    /// The claims that the kubelet exposed the last time.
    exposed: Arc<HashSet<ClaimKey>>,
    /// Since when claims that it exposed are not exposed: one that was restarted has measured nothing yet.
    vanished: HashMap<ClaimKey, Instant>,
}

impl SettlingClaims {
    /// Takes what is mounted now; returns the claims that no pod has mounted for as long as `delay`, and those that the kubelet
    /// exposed until less than that ago.
    pub(super) fn update(
        &mut self,
        volumes: &[MeasuredVolume],
        reported: &[ReportedVolume],
        exposed: Option<&ExposedClaims>,
        delay: Duration,
        now: Instant,
    ) -> HashSet<Arc<ClaimKey>> {
        let mounted = volumes.iter().flat_map(|MeasuredVolume { volume, .. }| {
            let pod_uids = volume.mounts.iter().map(|of| of.mount.pod_uid.clone().unwrap_or_default());
            pod_uids.filter_map(|pod_uid| Some((Arc::clone(volume.claim.current_key()?), pod_uid)))
        });
        let reported = reported.iter().map(|of| (Arc::clone(&of.claim), of.pod_uid.to_string()));
        let before = std::mem::take(&mut self.mounted);
        let first_seen = |key: &MountKey| before.get(key).copied().unwrap_or(now);
        let mounted = mounted.chain(reported).map(|key| (first_seen(&key), key));
        self.mounted = mounted.map(|(first_seen, key)| (key, first_seen)).collect();
        if let Some(ExposedClaims::Known(exposed)) = exposed {
            self.update_exposed(exposed, now);
        }
        let is_old = |since: Instant| now.saturating_duration_since(since) >= delay;
        self.vanished.retain(|_, since| !is_old(*since));
        let old = self.mounted.iter().filter(|(_, first_seen)| is_old(**first_seen));
        let old: HashSet<_> = old.map(|((claim, _), _)| claim).collect();
        let new = self.mounted.keys().map(|(claim, _)| claim).filter(|claim| !old.contains(claim));
        new.cloned().chain(self.vanished.keys().cloned().map(Arc::new)).collect()
    }

    fn update_exposed(&mut self, exposed: &Arc<HashSet<ClaimKey>>, now: Instant) {
        if !Arc::ptr_eq(&self.exposed, exposed) {
            let vanished = self.exposed.difference(exposed).map(|claim| (claim.clone(), now));
            self.vanished.extend(vanished);
            self.vanished.retain(|claim, _| !exposed.contains(claim));
            self.exposed = Arc::clone(exposed);
        }
    }
}

#[cfg(test)]
mod tests;
