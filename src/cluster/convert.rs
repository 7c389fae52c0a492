//! From the objects of the Kubernetes API to what is used of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::volume::{
    self, ClaimKey, ClaimRef, MAX_LABEL_VALUE_BYTES, MAX_NAME_BYTES, Selections, VolumeSource, parse_quantity,
};

/// The label of a claim that keeps it out of alerts.
const EXCLUDED_FROM_ALERTS: &str = "excluded-from-alerts";
/// There are four; an object with more makes no sense.
const MAX_ACCESS_MODES: usize = 8;

/// An object's resource version, by which states of one resource can be compared: it is a number, and larger is later
/// (KEP-5504), also if an object was deleted and another one has its name.
pub(super) fn resource_version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref()?.parse().ok()
}

/// What is used of a `PersistentVolume`.
pub(super) fn persistent_volume(
    object: PersistentVolume,
    selections: &Selections,
) -> volume::PersistentVolume {
    let mut spec = object.spec.unwrap_or_default();
    let uid = short(object.metadata.uid.as_ref());
    let labels = object.metadata.labels.unwrap_or_default();
    let (labels, mut dropped_labels) = selections.limit(&selections.pv_labels, labels);
    // Text of any length would be a label of many series.
    let mut limited = |text: Option<String>, max_bytes: usize| {
        let kept = text.as_ref().is_none_or(|text| text.len() <= max_bytes);
        dropped_labels += usize::from(!kept);
        text.filter(|_| kept)
    };
    let storage_class =
        limited(spec.storage_class_name.take(), MAX_NAME_BYTES).filter(|name| !name.is_empty());
    let mode = limited(spec.volume_mode.take(), MAX_NAME_BYTES);
    let access_modes = spec.access_modes.take().unwrap_or_default().into_iter().take(MAX_ACCESS_MODES);
    let access_modes = access_modes.filter_map(|mode| limited(Some(mode), MAX_NAME_BYTES)).collect();
    let claim = claim_ref(&spec);
    let source = source(spec).and_then(|VolumeSource { plugin, kind, instance }| {
        let (plugin, kind) = (limited(Some(plugin), MAX_NAME_BYTES)?, limited(Some(kind), MAX_NAME_BYTES)?);
        Some(VolumeSource { plugin, kind, instance: limited(instance, MAX_LABEL_VALUE_BYTES) })
    });
    volume::PersistentVolume { uid, labels, dropped_labels, claim, storage_class, source, mode, access_modes }
}

/// A name or uid that is not longer than any.
fn short(text: Option<&String>) -> Option<String> {
    text.filter(|text| text.len() <= MAX_NAME_BYTES).cloned()
}

/// The claim that a `PersistentVolume` names, unless the name is longer than that of any claim.
fn claim_ref(spec: &PersistentVolumeSpec) -> Option<ClaimRef> {
    let reference = spec.claim_ref.as_ref()?;
    let (namespace, name) = (short(reference.namespace.as_ref())?, short(reference.name.as_ref())?);
    Some(ClaimRef { key: ClaimKey { namespace, name }, uid: short(reference.uid.as_ref()) })
}

/// What is used of a `PersistentVolumeClaim`.
pub(super) fn claim(object: PersistentVolumeClaim, selections: &Selections) -> volume::Claim {
    let bytes = |quantities: BTreeMap<String, Quantity>| parse_quantity(&quantities.get("storage")?.0);
    let labels = object.metadata.labels.unwrap_or_default();
    let excluded_from_alerts = short(labels.get(EXCLUDED_FROM_ALERTS));
    let (labels, dropped_labels) = selections.limit(&selections.pvc_labels, labels);
    volume::Claim {
        uid: short(object.metadata.uid.as_ref()),
        labels,
        dropped_labels,
        excluded_from_alerts,
        requested_bytes: object.spec.and_then(|spec| spec.resources?.requests).and_then(bytes),
        capacity_bytes: object.status.and_then(|status| status.capacity).and_then(bytes),
    }
}

