//! A `PersistentVolume` or claim, read so that it takes not much more memory than its JSON: parsed as Kubernetes defines it,
//! an empty element of a list takes a hundred times as much.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, PersistentVolumeSpec,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::input_limits::few_values;

pub(super) type SlimPv = SlimObject<PersistentVolumeSpec, IgnoredAny>;
pub(super) type SlimClaim = SlimObject<PersistentVolumeClaimSpec, PersistentVolumeClaimStatus>;

/// An object as the API server sends it.
#[derive(Deserialize)]
#[serde(bound = "")]
pub(super) struct SlimObject<Spec: DeserializeOwned, Status: DeserializeOwned> {
    #[serde(default)]
    pub(super) metadata: SlimMetadata,
    #[serde(default, deserialize_with = "few_values")]
    pub(super) spec: Option<Spec>,
    #[serde(default, deserialize_with = "few_values")]
    pub(super) status: Option<Status>,
}

/// The fields of an object's metadata that labels and lookups use.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlimMetadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) uid: Option<String>,
    resource_version: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

impl SlimMetadata {
    /// The resource version, by which states of one resource can be compared: it is a number, and larger is later (KEP-5504),
    /// also if an object was deleted and another one has its name.
    pub(super) fn version(&self) -> Option<u64> {
        self.resource_version.as_ref()?.parse().ok()
    }
}
