//! The fields that are used of Kubernetes' objects; all others are skipped while parsing.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::Version;
use super::{Selections, quantity, source};
use crate::volume::{self, ClaimKey, ClaimRef, Labels};

#[derive(Deserialize)]
pub(super) struct Object<Spec> {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMeta {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

/// A static pod's directory carries its hash, which its object has in these annotations.
#[derive(Deserialize)]
struct Annotations {
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

#[derive(Deserialize)]
struct PodVolume {
    name: String,
    #[serde(flatten)]
    source: Map<String, Value>,
}

pub(super) type PersistentVolume = Object<PersistentVolumeSpec>;
pub(super) type PersistentVolumeClaim = Object<PersistentVolumeClaimSpec>;
pub(super) type Pod = Object<PodSpec>;

/// What every object has.
pub(super) trait Identity {
    /// The object's name.
    fn name(&self) -> &str;
}

impl<Spec> Identity for Object<Spec> {
    fn name(&self) -> &str {
        &self.metadata.name
    }
}

impl<Spec> Object<Spec> {
    /// Which of its lives and changes this is.
    pub(super) fn version(&self) -> Version {
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
        let annotations = self.metadata.annotations.into_iter();
        let hashes = annotations.flat_map(|annotations| [annotations.hash, annotations.mirror]).flatten();
        let uids = self.metadata.uid.into_iter().chain(hashes).collect();
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
