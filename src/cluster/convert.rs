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
        flex_volume.map(|flex| VolumeSource {
            plugin: or_plugin(flex.driver.clone(), "flexvolume"),
            ..in_tree("flexvolume", [some(flex.driver)])
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
        csi.map(|csi| VolumeSource {
            kind: or_plugin(csi.driver, "csi"),
            ..in_tree("csi", [some(csi.volume_handle)])
        }),
    ];
    sources.into_iter().flatten().next()
}

fn or_plugin(driver: String, plugin: &str) -> String {
    if driver.is_empty() { plugin.into() } else { driver }
}

fn in_tree<const N: usize>(plugin: &str, parts: [Option<String>; N]) -> VolumeSource {
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    VolumeSource {
        plugin: plugin.into(),
        kind: plugin.into(),
        instance: (!parts.is_empty()).then(|| parts.join(":")),
    }
}
