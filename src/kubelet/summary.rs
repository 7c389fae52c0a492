//! `/stats/summary`: the stats of claims' volumes. A malformed pod or volume loses only itself.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;

use super::client::{KubeletPage, MAX_ENTRIES, Parsed};
use crate::input_limits::RawList;
use crate::volume::{ClaimKey, Inodes, MAX_NAME_BYTES, Measurement, ReportedVolume, Usage, signed_figure};

/// The stats of all pods.
pub(super) static PAGE: KubeletPage<Vec<ReportedVolume>> =
    KubeletPage { path: "/stats/summary", rbac_resource: "nodes/stats", accept: "application/json", parse };

/// Parses a summary: the volumes of claims, those that were measured last first.
pub(super) fn parse(json: &[u8]) -> Result<Parsed<Vec<ReportedVolume>>, String> {
    let summary: Summary<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut parsed = Parsed { value: Vec::new(), malformed: 0 };
    let pods = summary.pods.unwrap_or_default();
    if pods.has_more {
        return Err(format!("more than {MAX_ENTRIES} pods"));
    }
    // A pod with volumes without end takes no room from the others.
    let mut shortest_first: Vec<usize> = (0..pods.items.len()).collect();
    shortest_first.sort_by_key(|index| pods.items[*index].get().len());
    let mut of_pods = vec![Vec::new(); pods.items.len()];
    let mut room = MAX_ENTRIES;
    for index in shortest_first {
        match serde_json::from_str::<Pod<'_>>(pods.items[index].get()) {
            Ok(pod) => of_pods[index] = pod.volumes(room, &mut parsed.malformed),
            Err(_) => parsed.malformed += 1,
        }
        room -= of_pods[index].len();
    }
    parsed.value = of_pods.into_iter().flatten().collect();
    // The kubelet lists pods in any order. Of a claim in several pods the first entry is used.
    parsed.value.sort_by_key(|volume| Reverse(volume.measured));
    Ok(parsed)
}

#[derive(Deserialize)]
#[serde(expecting = "a summary with a list of pods")]
struct Summary<'a> {
    /// `null` for no pods. A missing field is an error: then it is no summary.
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pods: Option<RawList<'a, MAX_ENTRIES>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod<'a> {
    pod_ref: PodReference,
    #[serde(borrow)]
    volume: Option<RawList<'a, MAX_ENTRIES>>,
}

#[derive(Deserialize)]
struct PodReference {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    time: Option<String>,
    pvc_ref: Option<ClaimReference>,
    capacity_bytes: Option<u64>,
    available_bytes: Option<u64>,
    used_bytes: Option<u64>,
    inodes: Option<u64>,
    inodes_free: Option<u64>,
    inodes_used: Option<u64>,
    #[serde(rename = "volumeHealthStats")]
    health: Option<Health>,
}

#[derive(Deserialize)]
struct ClaimReference {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Health {
    abnormal: Option<bool>,
}

impl Pod<'_> {
    /// The volumes of claims, if there is room for them; counts what is malformed.
    fn volumes(self, room: usize, malformed: &mut usize) -> Vec<ReportedVolume> {
        let PodReference { name, namespace, uid } = self.pod_ref;
        if [&name, &namespace, &uid].iter().any(|name| name.len() > MAX_NAME_BYTES) {
            *malformed += 1;
            return Vec::new();
        }
        let (name, uid) = (Arc::from(name), Arc::from(uid));
        let listed = self.volume.unwrap_or_default();
        let mut volumes = Vec::new();
        for item in listed.items {
            match serde_json::from_str::<Volume>(item.get()) {
                Ok(volume) if volume.has_valid_names() => {
                    volumes.extend(volume.reported(&namespace, &name, &uid));
                }
                Ok(_) | Err(_) => *malformed += 1,
            }
        }
        if listed.has_more || volumes.len() > room {
            *malformed += 1;
            return Vec::new();
        }
        volumes
    }
}

impl Volume {
    /// What the figures mean. The kubelet casts what may be negative to unsigned numbers, and sends 0 for what it does not
    /// know: of a block volume that is everything but the capacity.
    fn measurement(&self) -> Option<Measurement> {
        let capacity = self.capacity_bytes.filter(|capacity| !matches!(*capacity, 0 | u64::MAX))?;
        let others = [self.available_bytes, self.used_bytes, self.inodes, self.inodes_free, self.inodes_used];
        if others.into_iter().flatten().all(|figure| figure == 0) {
            return Some(Measurement::Block { size: capacity.into() });
        }
        let bytes = |figure: Option<u64>| Some(signed_figure(figure?, capacity)?.max(0).unsigned_abs());
        let inodes = self.inodes.zip(self.inodes_free).and_then(|(total, free)| Inodes::known(total, free));
        let inodes = inodes.filter(|inodes| self.inodes_used.is_none_or(|used| used <= inodes.total));
        Some(Measurement::Filesystem(Usage {
            total: capacity.into(),
            used: bytes(self.used_bytes),
            available: bytes(self.available_bytes),
            inodes,
            read_only: false,
        }))
    }

    /// Names of any length would be labels of any length.
    fn has_valid_names(&self) -> bool {
        let is_long = |name: &String| name.len() > MAX_NAME_BYTES;
        !self
            .pvc_ref
            .as_ref()
            .is_some_and(|claim| is_long(&claim.name) || claim.namespace.as_ref().is_some_and(is_long))
    }

    /// Of a claim, and of nothing else.
    fn reported(self, namespace: &str, pod: &Arc<str>, uid: &Arc<str>) -> Option<ReportedVolume> {
        let stats = self.measurement();
        let claim = self.pvc_ref?;
        let namespace = claim.namespace.unwrap_or_else(|| namespace.to_owned());
        Some(ReportedVolume {
            claim: Arc::new(ClaimKey { namespace, name: claim.name }),
            pod: Arc::clone(pod),
            pod_uid: Arc::clone(uid),
            measured: self.time.and_then(|time| Some(SystemTime::from(time.parse::<Timestamp>().ok()?))),
            stats,
            abnormal: self.health.and_then(|health| health.abnormal),
        })
    }
}

#[cfg(test)]
mod tests;
