//! The fields that are used of a pod, read without keeping or trusting any other.

use std::collections::HashMap;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::input_limits::RawList;
use crate::volume::{MAX_NAME_BYTES, Pod};

/// Of a pod with more volumes than this, the others are not kept.
const MAX_VOLUMES: usize = 256;
/// Of an object with more fields than this, the others are not kept.
const MAX_FIELDS: usize = 1024;
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
#[derive(Default)]
pub(super) struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while fields.0.len() < MAX_FIELDS {
            let Some((key, value)) = entries.next_entry()? else { return Ok(fields) };
            fields.0.insert(key, value);
        }
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(fields)
    }
}

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
        let volumes =
            volumes.map(|volumes| serde_json::from_str::<Option<RawList<'_, MAX_VOLUMES>>>(volumes.get()));
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

fn pod(name: String, namespace: String, volumes: &RawList<'_, MAX_VOLUMES>) -> Pod {
    let mut pod = Pod { name, namespace, has_more_volumes: volumes.has_more, ..Pod::default() };
    for volume in volumes.items.iter().filter_map(|volume| Fields::of(volume)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn slim(json: &str) -> SlimPod {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn of_many_volumes_the_first_are_kept() {
        let pod = |volumes: usize| {
            let volume = |number| format!(r#"{{"name": "v-{number}", "csi": {{"driver": "d"}}}}"#);
            let volumes: Vec<_> = (0..volumes).map(volume).collect();
            let spec = format!(r#"{{"volumes": [{}]}}"#, volumes.join(","));
            let slim = slim(&format!(r#"{{"metadata": {{"name": "p", "uid": "u"}}, "spec": {spec}}}"#));
            assert!(slim.is_well_formed);
            let pod = slim.pod.unwrap();
            (pod.inline_volumes.len(), pod.has_more_volumes)
        };
        assert_eq!(pod(256), (256, false));
        assert_eq!(pod(257), (256, true));
        assert_eq!(pod(50_000), (256, true));
    }

    #[test]
    fn fields_without_end_are_not_kept() {
        let many: Vec<_> = (0..MAX_FIELDS).map(|number| format!(r#""f{number}": 1"#)).collect();
        let many = many.join(",");
        let named = |metadata: &str| {
            let pod = slim(&format!(r#"{{"metadata": {{{metadata}}}, "spec": {{}}}}"#));
            pod.pod.map(|pod| pod.name)
        };
        assert_eq!(named(&format!(r#""name": "p", {many}"#)).as_deref(), Some("p"));
        assert_eq!(named(&format!(r#"{many}, "name": "p""#)), None);
        // They are fields nevertheless.
        assert!(serde_json::from_str::<Fields<'_>>(&format!("{{{many}, \"x\": }}")).is_err());
    }
}
