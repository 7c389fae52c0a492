//! Claims that the kubelet may be about to expose: it exposes a claim only after it has measured its volume in a pod.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::snapshot::MeasuredVolume;
use crate::volume::{ClaimKey, ReportedVolume};

/// A claim and the uid of a pod that mounts it.
type MountKey = (Arc<ClaimKey>, String);

/// When pods were first seen with the claims that they mount.
#[derive(Debug, Default)]
pub(super) struct SettlingClaims(HashMap<MountKey, Instant>);

impl SettlingClaims {
    /// Takes what is mounted now; returns the claims that no pod has mounted for as long as `delay`.
    pub(super) fn update(
        &mut self,
        volumes: &[MeasuredVolume],
        reported: &[ReportedVolume],
        delay: Duration,
        now: Instant,
    ) -> HashSet<Arc<ClaimKey>> {
        let of_volume = |volume: &MeasuredVolume| {
            let claim = volume.volume.claim.current_key().cloned();
            let pods = volume.volume.mounts.iter().map(|of| of.mount.pod_uid.clone().unwrap_or_default());
            claim.map(|claim| pods.map(|pod| (Arc::clone(&claim), pod)).collect::<Vec<_>>())
        };
        let reported = reported.iter().map(|volume| (Arc::clone(&volume.claim), volume.pod_uid.to_string()));
        let mounted = volumes.iter().filter_map(of_volume).flatten().chain(reported);
        let mounted = mounted.map(|key| (self.0.get(&key).copied().unwrap_or(now), key));
        self.0 = mounted.map(|(since, key)| (key, since)).collect();
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= delay;
        let (old, new): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, since)| is_old(since));
        let claims = |mounts: Vec<(&MountKey, &Instant)>| -> HashSet<Arc<ClaimKey>> {
            mounts.into_iter().map(|((claim, _), _)| Arc::clone(claim)).collect()
        };
        claims(new).difference(&claims(old)).cloned().collect()
    }
}
