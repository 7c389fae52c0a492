//! The fields that are used of Kubernetes' objects; all others are skipped while parsing.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::api::Version;
use super::{Selections, quantity, source};
use crate::volume::{self, ClaimKey, ClaimRef, Labels};

/// An object whose labels or annotations are used; `IgnoredAny` are those that are not.
#[derive(Deserialize)]
pub(super) struct Object<Spec, L = Labels, A = IgnoredAny> {
    metadata: ObjectMeta<L, A>,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMeta<L, A> {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<L>,
    annotations: Option<A>,
}

/// A static pod's directory carries its hash, which its object has in these annotations.
#[derive(Deserialize, Default)]
pub(super) struct ConfigHashes {
    #[serde(rename = "kubernetes.io/config.hash")]
    hash: Option<String>,
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PersistentVolumeSpec {
    claim_ref: Option<ObjectReference>,
    storage_class_name: Option<String>,
    volume_mode: Option<String>,
    access_modes: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct ObjectReference {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PersistentVolumeClaimSpec {
    resources: Option<Resources>,
}

#[derive(Deserialize)]
struct Resources {
    requests: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
pub(super) struct PodSpec {
    volumes: Option<Vec<PodVolume>>,
}

/// Of the many kinds of sources, those that could be a `PersistentVolume`'s.
struct PodVolume {
    name: String,
    source: Map<String, Value>,
}

impl<'de> Deserialize<'de> for PodVolume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PodVolumeVisitor)
    }
}

struct PodVolumeVisitor;

impl<'de> Visitor<'de> for PodVolumeVisitor {
    type Value = PodVolume;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a pod's volume")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<PodVolume, A::Error> {
        let mut name = None;
        let mut source = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if key == "name" {
                name = Some(fields.next_value()?);
            } else if source::is_source(&key) {
                source.insert(key, fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(PodVolume { name: name.ok_or_else(|| A::Error::missing_field("name"))?, source })
    }
}

pub(super) type PersistentVolume = Object<PersistentVolumeSpec>;
pub(super) type PersistentVolumeClaim = Object<PersistentVolumeClaimSpec>;
pub(super) type Pod = Object<PodSpec, IgnoredAny, ConfigHashes>;

/// What every object has.
pub(super) trait Identity {
    /// The object's name.
    fn name(&self) -> &str;
    /// Which of its lives and changes this is.
    fn version(&self) -> Version;
}

impl<Spec, L, A> Identity for Object<Spec, L, A> {
    fn name(&self) -> &str {
        &self.metadata.name
    }

    fn version(&self) -> Version {
        let number = self.metadata.resource_version.as_ref();
        Version { uid: self.metadata.uid.clone(), number: number.and_then(|number| number.parse().ok()) }
    }
}

impl PersistentVolume {
    /// The name, and what is used of the object.
    pub(super) fn into_domain(self, selections: &Selections) -> (String, volume::PersistentVolume) {
        let spec = self.spec;
        let claim = spec.claim_ref.and_then(|reference| {
            Some(ClaimRef {
                key: ClaimKey { namespace: reference.namespace?, name: reference.name? },
                uid: reference.uid,
            })
        });
        let pv = volume::PersistentVolume {
            labels: selections.pv_labels.select(self.metadata.labels.unwrap_or_default()),
            claim,
            storage_class: spec.storage_class_name.filter(|name| !name.is_empty()),
            source: source::of(&spec.rest),
            mode: spec.volume_mode,
            access_modes: spec.access_modes.unwrap_or_default(),
        };
        (self.metadata.name, pv)
    }
}

impl PersistentVolumeClaim {
    /// Namespace and name, and what is used of the object.
    pub(super) fn into_domain(self, selections: &Selections) -> (ClaimKey, volume::Claim) {
        let requests = self.spec.resources.and_then(|resources| resources.requests);
        let storage = requests.as_ref().and_then(|requests| requests.get("storage"));
        let claim = volume::Claim {
            uid: self.metadata.uid,
            labels: selections.pvc_labels.select(self.metadata.labels.unwrap_or_default()),
            requested_bytes: storage.and_then(Value::as_str).and_then(quantity::parse),
        };
        let key =
            ClaimKey { namespace: self.metadata.namespace.unwrap_or_default(), name: self.metadata.name };
        (key, claim)
    }
}

impl Pod {
    /// The uids that the kubelet's paths may carry, and what is used of the object.
    pub(super) fn into_domain(self) -> (Vec<String>, volume::Pod) {
        let ConfigHashes { hash, mirror } = self.metadata.annotations.unwrap_or_default();
        let uids = [self.metadata.uid, hash, mirror].into_iter().flatten().collect();
        let volumes = self.spec.volumes.unwrap_or_default().into_iter();
        let inline_volumes =
            volumes.filter_map(|volume| Some((source::plugin(&volume.source)?, volume.name))).collect();
        let pod = volume::Pod {
            namespace: self.metadata.namespace.unwrap_or_default(),
            name: self.metadata.name,
            inline_volumes,
        };
        (uids, pod)
    }
}

#[cfg(test)]
mod tests;
