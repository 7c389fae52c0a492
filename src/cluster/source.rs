//! Where a `PersistentVolume`'s data is: the kind of its storage, and what identifies the volume in it.

use serde_json::{Map, Value};

use crate::volume::VolumeSource;

/// The field of a `PersistentVolume`'s spec, the plugin's name, and the fields that identify the volume.
const IN_TREE: [(&str, &str, &[&str]); 22] = [
    ("awsElasticBlockStore", "aws-ebs", &["volumeID"]),
    ("azureDisk", "azure-disk", &["diskURI"]),
    ("azureFile", "azure-file", &["secretNamespace", "secretName", "shareName"]),
    ("cephfs", "cephfs", &["monitors", "path"]),
    ("cinder", "cinder", &["volumeID"]),
    ("fc", "fc", &["targetWWNs", "lun", "wwids"]),
    ("flexVolume", "flexvolume", &["driver"]),
    ("flocker", "flocker", &["datasetName", "datasetUUID"]),
    ("gcePersistentDisk", "gce-pd", &["pdName"]),
    ("glusterfs", "glusterfs", &["endpointsNamespace", "endpoints", "path"]),
    ("hostPath", "host-path", &["path"]),
    ("iscsi", "iscsi", &["targetPortal", "iqn", "lun"]),
    ("local", "local-volume", &["path"]),
    ("nfs", "nfs", &["server", "path"]),
    ("photonPersistentDisk", "photon-pd", &["pdID"]),
    ("portworxVolume", "portworx-volume", &["volumeID"]),
    ("quobyte", "quobyte", &["registry", "volume"]),
    ("rbd", "rbd", &["monitors", "pool", "image"]),
    ("scaleIO", "scaleio", &["gateway", "system", "volumeName"]),
    ("storageos", "storageos", &["volumeNamespace", "volumeName"]),
    ("vsphereVolume", "vsphere-volume", &["volumePath"]),
    ("csi", "csi", &["volumeHandle"]),
];

/// The source among the fields of a `PersistentVolume`'s spec that this program does not know otherwise.
pub(super) fn of(spec: &Map<String, Value>) -> Option<VolumeSource> {
    let (source, plugin, fields) = IN_TREE
        .iter()
        .find_map(|(key, plugin, fields)| Some((spec.get(*key)?.as_object()?, plugin, fields)))?;
    let driver = source.get("driver").and_then(Value::as_str);
    let kind = match (*plugin, driver) {
        ("csi", Some(driver)) => driver,
        _ => plugin,
    };
    let parts: Vec<String> = fields.iter().filter_map(|field| text(source.get(*field)?)).collect();
    Some(VolumeSource {
        plugin: self::plugin(spec)?,
        kind: kind.to_owned(),
        instance: (!parts.is_empty()).then(|| parts.join(":")),
    })
}

/// Whether a field of a pod's volume or of a `PersistentVolume`'s spec is a source that is known here.
pub(super) fn is_source(key: &str) -> bool {
    IN_TREE.iter().any(|(known, ..)| *known == key)
}