/// The kind of a `PersistentVolume`'s storage, and what identifies the volume in it. All fields are named, so that a source
/// that a later version of Kubernetes adds does not compile unnoticed.
fn source(spec: PersistentVolumeSpec) -> Option<VolumeSource> {
    #[rustfmt::skip]
    let PersistentVolumeSpec {
        access_modes: _, aws_elastic_block_store, azure_disk, azure_file, capacity: _, cephfs, cinder, claim_ref: _, csi, fc,
        flex_volume, flocker, gce_persistent_disk, glusterfs, host_path, iscsi, local, mount_options: _, nfs,
        node_affinity: _, persistent_volume_reclaim_policy: _, photon_persistent_disk, portworx_volume, quobyte, rbd,
        scale_io, storage_class_name: _, storageos, volume_attributes_class_name: _, volume_mode: _, vsphere_volume,
    } = spec;
    let some = Some::<String>;
    let lists = |list: Vec<String>| some(list.join(","));
    let sources = [
        aws_elastic_block_store.map(|aws| in_tree("aws-ebs", [some(aws.volume_id)])),
        azure_disk.map(|disk| in_tree("azure-disk", [some(disk.disk_uri)])),
        azure_file.map(|file| {
            in_tree("azure-file", [file.secret_namespace, some(file.secret_name), some(file.share_name)])
        }),
        cephfs.map(|ceph| in_tree("cephfs", [lists(ceph.monitors), ceph.path])),
        cinder.map(|cinder| in_tree("cinder", [some(cinder.volume_id)])),
        fc.map(|fc| {
            let lun = fc.lun.map(|lun| lun.to_string());
            in_tree("fc", [fc.target_wwns.and_then(lists), lun, fc.wwids.and_then(lists)])
        }),
        flex_volume.map(|flex| {
            let plugin = Some(flex.driver.clone()).filter(|driver| !driver.is_empty());
            let source = in_tree("flexvolume", [some(flex.driver)]);
            VolumeSource { plugin: plugin.unwrap_or_else(|| source.kind.clone()), ..source }
        }),
        flocker.map(|flocker| in_tree("flocker", [flocker.dataset_name, flocker.dataset_uuid])),
        gce_persistent_disk.map(|disk| in_tree("gce-pd", [some(disk.pd_name)])),
        glusterfs.map(|gluster| {
            in_tree("glusterfs", [gluster.endpoints_namespace, some(gluster.endpoints), some(gluster.path)])
        }),
        host_path.map(|host| in_tree("host-path", [some(host.path)])),
        iscsi.map(|iscsi| {
            let lun = iscsi.lun.to_string();
            in_tree("iscsi", [some(iscsi.target_portal), some(iscsi.iqn), some(lun)])
        }),
        local.map(|local| in_tree("local-volume", [some(local.path)])),
        nfs.map(|nfs| in_tree("nfs", [some(nfs.server), some(nfs.path)])),
        photon_persistent_disk.map(|photon| in_tree("photon-pd", [some(photon.pd_id)])),
        portworx_volume.map(|portworx| in_tree("portworx-volume", [some(portworx.volume_id)])),
        quobyte.map(|quobyte| in_tree("quobyte", [some(quobyte.registry), some(quobyte.volume)])),
        rbd.map(|rbd| in_tree("rbd", [lists(rbd.monitors), rbd.pool, some(rbd.image)])),
        scale_io.map(|io| in_tree("scaleio", [some(io.gateway), some(io.system), io.volume_name])),
        storageos.map(|os| in_tree("storageos", [os.volume_namespace, os.volume_name])),
        vsphere_volume.map(|vsphere| in_tree("vsphere-volume", [some(vsphere.volume_path)])),
        csi.map(|csi| {
            let source = in_tree("csi", [some(csi.volume_handle)]);
            let driver = Some(csi.driver).filter(|driver| !driver.is_empty());
            VolumeSource { kind: driver.unwrap_or_else(|| source.kind.clone()), ..source }
        }),
    ];
    sources.into_iter().flatten().next()
}

fn in_tree<const N: usize>(plugin: &str, parts: [Option<String>; N]) -> VolumeSource {
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    VolumeSource {
        plugin: plugin.into(),
        kind: plugin.into(),
        instance: (!parts.is_empty()).then(|| parts.join(":")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pv(spec: &serde_json::Value) -> volume::PersistentVolume {
        let object = json!({"metadata": {"name": "pv", "labels": {"app": "web"}}, "spec": spec});
        persistent_volume(serde_json::from_value(object).unwrap(), &Selections::default())
    }

    #[test]
    fn text_longer_than_a_labels_is_left_out_and_counted() {
        let text = |length: usize| "x".repeat(length);
        let with = |more: usize| {
            let name = text(253 + more);
            pv(&json!({"storageClassName": name, "volumeMode": name, "accessModes": ["ReadWriteOnce", name],
                "csi": {"driver": "d", "volumeHandle": text(1024 + more)}}))
        };
        let of = |pv: volume::PersistentVolume| {
            let source = pv.source.unwrap();
            let lengths =
                [pv.storage_class, pv.mode, source.instance].map(|text| text.map(|text| text.len()));
            (lengths, pv.access_modes.len(), source.kind, pv.dropped_labels)
        };
        assert_eq!(of(with(0)), ([Some(253), Some(253), Some(1024)], 2, "d".into(), 0));
        assert_eq!(of(with(1)), ([None; 3], 1, "d".into(), 4));
        let nameless = pv(&json!({"csi": {"driver": text(254), "volumeHandle": "h"}}));
        assert_eq!((nameless.source, nameless.dropped_labels), (None, 1));
        let modes = pv(&json!({"accessModes": vec!["x"; 1000]}));
        assert_eq!(modes.access_modes.len(), MAX_ACCESS_MODES);
    }

    #[test]
    fn a_claim_with_a_name_longer_than_any_is_none() {
        let claim = |namespace: usize, name: usize| {
            let [namespace, name] = [namespace, name].map(|length| "x".repeat(length));
            pv(&json!({"claimRef": {"namespace": namespace, "name": name}})).claim.is_some()
        };
        assert!(claim(253, 253));
        assert!(!claim(254, 1));
        assert!(!claim(1, 254));
    }

    #[test]
    fn a_claim_is_excluded_from_alerts_whichever_labels_are_used() {
        let labels = json!({"excluded-from-alerts": "true", "team": "shop"});
        let object = json!({"metadata": {"name": "c", "labels": labels}, "spec": {}});
        let object: PersistentVolumeClaim = serde_json::from_value(object).unwrap();
        for list in ["*", "", "team", "!excluded-from-alerts"] {
            let selections = Selections { pvc_labels: list.parse().unwrap(), ..Selections::default() };
            let claim = claim(object.clone(), &selections);
            assert_eq!(claim.excluded_from_alerts.as_deref(), Some("true"), "{list}");
        }
    }
}
