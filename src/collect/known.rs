//! What is known of the volumes, kept while neither the mounts nor the metadata change: on most scrapes nothing is new.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::join::{self, Grouped};
use crate::snapshot::VolumeStatus;
use crate::volume::{self, Answer, Metadata, Mount, Volume};

/// The volumes of the last reading of the mount table.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What they were made from.
    from: (Vec<Arc<Mount>>, Arc<Metadata>),
    /// Sorted by name.
    volumes: Vec<Arc<Volume>>,
    /// Names left out, for different volumes carry them.
    pub(super) ambiguous: usize,
    /// Names left out until more is known of them.
    pub(super) pending: usize,
    /// The pods of mounts that are left out.
    pub(super) left_out_pods: HashSet<String>,
    /// All mounts of the volumes, volume by volume.
    pub(super) mounts: Vec<Arc<Mount>>,
}

impl Known {
    /// Takes what is known now. A volume about which nothing changed stays the same one, so that what others made of it
    /// stays good.
    pub(super) fn update(&mut self, mounts: Vec<Arc<Mount>>, metadata: Arc<Metadata>) {
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
        self.mounts = volumes.iter().flat_map(|volume| &volume.mounts).cloned().collect();
        (self.volumes, self.ambiguous, self.pending) = (volumes, ambiguous, pending);
        self.left_out_pods = left_out_pods;
        self.from = (mounts, metadata);
    }

    /// The volumes with their measurements, one a mount in the order of `mounts`.
    pub(super) fn measured(&self, answers: Vec<Answer>) -> Vec<VolumeStatus> {
        let mut answers = answers.into_iter();
        let status = |volume: &Arc<Volume>| VolumeStatus {
            answers: answers.by_ref().take(volume.mounts.len()).collect(),
            volume: Arc::clone(volume),
        };
        self.volumes.iter().map(status).collect()
    }
}

/// Leaves out the mounts that were unmounted while they were measured, and volumes that have no other.
pub(super) fn retain_mounted(statuses: &mut Vec<VolumeStatus>, still_mounted: &[bool]) {
    let mut still_mounted = still_mounted.iter().copied();
    statuses.retain_mut(|status| {
        let there: Vec<bool> = still_mounted.by_ref().take(status.answers.len()).collect();
        if there.contains(&false) {
            let volume = Arc::make_mut(&mut status.volume);
            retain(&mut volume.mounts, &there);
            retain(&mut volume.pods, &there);
            retain(&mut status.answers, &there);
        }
        !status.answers.is_empty()
    });
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| keep.next().copied().unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::mount;
    use crate::volume::{Figures, PersistentVolume, Reason};

    const GOOD: Answer = Ok(Figures::Block { size: 1 });

    fn mounts(names: &[&str]) -> Vec<Arc<Mount>> {
        names.iter().enumerate().map(|(pod, name)| Arc::new(mount(name, "nfs", &pod.to_string()))).collect()
    }

    #[test]
    fn what_was_unmounted_meanwhile_is_left_out() {
        let io: Answer = Err(Reason::Io.into());
        let mut known = Known::default();
        known.update(mounts(&["a", "b", "b", "c"]), Arc::default());
        let mut statuses = known.measured(vec![GOOD, GOOD, io, GOOD]);
        retain_mounted(&mut statuses, &[false, false, true, true]);
        let names: Vec<_> = statuses.iter().map(|status| status.volume.pv_name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        let volume = &statuses[0].volume;
        assert_eq!((volume.mounts.len(), volume.pods.len()), (1, 1));
        assert_eq!(volume.mounts[0].pod_uid.as_deref(), Some("2"));
        assert_eq!(statuses[0].answers, [io], "the answer belongs to the mount that stays");
        assert_eq!(known.measured(vec![GOOD; 4]).len(), 3, "the next scrape looks for itself");
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
