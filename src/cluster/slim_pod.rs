//! The fields that are used of a pod, read without keeping or trusting any other.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::convert::Version;
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
    pub(super) name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    pub(super) resource_version: Option<String>,
    /// A static pod's directory is named after the hash in its annotations, not after its uid.
    config_hashes: Vec<String>,
    /// It has a spec, whose volumes are no map.
    pub(super) has_spec: bool,
    volumes: Vec<PodVolume>,
    has_more_volumes: bool,
}

#[derive(Debug, Clone, Default)]
struct PodVolume {
    name: Option<String>,
    claim: Option<String>,
    is_ephemeral: bool,
    plugin: Option<String>,
}

impl SlimPod {
    /// The object's uid and version.
    pub(super) fn version(&self) -> Version {
        let number = self.resource_version.as_ref().and_then(|number| number.parse().ok());
        Version { uid: self.uid.clone(), number }
    }

    /// The uids that the kubelet's paths may carry, and what is used of the pod; `None` if it has no name.
    pub(super) fn into_domain(self) -> Option<(Vec<String>, Pod)> {
        let mut pod = Pod {
            name: self.name?,
            namespace: self.namespace.unwrap_or_default(),
            has_more_volumes: self.has_more_volumes,
            ..Pod::default()
        };
        for volume in self.volumes {
            let Some(name) = volume.name else { continue };
            // The claim of a generic ephemeral volume is named after both.
            pod.claims.extend(volume.is_ephemeral.then(|| format!("{}-{name}", pod.name)));
            pod.claims.extend(volume.claim);
            pod.inline_volumes.extend(volume.plugin.map(|plugin| (plugin, name)));
        }
        Some((self.uid.into_iter().chain(self.config_hashes).collect(), pod))
    }

    fn set_text(&mut self, path: &[&str], text: &str) {
        let text = || Some(text.to_owned());
        match (path, self.volumes.last_mut()) {
            (["metadata", "name"], _) => self.name = text(),
            (["metadata", "namespace"], _) => self.namespace = text(),
            (["metadata", "uid"], _) => self.uid = text(),
            (["metadata", "resourceVersion"], _) => self.resource_version = text(),
            (["metadata", "annotations", _], _) => self.config_hashes.extend(text()),
            (["spec", "volumes", "name"], Some(volume)) => volume.name = text(),
            (["spec", "volumes", "flexVolume", "driver"], Some(volume)) => volume.plugin = text(),
            (["spec", "volumes", "persistentVolumeClaim", "claimName"], Some(volume)) => {
                volume.claim = text()
            }
            _ => {}
        }
    }

    fn begin_object(&mut self, path: &[&str]) {
        match path {
            ["spec"] => self.has_spec = true,
            // An item of a list has the path of the list.
            ["spec", "volumes"] => self.has_spec = !self.volumes.is_empty(),
            _ => {}
        }
        if let (["spec", "volumes", source], Some(volume)) = (path, self.volumes.last_mut()) {
            volume.is_ephemeral |= *source == "ephemeral";
            let plugin = PLUGINS.iter().find(|(field, _)| field == source);
            volume.plugin = plugin.map(|(_, plugin)| (*plugin).to_owned()).or(volume.plugin.take());
        }
    }
}

/// Whether there is anything to read at or below this path. The items of a list have the path of the list.
fn is_read(path: &[&str]) -> bool {
    match path {
        ["metadata" | "spec"] | ["metadata", "annotations"] | ["spec", "volumes"] => true,
        ["metadata", field] => ["name", "namespace", "uid", "resourceVersion"].contains(field),
        ["metadata", "annotations", key] => {
            ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"].contains(key)
        }
        ["spec", "volumes", ..] => path.len() <= 4,
        _ => false,
    }
}

/// Reads the value at a path, of whatever type it is.
struct ValueReader<'a> {
    pod: &'a mut SlimPod,
    path: &'a [&'a str],
}

impl<'de> Deserialize<'de> for SlimPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pod = Self::default();
        ValueReader { pod: &mut pod, path: &[] }.deserialize(deserializer)?;
        Ok(pod)
    }
}

