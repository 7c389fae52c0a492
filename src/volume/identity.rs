//! Which mounts can be of a `PersistentVolume`: a pod's own (inline) volume, or an earlier `PersistentVolume`, can have its
//! name.

use super::metadata::{Metadata, PersistentVolume, Pod, VolumeSource, is_valid_object_name};
use super::mount::{VolumeMode, VolumeMount};

/// Plugins whose volumes CSI drivers have taken over, and these drivers: the object names the plugin, the path `csi`.
const MIGRATED: [(&str, &str); 8] = [
    ("aws-ebs", "ebs.csi.aws.com"),
    ("azure-disk", "disk.csi.azure.com"),
    ("azure-file", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gce-pd", "pd.csi.storage.gke.io"),
    ("portworx-volume", "pxd.portworx.com"),
    ("rbd", "rbd.csi.ceph.com"),
    ("vsphere-volume", "csi.vsphere.vmware.com"),
];

/// The CSI driver that serves the volumes of this plugin where they are migrated.
fn migrated_to(plugin: &str) -> Option<&'static str> {
    MIGRATED.iter().find(|(migrated, _)| *migrated == plugin).map(|(_, driver)| *driver)
}

impl PersistentVolume {
    /// Whether a mount is certainly not of this volume, by its plugin, driver, handle, mode or source. `pod` is the mount's:
    /// it lists its inline volumes, so that the source of an NFS mount has to tell only where it is not known.
    pub fn contradicts(&self, mount: &VolumeMount, pod: Option<&Pod>) -> bool {
        let is_block =
            |mode: &String| (mode == VolumeMode::Block.as_str()) != (mount.mode == VolumeMode::Block);
        if self.mode.as_ref().is_some_and(is_block) {
            return true;
        }
        // A plugin that a regular expression does not tell contradicts nothing.
        let Some(source) = self.source.as_ref().filter(|_| !mount.plugin.is_empty()) else {
            return false;
        };
        match (mount.plugin.as_str(), migrated_to(&source.plugin)) {
            ("csi", None) if source.plugin != "csi" => true,
            ("csi", driver) => is_of_other_csi_volume(mount, source, driver),
            _ if source.kind == "flexvolume" => {
                // The vendor `kubernetes.io` may be left out.
                let driver = |plugin: &'_ str| plugin.trim_start_matches("kubernetes.io/").to_owned();
                driver(&mount.plugin) != driver(&source.plugin)
            }
            (plugin, _) if plugin != source.plugin => true,
            ("nfs", _) => pod.is_none() && is_of_other_export(mount, source),
            _ => false,
        }
    }

    /// Whether a mount may be of this volume: its pod, if known, may use the claim, and nothing contradicts it.
    pub(crate) fn may_be_of(&self, mount: &VolumeMount, pod: Option<&Pod>) -> bool {
        let uses_another =
            |pod: &Pod| self.claim.as_ref().is_some_and(|claim| pod.uses(&claim.key) == Some(false));
        !pod.is_some_and(uses_another) && !self.contradicts(mount, pod)
    }
}

/// Whether `vol_data.json` tells another driver or volume; `migrated_to` is the driver of a source that is migrated to CSI,
/// whose handles are not those of the object.
fn is_of_other_csi_volume(mount: &VolumeMount, source: &VolumeSource, migrated_to: Option<&str>) -> bool {
    let Some(csi) = &mount.csi else { return false };
    match migrated_to {
        Some(driver) => csi.driver != driver,
        None => {
            csi.driver != source.kind || source.instance.as_ref().is_some_and(|handle| *handle != csi.handle)
        }
    }
}

/// Whether both name the path of an export, and different ones. Servers are not compared: mounts of one export share a
/// superblock, which keeps the name that its first mounter used.
fn is_of_other_export(mount: &VolumeMount, source: &VolumeSource) -> bool {
    let exported = |device: &str| {
        let (_, path) = device.split_once(":/")?;
        Some(path.split('/').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect::<Vec<_>>())
    };
    let mounted = exported(&mount.device.to_string_lossy());
    mounted
        .zip(source.instance.as_deref().and_then(exported))
        .is_some_and(|(mounted, meant)| mounted != meant)
}

