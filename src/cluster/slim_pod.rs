//! The fields that are used of a pod, read without keeping or trusting any other.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::convert::Version;
use crate::volume::Pod;

/// Of a pod with more volumes than this, the others are not kept.
const MAX_VOLUMES: usize = 256;
/// The longest name that Kubernetes allows.
const MAX_NAME_BYTES: usize = 253;
/// The fields of a pod's volume that name a plugin that can hold a `PersistentVolume`, and the plugin's directory.
const PLUGINS: [(&str, &str); 21] = [
    ("awsElasticBlockStore", "aws-ebs"),
    ("azureDisk", "azure-disk"),
    ("azureFile", "azure-file"),
    ("cephfs", "cephfs"),
    ("cinder", "cinder"),
    ("csi", "csi"),
    ("fc", "fc"),
    ("flexVolume", "flexvolume"),
    ("flocker", "flocker"),
    ("gcePersistentDisk", "gce-pd"),
    ("glusterfs", "glusterfs"),
    ("hostPath", "host-path"),
    ("iscsi", "iscsi"),
    ("nfs", "nfs"),
    ("photonPersistentDisk", "photon-pd"),
    ("portworxVolume", "portworx-volume"),
    ("quobyte", "quobyte"),
    ("rbd", "rbd"),
    ("scaleIO", "scaleio"),
    ("storageos", "storageos"),
    ("vsphereVolume", "vsphere-volume"),
];

/// A pod as the API server sends it. A field that is missing or of another type is absent.
#[derive(Debug, Clone, Default)]
pub(super) struct SlimPod {
    metadata: PodMeta,
    spec: PodSpec,
}

#[derive(Debug, Clone, Default)]
struct PodMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    annotations: ConfigHashes,
}

/// A static pod's directory is named after the hash in these annotations, not after its uid.
#[derive(Debug, Clone, Default)]
struct ConfigHashes(Vec<String>);

#[derive(Debug, Clone, Default)]
struct PodSpec {
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

/// The object that is a volume's source.
#[derive(Default)]
struct PodVolumeSource {
    is_object: bool,
    driver: Option<String>,
    claim_name: Option<String>,
}

impl SlimPod {
    pub(super) fn has_name(&self) -> bool {
        self.metadata.name.is_some()
    }

    /// The version from which a watch goes on after this event.
    pub(super) fn resource_version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }

    /// The object's uid and version.
    pub(super) fn version(&self) -> Version {
        let number = self.resource_version().and_then(|number| number.parse().ok());
        Version { uid: self.metadata.uid.clone(), number }
    }

    /// The uids that the kubelet's paths may carry, and what is used of the pod; `None` if it has no name.
    pub(super) fn into_domain(self) -> Option<(Vec<String>, Pod)> {
        let PodMeta { name, namespace, uid, annotations: ConfigHashes(hashes), .. } = self.metadata;
        let name = name?;
        let mut pod = Pod {
            namespace: namespace.unwrap_or_default(),
            has_more_volumes: self.spec.has_more_volumes,
            ..Pod::default()
        };
        for volume in self.spec.volumes {
            let Some(volume_name) = volume.name else { continue };
            if volume.is_ephemeral {
                pod.claims.insert(format!("{name}-{volume_name}"));
            }
            pod.claims.extend(volume.claim);
            pod.inline_volumes.extend(volume.plugin.map(|plugin| (plugin, volume_name)));
        }
        Some((uid.into_iter().chain(hashes).collect(), Pod { name, ..pod }))
    }
}

/// A value that takes what it knows of any JSON.
trait Tolerant<'de>: Default {
    fn read_text(&mut self, _: &str) {}

    fn begin_object(&mut self) {}

    fn read_field<A: MapAccess<'de>>(&mut self, _: &str, object: &mut A) -> Result<(), A::Error> {
        object.next_value::<IgnoredAny>().map(drop)
    }

    fn read_items<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// What is read by [`Tolerant`].
struct Tolerated<T>(T);

struct TolerantVisitor<T>(PhantomData<T>);

impl<'de, T: Tolerant<'de>> Deserialize<'de> for Tolerated<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TolerantVisitor(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for SlimPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tolerated::deserialize(deserializer).map(|Tolerated(pod)| pod)
    }
}

impl<'de, T: Tolerant<'de>> Visitor<'de> for TolerantVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        let mut value = T::default();
        value.read_text(text);
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<T, A::Error> {
        let mut value = T::default();
        value.begin_object();
        while let Some(key) = object.next_key::<String>()? {
            value.read_field(&key, &mut object)?;
        }
        Ok(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut value = T::default();
        value.read_items(&mut list)?;
        Ok(value)
    }
}

fn value_of<'de, T: Tolerant<'de>, A: MapAccess<'de>>(object: &mut A) -> Result<T, A::Error> {
    object.next_value().map(|Tolerated(value)| value)
}

impl Tolerant<'_> for Option<String> {
    fn read_text(&mut self, text: &str) {
        *self = Some(text).filter(|text| text.len() <= MAX_NAME_BYTES).map(ToOwned::to_owned);
    }
}

