//! Which volumes are not measured, because the settings say so.

use super::metadata::{ClaimKey, Metadata, VolumeMetadata};
use super::mount::{VolumeMode, VolumeMount};
use super::name_patterns::NamePatterns;

/// Volumes that are not measured.
#[derive(Debug, Clone, Default)]
pub struct Exclusions {
    /// By the type of the file system, as the mount table names it.
    pub fs_types: NamePatterns,
    /// By the storage class of the `PersistentVolume`.
    pub storage_classes: NamePatterns,
    /// By the namespace of the claim, which is that of its pods.
    pub namespaces: NamePatterns,
}

impl Exclusions {
    /// Whether a mount of a volume, of which this is known, is excluded. What is not known excludes nothing: a volume that
    /// nobody watches by mistake is worse than one that is measured.
    pub fn matches(&self, mount: &VolumeMount, volume: Option<&VolumeMetadata>, metadata: &Metadata) -> bool {
        let pv = volume.and_then(|volume| volume.pv.found());
        let class = pv.and_then(|pv| pv.storage_class.as_ref());
        let claim = volume.and_then(VolumeMetadata::claim_ref);
        // A block volume has no file system; the type in its row is that of /dev.
        let fs_type = (mount.mode == VolumeMode::Filesystem).then(|| mount.fstype.to_string_lossy());
        fs_type.is_some_and(|fs_type| self.fs_types.matches(&fs_type))
            || class.is_some_and(|class| self.storage_classes.matches(class))
            || claim.is_some_and(|claim| self.matches_claim(&claim.key))
            || metadata.pod(mount).is_some_and(|pod| self.namespaces.matches(&pod.namespace))
    }

    /// Whether the volume of a claim is excluded, whatever it is.
    pub fn matches_claim(&self, claim: &ClaimKey) -> bool {
        self.namespaces.matches(&claim.namespace)
    }
}
