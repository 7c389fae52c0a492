//! From the objects of the Kubernetes API to what is used of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::volume::{self, ClaimKey, ClaimRef, Selections, VolumeSource, parse_quantity};

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
    let spec = object.spec.unwrap_or_default();
    volume::PersistentVolume {
        uid: object.metadata.uid,
        labels: selections.pv_labels.select(object.metadata.labels.unwrap_or_default()),
        claim: claim_ref(&spec),
        storage_class: spec.storage_class_name.clone().filter(|name| !name.is_empty()),
        mode: spec.volume_mode.clone(),
        access_modes: spec.access_modes.clone().unwrap_or_default(),
        source: source(spec),
    }
}

/// The claim that a `PersistentVolume` names.
fn claim_ref(spec: &PersistentVolumeSpec) -> Option<ClaimRef> {
    let reference = spec.claim_ref.clone()?;
    let key = ClaimKey { namespace: reference.namespace?, name: reference.name? };
    Some(ClaimRef { key, uid: reference.uid })
}

/// What is used of a `PersistentVolumeClaim`.
pub(super) fn claim(object: PersistentVolumeClaim, selections: &Selections) -> volume::Claim {
    let bytes = |quantities: BTreeMap<String, Quantity>| parse_quantity(&quantities.get("storage")?.0);
    volume::Claim {
        uid: object.metadata.uid,
        labels: selections.pvc_labels.select(object.metadata.labels.unwrap_or_default()),
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
