//! Claims that the kubelet may be about to expose: it exposes a claim only after it has measured its volume in a pod.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kubelet::ExposedClaims;
use crate::snapshot::MeasuredVolume;
use crate::volume::{ClaimKey, ReportedVolume};

/// A claim and the uid of a pod that mounts it.
type MountKey = (Arc<ClaimKey>, String);

/// When pods were first seen with the claims that they mount, and since when claims that the kubelet exposed are not exposed.
#[derive(Debug, Default)]
pub(super) struct SettlingClaims {
    mounted: HashMap<MountKey, Instant>,
    exposed: Arc<HashSet<ClaimKey>>,
    /// A kubelet that was restarted has measured nothing yet.
    vanished: HashMap<ClaimKey, Instant>,
}

impl SettlingClaims {
    /// Takes what is mounted now; returns the claims that no pod has mounted for as long as `delay`, and those that
    /// the kubelet exposed until less than that ago.
    pub(super) fn update(
        &mut self,
        volumes: &[MeasuredVolume],
        reported: &[ReportedVolume],
        exposed: Option<&ExposedClaims>,
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
        let mounted = mounted.map(|key| (self.mounted.get(&key).copied().unwrap_or(now), key));
        self.mounted = mounted.map(|(since, key)| (key, since)).collect();
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= delay;
        let (old, new): (Vec<_>, Vec<_>) = self.mounted.iter().partition(|(_, since)| is_old(since));
        let claims = |mounts: Vec<(&MountKey, &Instant)>| -> HashSet<Arc<ClaimKey>> {
            mounts.into_iter().map(|((claim, _), _)| Arc::clone(claim)).collect()
        };
        let mut settling: HashSet<_> = claims(new).difference(&claims(old)).cloned().collect();
        if let Some(ExposedClaims::Known(exposed)) = exposed {
            self.update_exposed(exposed, now);
        }
        self.vanished.retain(|_, since| !is_old(since));
        settling.extend(self.vanished.keys().cloned().map(Arc::new));
        settling
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