impl<'de> Tolerant<'de> for SlimPod {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        match key {
            "metadata" => self.metadata = value_of(object)?,
            "spec" => self.spec = value_of(object)?,
            _ => drop(object.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Tolerant<'de> for PodMeta {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = value_of(object)?,
            "namespace" => self.namespace = value_of(object)?,
            "uid" => self.uid = value_of(object)?,
            "resourceVersion" => self.resource_version = value_of(object)?,
            "annotations" => self.annotations = value_of(object)?,
            _ => drop(object.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Tolerant<'de> for ConfigHashes {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        match key {
            "kubernetes.io/config.hash" | "kubernetes.io/config.mirror" => {
                self.0.extend(value_of::<Option<String>, A>(object)?);
            }
            _ => drop(object.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Tolerant<'de> for PodSpec {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        match key {
            "volumes" => *self = value_of(object)?,
            _ => drop(object.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }

    fn read_items<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<(), A::Error> {
        while self.volumes.len() < MAX_VOLUMES {
            let Some(Tolerated(volume)) = list.next_element()? else { return Ok(()) };
            self.volumes.push(volume);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            self.has_more_volumes = true;
        }
        Ok(())
    }
}

impl<'de> Tolerant<'de> for PodVolume {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        if key == "name" {
            self.name = value_of(object)?;
            return Ok(());
        }
        let source: PodVolumeSource = value_of(object)?;
        match PLUGINS.iter().find(|(field, _)| *field == key) {
            _ if key == "persistentVolumeClaim" => self.claim = source.claim_name,
            _ if key == "ephemeral" => self.is_ephemeral = source.is_object,
            Some((_, "flexvolume")) if source.driver.is_some() => self.plugin = source.driver,
            Some((_, plugin)) if source.is_object => self.plugin = Some((*plugin).to_owned()),
            _ => {}
        }
        Ok(())
    }
}

impl<'de> Tolerant<'de> for PodVolumeSource {
    fn begin_object(&mut self) {
        self.is_object = true;
    }

    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        match key {
            "claimName" => self.claim_name = value_of(object)?,
            "driver" => self.driver = value_of(object)?,
            _ => drop(object.next_value::<IgnoredAny>()?),
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

    fn with_volumes(volumes: &Value) -> (Vec<(String, String)>, Vec<String>) {
        let (_, pod) = pod(&json!({"metadata": {"name": "p"}, "spec": {"volumes": volumes}})).unwrap();
        let mut inline: Vec<_> = pod.inline_volumes.into_iter().collect();
        let mut claims: Vec<_> = pod.claims.into_iter().collect();
        inline.sort_unstable();
        claims.sort_unstable();
        (inline, claims)
    }

    #[test]
    fn a_static_pod_has_the_uids_of_its_annotations() {
        const HASH: &str = "kubernetes.io/config.hash";
        const MIRROR: &str = "kubernetes.io/config.mirror";
        for (annotations, expected) in [
            (json!({HASH: "h", MIRROR: "m", "kubernetes.io/config.source": "file"}), vec!["u", "h", "m"]),
            (json!({MIRROR: "m"}), vec!["u", "m"]),
            (json!({HASH: "h", MIRROR: null}), vec!["u", "h"]),
            (json!({"other": {"a": [1]}}), vec!["u"]),
            (json!(null), vec!["u"]),
        ] {
            let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "annotations": annotations});
            let (uids, pod) = pod(&json!({"metadata": metadata})).unwrap();
            assert_eq!(
                (uids, &*pod.namespace, &*pod.name),
                (expected.iter().map(|u| (*u).into()).collect(), "n", "p")
            );
        }
    }

    #[test]
    fn volumes_are_claims_or_mounted_by_a_plugin_that_can_hold_one() {
        let volumes = json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"nfs": {}}}}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "files", "nfs": {"server": "s", "path": "/p"}},
            {"gcePersistentDisk": {"pdName": "d"}, "name": "disk"},
            {"name": "secrets", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}},
            {"name": "flex", "flexVolume": {"driver": "v/d"}},
            {"name": "nothing"},
            {"name": "null", "nfs": null},
            {"name": 1, "nfs": {}},
            {"nfs": {}},
            "text",
        ]);
        let inline = [("csi", "secrets"), ("gce-pd", "disk"), ("nfs", "files"), ("v/d", "flex")];
        let inline = inline.map(|(plugin, name)| (plugin.to_owned(), name.to_owned()));
        assert_eq!(with_volumes(&volumes), (inline.to_vec(), vec!["data".into(), "p-scratch".into()]));
    }

    #[test]
    fn what_is_of_another_type_is_absent() {
        let any = json!({"a": [1, {"b": null}], "c": -1, "d": 1.5, "e": true});
        for odd in
            [any, json!(7), json!(-7), json!(1.5), json!(true), json!("text"), json!(null), json!([1, {}])]
        {
            assert!(pod(&odd).is_none(), "{odd}");
            assert!(pod(&json!({"metadata": {"name": odd}})).is_none() || odd == "text", "{odd}");
            let metadata =
                json!({"name": "p", "labels": odd, "annotations": odd, "uid": odd, "managedFields": odd});
            let (_, read) = pod(&json!({"metadata": metadata, "spec": odd, "status": odd})).unwrap();
            assert_eq!((&*read.name, read.claims.len()), ("p", 0), "{odd}");
            assert_eq!(with_volumes(&odd), (vec![], vec![]));
            assert_eq!(
                with_volumes(&json!([odd, {"name": odd, "persistentVolumeClaim": odd}])),
                (vec![], vec![])
            );
        }
        assert!(pod(&json!({"metadata": {"name": "x".repeat(254)}})).is_none(), "no name is that long");
    }

    #[test]
    fn more_volumes_than_are_kept_are_told() {
        let volumes = |count: usize| -> Vec<Value> {
            (0..count).map(|n| json!({"name": format!("v{n}"), "nfs": {}})).collect()
        };
        for (count, has_more) in [(256, false), (257, true), (5000, true)] {
            let (_, pod) =
                pod(&json!({"metadata": {"name": "p"}, "spec": {"volumes": volumes(count)}})).unwrap();
            assert_eq!((pod.inline_volumes.len(), pod.has_more_volumes), (256, has_more));
        }
    }
}
