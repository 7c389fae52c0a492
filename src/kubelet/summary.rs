//! `/stats/summary`: of its many figures those of claims' volumes, item by item.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::polled::{MOST_ENTRIES, Parsed};
use crate::volume::{ClaimKey, ReportedVolume, VolumeStats};

/// What a pod, or all else, may be long: an answer without end is not kept in memory until its limit.
const LARGEST_ITEM: usize = 4 << 20;
/// What is read at once.
const READ_AT_ONCE: usize = 16 << 10;

/// Reads an answer. An item that does not parse only costs itself.
pub(super) fn parse(answer: impl Read) -> serde_json::Result<Parsed<Vec<ReportedVolume>>> {
    let left = Rc::new(Cell::new(LARGEST_ITEM));
    let reader = Itemwise { inner: BufReader::with_capacity(READ_AT_ONCE, answer), left: Rc::clone(&left) };
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let mut parsed = deserializer.deserialize_map(Summary { left: &left })?;
    deserializer.end()?;
    // The newest first: the kubelet lists pods in any order, and of a claim in several pods one counts.
    parsed.value.sort_by_key(|volume| std::cmp::Reverse(volume.measured));
    Ok(parsed)
}

/// Fails where an item is too long.
struct Itemwise<R> {
    inner: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Itemwise<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(length);
        self.left
            .set(left.ok_or_else(|| io::Error::other(format!("an item of more than {LARGEST_ITEM} bytes")))?);
        Ok(length)
    }
}

struct Summary<'a> {
    left: &'a Cell<usize>,
}

impl<'de> Visitor<'de> for Summary<'_> {
    type Value = Parsed<Vec<ReportedVolume>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a summary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pods = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "pods" => pods = Some(map.next_value_seed(Pods { left: self.left })?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            self.left.set(LARGEST_ITEM);
        }
        pods.ok_or_else(|| A::Error::missing_field("pods"))
    }
}

struct Pods<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Pods<'_> {
    type Value = Parsed<Vec<ReportedVolume>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Pods<'_> {
    type Value = Parsed<Vec<ReportedVolume>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of pods")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Parsed { value: Vec::new(), malformed: 0 })
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut parsed = Parsed { value: Vec::new(), malformed: 0 };
        while let Some(item) = items.next_element::<Box<RawValue>>()? {
            match serde_json::from_str::<Pod>(item.get()) {
                Ok(pod) => pod.volumes(&mut parsed).map_err(A::Error::custom)?,
                Err(_) => parsed.malformed += 1,
            }
            self.left.set(LARGEST_ITEM);
        }
        Ok(parsed)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod<'a> {
    pod_ref: PodReference,
    #[serde(borrow)]
    volume: Option<Vec<&'a RawValue>>,
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
    fn volumes(self, parsed: &mut Parsed<Vec<ReportedVolume>>) -> Result<(), String> {
        let PodReference { name, namespace, uid } = self.pod_ref;
        let (name, uid) = (Arc::from(name), Arc::from(uid));
        for item in self.volume.into_iter().flatten() {
            match serde_json::from_str::<Volume>(item.get()) {
                Ok(volume) => parsed.value.extend(volume.reported(&namespace, &name, &uid)),
                Err(_) => parsed.malformed += 1,
            }
            if parsed.value.len() > MOST_ENTRIES {
                return Err(format!("more than {MOST_ENTRIES} volumes of claims"));
            }
        }
        Ok(())
    }
}

impl Volume {
    /// Of a claim, and of nothing else.
    fn reported(self, namespace: &str, pod: &Arc<str>, uid: &Arc<str>) -> Option<ReportedVolume> {
        let claim = self.pvc_ref?;
        let namespace = claim.namespace.unwrap_or_else(|| namespace.to_owned());
        let stats = VolumeStats {
            capacity: self.capacity_bytes.map(u128::from),
            available: self.available_bytes.map(u128::from),
            used: self.used_bytes.map(u128::from),
            inodes: self.inodes,
            inodes_free: self.inodes_free,
            inodes_used: self.inodes_used,
        };
        Some(ReportedVolume {
            claim: Arc::new(ClaimKey { namespace, name: claim.name }),
            pod: Arc::clone(pod),
            pod_uid: Arc::clone(uid),
            measured: self.time.and_then(|time| Some(SystemTime::from(time.parse::<Timestamp>().ok()?))),
            stats: stats.without_unknown(),
            abnormal: self.health.and_then(|health| health.abnormal),
        })
    }
}

#[cfg(test)]
mod tests;
