//! The fields that are used of a pod, read without keeping or trusting any other.

use std::collections::HashMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::input_limits::RawList;
use crate::volume::{MAX_NAME_BYTES, Pod};

/// Of a pod with more volumes than this, the others are not kept.
const MAX_VOLUMES: usize = 256;
/// The fields that are used, but for those that name a plugin.
#[rustfmt::skip]
const FIELDS: [&str; 15] = [
    "annotations", "claimName", "driver", "ephemeral", "items", "kind", "kubernetes.io/config.mirror", "metadata", "name",
    "namespace", "persistentVolumeClaim", "resourceVersion", "spec", "uid", "volumes",
];
/// The fields of a pod's volume that name a plugin that can hold a `PersistentVolume`, and the plugin's directory.
#[rustfmt::skip]
const PLUGINS: [(&str, &str); 21] = [
    ("awsElasticBlockStore", "aws-ebs"), ("azureDisk", "azure-disk"), ("azureFile", "azure-file"), ("cephfs", "cephfs"),
    ("cinder", "cinder"), ("csi", "csi"), ("fc", "fc"), ("flexVolume", "flexvolume"), ("flocker", "flocker"),
    ("gcePersistentDisk", "gce-pd"), ("glusterfs", "glusterfs"), ("hostPath", "host-path"), ("iscsi", "iscsi"),
    ("nfs", "nfs"), ("photonPersistentDisk", "photon-pd"), ("portworxVolume", "portworx-volume"), ("quobyte", "quobyte"),
    ("rbd", "rbd"), ("scaleIO", "scaleio"), ("storageos", "storageos"), ("vsphereVolume", "vsphere-volume"),
];

/// A pod as the API server sends it. It has a name and a spec; another field of another type is absent.
#[derive(Debug, Clone)]
pub(super) struct SlimPod {
    /// The object's uid.
    pub(super) uid: Option<String>,
    /// The uids that the kubelet's paths may carry.
    pub(super) path_uids: Vec<String>,
    pub(super) resource_version: Option<String>,
    /// What labels and volumes need to know.
    pub(super) pod: Pod,
}

/// The name of a field that is used; all others are one, so that no more of them is kept however many there are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FieldName(Option<&'static str>);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let mut known = FIELDS.iter().chain(PLUGINS.iter().map(|(field, _)| field));
        Ok(Self(known.find(|known| **known == name).copied()))
    }
}

/// The fields of an object that are used, as JSON.
#[derive(Default, Deserialize)]
pub(super) struct Fields<'a>(#[serde(borrow)] HashMap<FieldName, &'a RawValue>);

impl<'a> Fields<'a> {
    pub(super) fn of(json: &'a RawValue) -> Option<Self> {
        serde_json::from_str(json.get()).ok()
    }

    fn json(&self, key: &'static str) -> Option<&'a RawValue> {
        self.0.get(&FieldName(Some(key))).copied()
    }

    /// A field, unless it has another type.
    pub(super) fn read<T: Deserialize<'a>>(&self, key: &'static str) -> Option<T> {
        serde_json::from_str(self.json(key)?.get()).ok()
    }

    pub(super) fn name(&self, key: &'static str) -> Option<String> {
        self.read(key).filter(|name: &String| name.len() <= MAX_NAME_BYTES)
    }
}

impl<'de> Deserialize<'de> for SlimPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let fields = Fields::of(&json).unwrap_or_default();
        let metadata: Fields<'_> = fields.read("metadata").unwrap_or_default();
        let annotations: Fields<'_> = metadata.read("annotations").unwrap_or_default();
        let missing = D::Error::missing_field;
        let name = metadata.name("name").ok_or_else(|| missing("name"))?;
        let spec: Fields<'_> = fields.read("spec").ok_or_else(|| missing("spec"))?;
        let volumes = spec.json("volumes").map(|volumes| serde_json::from_str(volumes.get())).transpose();
        let volumes: Option<RawList<'_, MAX_VOLUMES>> = volumes.map_err(D::Error::custom)?.flatten();
        let uid = metadata.name("uid");
        // A static pod's directory is named after the hash that this annotation of its mirror pod has. Anybody can give a pod
        // `config.hash`, but the kubelet deletes pods with this one that are not its own.
        let hash = annotations.name("kubernetes.io/config.mirror");
        Ok(Self {
            path_uids: [uid.clone(), hash].into_iter().flatten().collect(),
            uid,
            resource_version: metadata.name("resourceVersion"),
            pod: pod(name, metadata.name("namespace").unwrap_or_default(), &volumes.unwrap_or_default()),
        })
    }
}

fn pod(name: String, namespace: String, volumes: &RawList<'_, MAX_VOLUMES>) -> Pod {
    let mut pod = Pod { name, namespace, has_more_volumes: volumes.has_more, ..Pod::default() };
    for volume in volumes.items.iter().filter_map(|volume| Fields::of(volume)) {
        let Some(name) = volume.name("name") else { continue };
        let source = |field| volume.read::<Fields<'_>>(field);
        // The claim of a generic ephemeral volume is named after both.
        pod.claims.extend(source("ephemeral").map(|_| format!("{}-{name}", pod.name)));
        pod.claims.extend(source("persistentVolumeClaim").and_then(|claim| claim.name("claimName")));
        let plugin = PLUGINS.iter().find_map(|(field, plugin)| Some((source(field)?, *plugin)));
        pod.inline_volumes.extend(plugin.map(|(source, plugin)| match source.name("driver") {
            Some(driver) if plugin == "flexvolume" => (driver, name),
            _ => (plugin.to_owned(), name),
        }));
    }
    pod
}