impl Metadata {
    /// Whether a mount is of a pod's own (inline) volume.
    pub fn is_inline(&self, mount: &VolumeMount) -> bool {
        let pod = self.pod(mount);
        !can_be_persistent(mount)
            || pod.is_some_and(|pod| pod.has_inline(mount) || self.is_migrated_inline(mount, pod))
    }

    /// Whether a mount is, as far as can be told, of a volume that the pod lists with the old plugin and a CSI driver serves:
    /// the kubelet makes up a name for it. A name that is absent may also be of a `PersistentVolume` that was deleted while
    /// it is mounted.
    fn is_migrated_inline(&self, mount: &VolumeMount, pod: &Pod) -> bool {
        let has_migrated = || pod.inline_volumes.iter().any(|(plugin, _)| migrated_to(plugin).is_some());
        mount.plugin == "csi" && has_migrated() && (pod.uses_no_claim() || self.is_absent(mount))
    }
}

/// Whether a `PersistentVolume` can have the name of this mount. For some drivers, the names that are made up for migrated
/// inline volumes are paths.
fn can_be_persistent(mount: &VolumeMount) -> bool {
    mount.plugin != "csi" || is_valid_object_name(&mount.name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::volume::samples::mount;
    use crate::volume::{CsiVolume, Lookup, VolumeMetadata};

    fn source(plugin: &str, kind: &str, instance: &str) -> VolumeSource {
        VolumeSource { plugin: plugin.into(), kind: kind.into(), instance: Some(instance.into()) }
    }

    fn csi(driver: &str, handle: &str) -> VolumeMount {
        let csi = Some(CsiVolume { driver: driver.into(), handle: handle.into() });
        VolumeMount { csi, ..mount("data", "csi", "1") }
    }

    fn contradicts(source: VolumeSource, mount: &VolumeMount, pod: Option<&Pod>) -> bool {
        let pv = PersistentVolume { source: Some(source), ..PersistentVolume::default() };
        pv.contradicts(mount, pod)
    }

    #[test]
    fn plugin_driver_and_handle_are_those_of_the_object() {
        let cases = [
            (mount("data", "nfs", "1"), source("csi", "ebs.csi.aws.com", "vol-1"), true),
            (mount("data", "nfs", "1"), source("iscsi", "iscsi", "x"), true),
            (mount("data", "iscsi", "1"), source("iscsi", "iscsi", "x"), false),
            (mount("data", "", "1"), source("iscsi", "iscsi", "x"), false),
            (csi("d", "h"), source("csi", "d", "h"), false),
            (csi("d", "h"), source("csi", "d", "other"), true),
            (csi("d", "h"), source("csi", "other", "h"), true),
            (csi("d", "h"), source("nfs", "nfs", "nas:/e"), true),
            (VolumeMount { csi: None, ..csi("", "") }, source("csi", "d", "h"), false),
            (csi("pd.csi.storage.gke.io", "projects/x/disk"), source("gce-pd", "gce-pd", "disk"), false),
            (csi("evil.csi", "disk"), source("gce-pd", "gce-pd", "disk"), true),
            (VolumeMount { csi: None, ..csi("", "") }, source("gce-pd", "gce-pd", "disk"), false),
            (mount("data", "gce-pd", "1"), source("gce-pd", "gce-pd", "disk"), false),
            (
                mount("data", "lvm", "1"),
                source("kubernetes.io/lvm", "flexvolume", "kubernetes.io/lvm"),
                false,
            ),
            (mount("data", "v/lvm", "1"), source("v/lvm", "flexvolume", "v/lvm"), false),
            (mount("data", "v/lvm", "1"), source("v/nfs", "flexvolume", "v/nfs"), true),
            (mount("data", "nfs", "1"), source("v/nfs", "flexvolume", "v/nfs"), true),
        ];
        for (mount, source, expected) in cases {
            assert_eq!(contradicts(source.clone(), &mount, None), expected, "{source:?} {mount:?}");
        }
        assert!(
            !PersistentVolume::default().contradicts(&csi("d", "h"), None),
            "of a kind that is not known"
        );
        let of_mode =
            |mode: &str| PersistentVolume { mode: Some(mode.into()), ..PersistentVolume::default() };
        let device = VolumeMount { mode: VolumeMode::Block, ..csi("d", "h") };
        let modes = ["Block", "Filesystem"].map(of_mode);
        assert_eq!(modes.each_ref().map(|pv| pv.contradicts(&device, None)), [false, true]);
        assert_eq!(modes.each_ref().map(|pv| pv.contradicts(&csi("d", "h"), None)), [true, false]);
    }

    #[test]
    fn the_path_of_an_nfs_export_tells_where_the_pod_does_not() {
        let cases = [
            ("nas:/export/data", "nas:/export/data", false),
            ("other:/export/data", "nas:/export/data", false),
            ("nas://export//data/", "nas:/export/data", false),
            ("[fe80::1]:/export", "fe80::1:/export", false),
            ("nas:/", "nas:/", false),
            ("nas:/export/other", "nas:/export/data", true),
            ("nas:/export/data/sub", "nas:/export/data", true),
            ("nas:/", "nas:/export", true),
            ("tmpfs", "nas:/export", false),
            ("nas:/export", "nas", false),
        ];
        for (device, instance, expected) in cases {
            let mount = VolumeMount { device: device.into(), ..mount("data", "nfs", "1") };
            assert_eq!(contradicts(source("nfs", "nfs", instance), &mount, None), expected, "{device}");
            let pod = Pod::default();
            assert!(
                !contradicts(source("nfs", "nfs", instance), &mount, Some(&pod)),
                "{device}, its pod is known"
            );
        }
    }

    /// A pod with a volume of `gcePersistentDisk`, which CSI serves.
    fn metadata(claims: &[&str], pvs: &[(&str, Lookup<PersistentVolume>)], awaits_volumes: bool) -> Metadata {
        let pod = Pod {
            inline_volumes: HashSet::from([("gce-pd".to_owned(), "own".to_owned())]),
            claims: claims.iter().map(|claim| (*claim).to_owned()).collect(),
            ..Pod::default()
        };
        let volume =
            |pv: &Lookup<PersistentVolume>| VolumeMetadata { pv: pv.clone(), claim: None, pods: None };
        Metadata {
            volumes: Arc::new(pvs.iter().map(|(name, pv)| ((*name).to_owned(), volume(pv))).collect()),
            pods: Arc::new([("1".to_owned(), Arc::new(pod))].into()),
            awaits_volumes,
            ..Metadata::default()
        }
    }

    #[test]
    fn a_migrated_inline_volume_is_told_by_what_is_absent() {
        const NAME: &str = "pd.csi.storage.gke.io-own";
        let found = || ("pv", Lookup::Found(Arc::default()));
        let absent = (NAME, Lookup::Absent);
        let own = VolumeMount { name: NAME.into(), ..csi("pd.csi.storage.gke.io", "h") };
        let is_inline = |metadata: &Metadata| metadata.is_inline(&own);
        assert!(is_inline(&metadata(&["c"], &[absent], true)));
        assert!(is_inline(&metadata(&["c"], &[found()], false)), "a file of volumes has none of this name");
        assert!(!is_inline(&metadata(&["c"], &[found()], true)), "it is not answered yet");
        assert!(!is_inline(&metadata(&["c"], &[], false)), "nothing is told of volumes");
        assert!(is_inline(&metadata(&[], &[], true)), "its pod has no claim");
        assert!(!Metadata::default().is_inline(&own), "its pod is not known");
        let path = VolumeMount { name: "/subscriptions/1/d".into(), ..own.clone() };
        assert!(Metadata::default().is_inline(&path), "no object can have this name");
    }
}