impl<'de> DeserializeSeed<'de> for ValueReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueReader<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if text.len() <= MAX_NAME_BYTES {
            self.pod.set_text(self.path, text);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        self.pod.begin_object(self.path);
        while let Some(key) = object.next_key::<String>()? {
            let path = [self.path, &[key.as_str()]].concat();
            if is_read(&path) {
                object.next_value_seed(ValueReader { pod: self.pod, path: &path })?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while self.path == ["spec", "volumes"] && self.pod.volumes.len() < MAX_VOLUMES {
            self.pod.volumes.push(PodVolume::default());
            if list.next_element_seed(ValueReader { pod: self.pod, path: self.path })?.is_none() {
                return Ok(());
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            self.pod.has_more_volumes |= self.path == ["spec", "volumes"];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: &Value) -> Option<(Vec<String>, Pod)> {
        serde_json::from_str::<SlimPod>(&value.to_string()).unwrap().into_domain()
    }

    fn with_volumes(volumes: &Value) -> Pod {
        pod(&json!({"metadata": {"name": "p"}, "spec": {"volumes": volumes}})).unwrap().1
    }

    #[test]
    fn a_static_pod_has_the_uids_of_its_annotations() {
        const HASH: &str = "kubernetes.io/config.hash";
        const MIRROR: &str = "kubernetes.io/config.mirror";
        for (annotations, expected) in [
            (json!({HASH: "h", MIRROR: "m", "kubernetes.io/config.source": "file"}), vec!["u", "h", "m"]),
            (json!({HASH: "h", MIRROR: null}), vec!["u", "h"]),
            (json!({"other": {"a": [1]}}), vec!["u"]),
        ] {
            let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "annotations": annotations});
            let (uids, pod) = pod(&json!({"metadata": metadata})).unwrap();
            assert_eq!(
                (uids, &*pod.namespace, &*pod.name),
                (expected.into_iter().map(Into::into).collect(), "n", "p")
            );
        }
    }

    #[test]
    fn volumes_are_claims_or_mounted_by_a_plugin_that_can_hold_one() {
        let pod = with_volumes(&json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"nfs": {}}}}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"gcePersistentDisk": {"pdName": "d"}, "name": "disk"},
            {"name": "secrets", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
            {"name": "flex", "flexVolume": {"driver": "v/d"}},
            {"name": "null", "nfs": null},
            {"name": 1, "nfs": {}},
            {"nfs": {}},
            "text",
        ]));
        let inline = [("csi", "secrets"), ("gce-pd", "disk"), ("v/d", "flex")];
        assert_eq!(pod.inline_volumes, inline.map(|(plugin, name)| (plugin.into(), name.into())).into());
        assert_eq!(pod.claims, ["claim", "p-scratch"].map(Into::into).into());
    }

    #[test]
    fn what_is_of_another_type_is_absent() {
        let object = json!({"a": [1, {"b": null}], "name": {"name": -1}, "volumes": {"name": "x"}});
        for odd in
            [object, json!(7), json!(-7), json!(1.5), json!(true), json!("t"), json!(null), json!([1, {}])]
        {
            assert!(pod(&odd).is_none() && pod(&json!({"metadata": odd})).is_none(), "{odd}");
            let metadata =
                json!({"name": "p", "labels": odd, "annotations": odd, "uid": odd, "managedFields": odd});
            let (_, read) = pod(&json!({"metadata": metadata, "spec": odd, "status": odd})).unwrap();
            assert_eq!((&*read.name, read.claims.len()), ("p", 0), "{odd}");
            for volumes in [&odd, &json!([odd, {"name": odd, "persistentVolumeClaim": odd}])] {
                let pod = with_volumes(volumes);
                assert_eq!(
                    (pod.claims.len(), pod.inline_volumes.len(), pod.has_more_volumes),
                    (0, 0, false),
                    "{odd}"
                );
            }
        }
        assert!(pod(&json!({"metadata": {"name": "x".repeat(254)}})).is_none(), "no name is that long");
    }

    #[test]
    fn more_volumes_than_are_kept_are_told() {
        for (count, has_more) in [(255, false), (256, false), (257, true), (5000, true)] {
            let volume = |n: usize| json!({"name": format!("v{n}"), "nfs": {}});
            let pod = with_volumes(&(0..count).map(volume).collect());
            assert_eq!((pod.inline_volumes.len(), pod.has_more_volumes), (count.min(256), has_more));
        }
    }
}