/// The plugin that mounts a volume of this source, as the kubelet's paths name it. Of pods' volumes, claims have none,
/// nor have the kinds that can be nothing but a pod's own.
pub(super) fn plugin(volume: &Map<String, Value>) -> Option<String> {
    let found = |(key, plugin, _): &(&str, &'static str, _)| Some((volume.get(*key)?.as_object()?, *plugin));
    let (source, plugin) = IN_TREE.iter().find_map(found)?;
    let driver = source.get("driver").and_then(Value::as_str);
    Some(match (plugin, driver) {
        ("flexvolume", Some(driver)) => driver.to_owned(),
        _ => plugin.to_owned(),
    })
}

/// A field as text, a list with commas; `None` for nothing.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) => values.iter().filter_map(text).collect::<Vec<_>>().join(","),
        Value::Null | Value::Bool(_) | Value::Object(_) => String::new(),
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(spec: &Value) -> (String, Option<String>) {
        let source = of(spec.as_object().unwrap()).unwrap();
        (source.kind, source.instance)
    }

    // The fields are those of PersistentVolumeSpec in the Kubernetes API reference, 1.36.
    #[test]
    fn every_source_is_named_and_identified() {
        let cases = [
            (json!({"awsElasticBlockStore": {"volumeID": "vol-1", "fsType": "ext4"}}), "aws-ebs", "vol-1"),
            (
                json!({"azureDisk": {"diskName": "d", "diskURI": "/subscriptions/1/d"}}),
                "azure-disk",
                "/subscriptions/1/d",
            ),
            (
                json!({"azureFile": {"secretName": "s", "secretNamespace": "n", "shareName": "f"}}),
                "azure-file",
                "n:s:f",
            ),
            (
                json!({"azureFile": {"secretName": "s", "secretNamespace": null, "shareName": "f"}}),
                "azure-file",
                "s:f",
            ),
            (json!({"cephfs": {"monitors": ["a:1", "b:1"], "path": "/p"}}), "cephfs", "a:1,b:1:/p"),
            (json!({"cinder": {"volumeID": "c"}}), "cinder", "c"),
            (
                json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-2"}}),
                "ebs.csi.aws.com",
                "vol-2",
            ),
            (json!({"fc": {"targetWWNs": ["w1", "w2"], "lun": 0}}), "fc", "w1,w2:0"),
            (json!({"fc": {"wwids": ["i"]}}), "fc", "i"),
            (json!({"flexVolume": {"driver": "example.com/lvm"}}), "flexvolume", "example.com/lvm"),
            (json!({"flocker": {"datasetName": "", "datasetUUID": "u"}}), "flocker", "u"),
            (json!({"gcePersistentDisk": {"pdName": "disk-1"}}), "gce-pd", "disk-1"),
            (json!({"glusterfs": {"endpoints": "e", "path": "v"}}), "glusterfs", "e:v"),
            (json!({"hostPath": {"path": "/opt/a", "type": ""}}), "host-path", "/opt/a"),
            (
                json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com", "lun": 3}}),
                "iscsi",
                "10.0.0.1:3260:iqn.2001-04.com:3",
            ),
            (json!({"local": {"path": "/mnt/d"}}), "local-volume", "/mnt/d"),
            (json!({"nfs": {"server": "nas", "path": "/export"}}), "nfs", "nas:/export"),
            (json!({"photonPersistentDisk": {"pdID": "p"}}), "photon-pd", "p"),
            (json!({"portworxVolume": {"volumeID": "x"}}), "portworx-volume", "x"),
            (json!({"quobyte": {"registry": "r:1", "volume": "v"}}), "quobyte", "r:1:v"),
            (json!({"rbd": {"monitors": ["m"], "pool": "rbd", "image": "i"}}), "rbd", "m:rbd:i"),
            (
                json!({"scaleIO": {"gateway": "https://g", "system": "s", "volumeName": "v"}}),
                "scaleio",
                "https://g:s:v",
            ),
            (json!({"storageos": {"volumeName": "v", "volumeNamespace": "n"}}), "storageos", "n:v"),
            (json!({"vsphereVolume": {"volumePath": "[ds] a.vmdk"}}), "vsphere-volume", "[ds] a.vmdk"),
        ];
        for (spec, kind, instance) in &cases {
            assert_eq!(described(spec), ((*kind).into(), Some((*instance).into())), "{spec}");
        }
        let covered = |key: &str| cases.iter().any(|(spec, ..)| spec.get(key).is_some());
        assert!(IN_TREE.iter().all(|(key, ..)| covered(key)));
    }

    #[test]
    fn a_pods_own_volume_is_mounted_by_its_plugin() {
        let plugin = |volume: &Value| plugin(volume.as_object().unwrap());
        assert_eq!(plugin(&json!({"nfs": {"server": "s"}})).as_deref(), Some("nfs"));
        assert_eq!(plugin(&json!({"csi": {"driver": "d"}})).as_deref(), Some("csi"));
        assert_eq!(plugin(&json!({"flexVolume": {"driver": "v/d"}})).as_deref(), Some("v/d"));
        for none in ["persistentVolumeClaim", "ephemeral", "emptyDir", "configMap"] {
            assert_eq!(plugin(&json!({none: {}})), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_source_is_none() {
        assert_eq!(of(json!({"nfs": "text", "unknown": {}}).as_object().unwrap()), None);
        assert_eq!(described(&json!({"nfs": {}})), ("nfs".into(), None));
        assert_eq!(described(&json!({"csi": {"driver": 1}})), ("csi".into(), None));
    }
}
