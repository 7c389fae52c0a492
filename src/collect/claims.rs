//! The `kubelet_volume_stats_*` series: measured volumes joined with the kubelet's own stats.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

/// A claim, and a pod where each pod has a series.
type SeriesKey = (Arc<ClaimKey>, Option<Arc<str>>);
/// The stats of a claim, and whether its driver reports an abnormal condition.
type SeriesValue = (Option<Measurement>, Option<bool>);

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
    let mut series = measured_series(options, &mounted);
    for volume in fresh().filter(|volume| mounted.may_use_kubelet_stats(volume)) {
        let key = (Arc::clone(&volume.claim), options.per_pod.then(|| Arc::clone(&volume.pod)));
        if volume.stats.is_some() {
            series.entry(key.clone()).or_insert((volume.stats, None));
        }
        if let Some(abnormal) = volume.abnormal {
            let (_, known) = series.entry(key).or_default();
            *known = Some(abnormal || known.unwrap_or_default());
        }
    }
    if let Some(ExposedClaims::Known(exposed)) = inputs.exposed {
        series.retain(|(claim, _), _| !exposed.contains(claim));
    }
    series.retain(|(claim, _), _| !inputs.settling.contains(claim));
    let stats = |((claim, pod), (stats, abnormal))| ClaimStats { claim, pod, stats, abnormal };
    series.into_iter().map(stats).collect()
}

fn measured_series(
    options: KubeletSeriesOptions,
    mounted: &MountedClaims<'_>,
) -> BTreeMap<SeriesKey, SeriesValue> {
    let mut series = BTreeMap::new();
    for (claim, volume, stats) in &mounted.measured {
        if options.per_pod {
            for pod in volume.volume.pods() {
                series.insert((Arc::clone(claim), Some(pod.name.as_str().into())), (Some(*stats), None));
            }
        } else {
            series.insert((Arc::clone(claim), None), (Some(*stats), None));
        }
    }
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
    volume.volume.source().is_some_and(|source| source.kind.ends_with("cephfs.csi.ceph.com"))
}

/// Of several volumes that name a claim, the one whose uid is the claim's.
fn bound_volume<'a>(volumes: &[&'a MeasuredVolume]) -> Option<&'a MeasuredVolume> {
    if let [only] = volumes {
        return Some(only);
    }
    let mut bound = volumes.iter().filter(|volume| volume.volume.claim.object().is_some());
    bound.next().filter(|_| bound.next().is_none()).copied()
}

#[cfg(test)]
mod tests;
