//! The fields that are used of a pod, read without keeping or trusting any other.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use crate::volume::Pod;

/// Of a pod with more volumes than this, the others are not kept.
const MAX_VOLUMES: usize = 256;
/// The longest name that Kubernetes allows.
const MAX_NAME_BYTES: usize = 253;
/// The fields of a pod's volume that name a plugin that can hold a `PersistentVolume`, and the plugin's directory.
#[rustfmt::skip]
const PLUGINS: [(&str, &str); 21] = [
    ("awsElasticBlockStore", "aws-ebs"), ("azureDisk", "azure-disk"), ("azureFile", "azure-file"), ("cephfs", "cephfs"),
    ("cinder", "cinder"), ("csi", "csi"), ("fc", "fc"), ("flexVolume", "flexvolume"), ("flocker", "flocker"),
    ("gcePersistentDisk", "gce-pd"), ("glusterfs", "glusterfs"), ("hostPath", "host-path"), ("iscsi", "iscsi"),
    ("nfs", "nfs"), ("photonPersistentDisk", "photon-pd"), ("portworxVolume", "portworx-volume"), ("quobyte", "quobyte"),
    ("rbd", "rbd"), ("scaleIO", "scaleio"), ("storageos", "storageos"), ("vsphereVolume", "vsphere-volume"),
];

/// A pod as the API server sends it. A field that is missing or of another type is absent.
#[derive(Debug, Clone, Default)]
pub(super) struct SlimPod {
    /// The object's uid.
    pub(super) uid: Option<String>,
    /// The uids that the kubelet's paths may carry.
    pub(super) path_uids: Vec<String>,
    pub(super) resource_version: Option<String>,
    /// What is used of it; `None` if it has no name.
    pub(super) pod: Option<Pod>,
    /// Its spec and its volumes are of the right types.
    pub(super) is_well_formed: bool,
}

/// The fields of an object, as JSON.
#[derive(Deserialize, Default)]
#[serde(transparent)]
pub(super) struct Fields<'a>(#[serde(borrow)] HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    pub(super) fn of(json: &'a RawValue) -> Option<Self> {
        serde_json::from_str(json.get()).ok()
    }

    fn object(&self, key: &str) -> Option<Self> {
        Self::of(self.0.get(key)?)
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.0.get(key)?.get()).ok()
    }

    pub(super) fn name(&self, key: &str) -> Option<String> {
        self.read(key).filter(|name: &String| name.len() <= MAX_NAME_BYTES)
    }
}

impl<'de> Deserialize<'de> for SlimPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let fields = Fields::of(&json).unwrap_or_default();
        let metadata = fields.object("metadata").unwrap_or_default();
        let annotations = metadata.object("annotations").unwrap_or_default();
        let spec = fields.object("spec");
        let volumes = spec.as_ref().and_then(|spec| spec.0.get("volumes"));
        let volumes = volumes.map(|volumes| serde_json::from_str::<Option<Vec<&RawValue>>>(volumes.get()));
        let uid = metadata.name("uid");
        // A static pod's directory is named after the hash that this annotation of its mirror pod has. Anybody can give a pod
        // `config.hash`, but the kubelet deletes pods with this one that are not its own.
        let hash = annotations.name("kubernetes.io/config.mirror");
        Ok(Self {
            path_uids: [uid.clone(), hash].into_iter().flatten().collect(),
            uid,
            resource_version: metadata.name("resourceVersion"),
            is_well_formed: spec.is_some() && volumes.as_ref().is_none_or(Result::is_ok),
            pod: metadata.name("name").map(|name| {
                let namespace = metadata.name("namespace").unwrap_or_default();
                pod(name, namespace, &volumes.and_then(Result::ok).flatten().unwrap_or_default())
            }),
        })
    }
}

fn pod(name: String, namespace: String, volumes: &[&RawValue]) -> Pod {
    let mut pod = Pod { name, namespace, has_more_volumes: volumes.len() > MAX_VOLUMES, ..Pod::default() };
    for volume in volumes.iter().take(MAX_VOLUMES).filter_map(|volume| Fields::of(volume)) {
        let Some(name) = volume.name("name") else { continue };
        // The claim of a generic ephemeral volume is named after both.
        let claim = volume.object("ephemeral").map(|_| format!("{}-{name}", pod.name));
        pod.claims.extend(claim);
        pod.claims.extend(volume.object("persistentVolumeClaim").and_then(|source| source.name("claimName")));
        let plugin = PLUGINS.iter().find_map(|(field, plugin)| Some((volume.object(field)?, *plugin)));
        pod.inline_volumes.extend(plugin.map(|(source, plugin)| match source.name("driver") {
            Some(driver) if plugin == "flexvolume" => (driver, name),
            _ => (plugin.to_owned(), name),
        }));
    }
    pod
}
