//! What is known of the volumes, kept while neither the mounts nor the metadata change: on most scrapes nothing is new.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::join::{self, Grouped};
use crate::snapshot::MeasuredVolume;
use crate::volume::{self, Metadata, ProbeResult, Volume, VolumeMount};

/// The volumes of the last reading of the mount table.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What they were made from.
    from: (Vec<Arc<VolumeMount>>, Arc<Metadata>),
    /// Sorted by name.
    volumes: Vec<Arc<Volume>>,
    /// Names left out, for different volumes carry them.
    pub(super) ambiguous: usize,
    /// Names left out until more is known of them.
    pub(super) pending: usize,
    /// The pods of mounts that are left out.
    pub(super) left_out_pods: HashSet<String>,
    /// All mounts of the volumes, volume by volume.
    pub(super) mounts: Vec<Arc<VolumeMount>>,
}

impl Known {
    /// Takes what is known now. A volume about which nothing changed stays the same one, so that what others made of it
    /// stays good.
    pub(super) fn update(&mut self, mounts: Vec<Arc<VolumeMount>>, metadata: Arc<Metadata>) {
        if volume::are_same(&self.from.0, &mounts) && Arc::ptr_eq(&self.from.1, &metadata) {
            return;
        }
        let Grouped { mut volumes, ambiguous, pending, left_out_pods } = join::group(&mounts, &metadata);
        let before: HashMap<&str, &Arc<Volume>> =
            self.volumes.iter().map(|volume| (volume.pv_name.as_str(), volume)).collect();
        for volume in &mut volumes {
            if let Some(before) = before.get(volume.pv_name.as_str()).filter(|before| **before == volume) {
                *volume = Arc::clone(before);
            }
        }
        self.mounts =
            volumes.iter().flat_map(|volume| &volume.mounts).map(|of| Arc::clone(&of.mount)).collect();
        (self.volumes, self.ambiguous, self.pending) = (volumes, ambiguous, pending);
        self.left_out_pods = left_out_pods;
        self.from = (mounts, metadata);
    }

    /// The volumes with their measurements, one a mount in the order of `mounts`.
    pub(super) fn measured(&self, answers: Vec<ProbeResult>) -> Vec<MeasuredVolume> {
        let mut answers = answers.into_iter();
        let mut measured = |volume: &Arc<Volume>| {
            let results: Box<[_]> = answers.by_ref().take(volume.mounts.len()).collect();
            MeasuredVolume::new(Arc::clone(volume), results)
        };
        self.volumes.iter().map(&mut measured).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::PersistentVolume;
    use crate::volume::samples::mount;

    fn mounts(names: &[&str]) -> Vec<Arc<VolumeMount>> {
        names.iter().enumerate().map(|(pod, name)| Arc::new(mount(name, "nfs", &pod.to_string()))).collect()
    }

    #[test]
    fn a_volume_about_which_nothing_changed_stays_the_same_one() {
        let mut known = Known::default();
        let first = mounts(&["a", "b", "c"]);
        let mut metadata = Metadata::default();
        known.update(first.clone(), Arc::new(metadata.clone()));
        let before = known.volumes.clone();
        metadata.persistent_volumes.insert("b".into(), Arc::new(PersistentVolume::default()));
        let next = [&first[..2], &mounts(&["", "", "", "d"])[3..]].concat();
        known.update(next, Arc::new(metadata));
        let same = |name: &str| {
            let find = |volumes: &[Arc<Volume>]| volumes.iter().find(|v| v.pv_name == name).cloned();
            Some(Arc::ptr_eq(&find(&before)?, &find(&known.volumes)?))
        };
        assert_eq!(["a", "b", "c", "d"].map(same), [Some(true), Some(false), None, None]);
        assert_eq!(known.mounts.iter().map(|mount| mount.name.as_str()).collect::<Vec<_>>(), ["a", "b", "d"]);
    }
}
