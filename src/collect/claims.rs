//! The series of the kubelet's names: of claims whose volumes were measured, and of those that only the kubelet knows;
//! pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::kubelet::ExposedClaims;
use crate::snapshot::{ClaimStats, MeasuredVolume};
use crate::volume::{ClaimKey, KubeletNames, ReportedVolume, VolumeStats};

/// What the kubelet measured longer ago than this is no figure of now: it goes on publishing what it measured last.
const LONGEST_AGO: Duration = Duration::from_mins(10);

/// All that is known of claims' figures.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClaimSources<'a> {
    /// The volumes of the mount table.
    pub(super) volumes: &'a [MeasuredVolume],
    /// Pods with mounts that are not among these.
    pub(super) left_out_pods: &'a HashSet<String>,
    /// What the kubelet says, the newest first.
    pub(super) reported: &'a [ReportedVolume],
    /// The claims that the kubelet exposes itself, if only the others are wanted.
    pub(super) exposed: Option<&'a ExposedClaims>,
}

/// A claim, and a pod where there is one series a pod.
type Key = (Arc<ClaimKey>, Option<Arc<str>>);

/// How many of these volumes have figures that are not of now.
pub(super) fn stale(reported: &[ReportedVolume], now: SystemTime) -> usize {
    reported.iter().filter(|volume| !is_of_now(volume, now)).count()
}

/// What of a time that is not told is known to be of now? Nothing.
fn is_of_now(volume: &ReportedVolume, now: SystemTime) -> bool {
    let ago = |measured| now.duration_since(measured).unwrap_or_default();
    volume.measured.is_some_and(|measured| ago(measured) <= LONGEST_AGO)
}

/// The claims that have series, sorted. Measured figures win; the kubelet's stand in for what the mount table does not
/// have, and never for what it has and cannot measure: they are frozen then.
pub(super) fn claims(names: KubeletNames, figures: ClaimSources<'_>, now: SystemTime) -> Vec<ClaimStats> {
    if matches!(figures.exposed, Some(ExposedClaims::NotYet)) {
        // Whatever were shown could be there twice.
        return Vec::new();
    }
    let table = Table::new(figures);
    let mut series: BTreeMap<Key, (VolumeStats, Option<bool>)> = BTreeMap::new();
    for (key, status, stats) in &table.measured {
        if names.per_pod {
            for pod in status.volume.pods() {
                series.insert((Arc::clone(key), Some(pod.name.as_str().into())), (*stats, None));
            }
        } else {
            series.insert((Arc::clone(key), None), (*stats, None));
        }
    }
    let fill = figures.reported.iter().filter(|volume| is_of_now(volume, now) && table.may_fill(volume));
    for volume in fill {
        let key = (Arc::clone(&volume.claim), names.per_pod.then(|| Arc::clone(&volume.pod)));
        if let Some(stats) = volume.stats {
            series.entry(key.clone()).or_insert((stats, None));
        }
        if let Some(abnormal) = volume.abnormal {
            let (_, known) = series.entry(key).or_default();
            *known = Some(abnormal || known.unwrap_or_default());
        }
    }
    let is_wanted = |claim: &ClaimKey| match figures.exposed {
        Some(ExposedClaims::Known(claims)) => !claims.contains(claim),
        _ => true,
    };
    series.retain(|(claim, _), _| is_wanted(claim));
    let status = |((claim, pod), (stats, abnormal))| ClaimStats { claim, pod, stats, abnormal };
    series.into_iter().map(status).collect()
}

/// What the mount table has, by claim.
struct Table<'a> {
    measured: Vec<(&'a Arc<ClaimKey>, &'a MeasuredVolume, VolumeStats)>,
    /// Claims that have no figures there.
    failed: HashSet<&'a ClaimKey>,
    /// Pods with volumes that have no figures, or are not shown, of claims that are not known.
    failed_pods: HashSet<&'a str>,
}

impl<'a> Table<'a> {
    fn new(figures: ClaimSources<'a>) -> Self {
        let mut by_claim: HashMap<&Arc<ClaimKey>, Vec<&MeasuredVolume>> = HashMap::new();
        let mut failed_pods: HashSet<&str> = figures.left_out_pods.iter().map(String::as_str).collect();
        for status in figures.volumes {
            match status.volume.claim.current_key() {
                Some(claim) => by_claim.entry(claim).or_default().push(status),
                None if status.measurement().is_none() => {
                    let pods = status.mounts().filter_map(|(of, _)| of.mount.pod_uid.as_deref());
                    failed_pods.extend(pods);
                }
                None => {}
            }
        }
        let mut table = Self { measured: Vec::new(), failed: HashSet::new(), failed_pods };
        for (claim, statuses) in by_claim {
            match the_claims(&statuses).and_then(|status| Some((status, status.measurement()?))) {
                Some((status, figures)) => table.measured.push((claim, status, figures.into())),
                None => drop(table.failed.insert(claim)),
            }
        }
        table
    }

    /// Whether the kubelet's figures of a volume may be used.
    fn may_fill(&self, volume: &ReportedVolume) -> bool {
        !self.failed.contains(&*volume.claim) && !self.failed_pods.contains(&*volume.pod_uid)
    }
}

/// Of several volumes that name a claim, the one that it is bound to: the claim's uid tells.
fn the_claims<'a>(statuses: &[&'a MeasuredVolume]) -> Option<&'a MeasuredVolume> {
    if let [only] = statuses {
        return Some(only);
    }
    let mut bound = statuses.iter().filter(|status| status.volume.claim.object().is_some());
    bound.next().filter(|_| bound.next().is_none()).copied()
}

#[cfg(test)]
mod tests;
