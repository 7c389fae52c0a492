//! The immutable result of one collection. Expositions, the page and the table of `df` are made from it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use crate::volume::SourceStatus;
use crate::volume::{
    ClaimKey, Measurement, PodMount, ProbeError, ProbeResult, Reason, Usage, Volume, VolumeMount,
};

/// One collection.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Every volume found, sorted by the name of its `PersistentVolume`.
    pub volumes: Vec<MeasuredVolume>,
    /// Nothing was still outstanding at the deadline: more time would have changed nothing.
    pub complete: bool,
    /// Names left out because their mounts belong to different volumes.
    pub ambiguous: usize,
    /// Volumes left out while their metadata is not answered yet.
    pub pending: usize,
    /// Volumes that are not measured, because the settings exclude them; of claims where the kubelet is the only source.
    pub excluded: usize,
    /// The `kubelet_volume_stats_*` series, sorted.
    pub claims: Vec<ClaimStats>,
    /// About the mount table, if that is a source.
    pub table: Option<MountTableStatus>,
    /// About the kubelet, if that is a source.
    pub kubelet: Option<KubeletStatus>,
    /// About the other sources, by the names of `disk_usage_exporter_source_success`.
    pub sources: Vec<SourceStatus>,
    /// The age of the oldest metadata in use.
    pub metadata_age: Option<Duration>,
    /// How long the thread that reads the node's files has been busy with one job; zero between jobs.
    pub host_files_busy_time: Duration,
    /// How long this collection took.
    pub collect_time: Duration,
    /// How long the last finished scrape before this one took, writing included.
    pub previous_total_time: Option<Duration>,
}

impl Snapshot {
    /// Whether any source of measurements has answered.
    pub fn has_answer(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.readable)
            || self.kubelet.is_some_and(|kubelet| kubelet.answered.is_some())
    }

    /// How many volumes are in this state.
    pub fn count(&self, state: VolumeState) -> usize {
        self.volumes.iter().filter(|volume| volume.state() == state).count()
    }

    /// How many volumes are in each state, by the state's name in `disk_usage_exporter_volumes`.
    pub fn volumes_by_state(&self) -> [(&'static str, usize); 7] {
        [
            ("measured", self.count(VolumeState::Measured)),
            ("failed", self.count(VolumeState::Failed)),
            ("hung", self.count(VolumeState::Hung)),
            ("skipped", self.count(VolumeState::Skipped)),
            ("unsupported", self.count(VolumeState::Unsupported)),
            ("pending", self.pending),
            ("excluded", self.excluded),
        ]
    }

    /// The claims that have no mount here, each with its series.
    pub fn unmounted_claims(&self) -> BTreeMap<&ClaimKey, Vec<&ClaimStats>> {
        let mounted =
            self.volumes.iter().filter_map(|status| status.volume.claim.current_key().map(|key| &**key));
        let mounted: HashSet<&ClaimKey> = mounted.collect();
        let mut claims: BTreeMap<&ClaimKey, Vec<&ClaimStats>> = BTreeMap::new();
        for status in self.claims.iter().filter(|status| !mounted.contains(&*status.claim)) {
            claims.entry(&status.claim).or_default().push(status);
        }
        claims
    }
}

/// A volume and the results of probing its mounts.
#[derive(Debug)]
pub struct MeasuredVolume {
    /// The volume: the same allocation in each snapshot, as long as nothing about it changes.
    pub volume: Arc<Volume>,
    /// One for each mount, in the order of `volume.mounts`.
    results: Box<[ProbeResult]>,
    /// How many volumes of this node are on its file system, itself included; `None` for a block device, and where the mount
    /// table has no device numbers.
    pub filesystem_volumes: Option<usize>,
}

/// A claim's `kubelet_volume_stats_*` values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimStats {
    /// The claim.
    pub claim: Arc<ClaimKey>,
    /// The pod, if each pod has its own series.
    pub pod: Option<Arc<str>>,
    /// Its stats; `None` where only its health is known.
    pub stats: Option<Measurement>,
    /// Whether the CSI driver reports an abnormal condition.
    pub abnormal: Option<bool>,
}

/// The states of `disk_usage_exporter_volumes`; each volume is in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// At least one mount was measured.
    Measured,
    /// Every probed mount returned an error.
    Failed,
    /// A mount did not answer, and none was measured.
    Hung,
    /// No mount was probed.
    Skipped,
    /// The file system answers, and has no capacity: an object store.
    Unsupported,
}

impl MeasuredVolume {
    /// Pairs a volume with the results of its mounts, which are in the same order.
    ///
    /// # Panics
    ///
    /// If there is not exactly one result for each mount.
    pub fn new(volume: Arc<Volume>, results: impl Into<Box<[ProbeResult]>>) -> Self {
        let results = results.into();
        assert_eq!(volume.mounts.len(), results.len(), "one result for each mount of {}", volume.pv_name);
        Self { volume, results, filesystem_volumes: None }
    }

    /// Its mounts, each with the result of its probe. Nothing else pairs them.
    pub fn mounts(&self) -> impl Iterator<Item = (&PodMount, ProbeResult)> + Clone {
        self.volume.mounts.iter().zip(self.results.iter().copied())
    }

    /// The same volume without the mounts for which `keep` is false; `None` if none is left.
    pub fn retain_mounts(self, keep: impl Fn(&VolumeMount) -> bool) -> Option<Self> {
        if self.volume.mounts.iter().all(|of| keep(&of.mount)) {
            return Some(self);
        }
        let kept = self.mounts().filter(|(of, _)| keep(&of.mount));
        let (mounts, results): (Vec<PodMount>, Vec<ProbeResult>) =
            kept.map(|(of, result)| (of.clone(), result)).unzip();
        let volume = Volume { mounts, ..Volume::clone(&self.volume) };
        (!results.is_empty()).then(|| Self::new(Arc::new(volume), results))
    }

    /// The figures: those of the first mount that has any.
    pub fn measurement(&self) -> Option<Measurement> {
        self.results.iter().find_map(|result| result.ok())
    }

    /// Whether every mount of a measured file system is read-only now; `None` where one may be writable: it was not measured,
    /// or nothing tells.
    pub fn read_only(&self) -> Option<bool> {
        let mut all = None;
        let mut may_write = false;
        for (PodMount { mount, .. }, result) in self.mounts() {
            match result {
                Ok(Measurement::Filesystem(usage)) => {
                    let turned = turned_read_only(mount, usage).then_some(true);
                    let read_only = turned.or(mount.is_read_only());
                    all = Some(all.unwrap_or(true) && read_only != Some(false));
                    may_write |= read_only.is_none();
                }
                Ok(Measurement::Block { .. }) => {}
                Err(_) => may_write |= mount.is_read_only() != Some(true),
            }
        }
        all.filter(|read_only| !read_only || !may_write)
    }

    /// Whether the file system itself is read-only, whoever mounts it; `None` where it was not measured, or nothing tells.
    pub fn filesystem_read_only(&self) -> Option<bool> {
        self.measurement()?;
        let known = self.mounts().filter_map(|(PodMount { mount, .. }, result)| match result {
            Ok(Measurement::Block { .. }) => None,
            Ok(Measurement::Filesystem(usage)) if turned_read_only(mount, usage) => Some(true),
            Ok(Measurement::Filesystem(_)) | Err(_) => mount.superblock_read_only,
        });
        known.reduce(|all, read_only| all && read_only)
    }

    /// The errors of its mounts, one for each reason.
    pub fn errors(&self) -> Vec<ProbeError> {
        let mut errors: Vec<_> = self.results.iter().filter_map(|result| result.err()).collect();
        errors.sort_by_key(|error| error.reason);
        errors.dedup_by_key(|error| error.reason);
        errors
    }

    /// Its state.
    pub fn state(&self) -> VolumeState {
        let is_hung = |error: &ProbeError| error.reason == Reason::Timeout && error.errno.is_none();
        let errors = || self.results.iter().filter_map(|result| result.as_ref().err());
        if self.measurement().is_some() {
            VolumeState::Measured
        } else if errors().all(|error| error.reason == Reason::NoFigures) {
            VolumeState::Unsupported
        } else if errors().all(|error| error.reason == Reason::Skipped) {
            VolumeState::Skipped
        } else if errors().any(is_hung) {
            VolumeState::Hung
        } else {
            VolumeState::Failed
        }
    }
}

/// Whether its file system is read-only by `ST_RDONLY`, which may be since the mount table was read.
fn turned_read_only(mount: &VolumeMount, usage: Usage) -> bool {
    usage.read_only && !mount.is_read_only_here
}

/// What is known of the mount table.
#[derive(Debug, Clone, Default)]
pub struct MountTableStatus {
    /// Whether it could be read.
    pub readable: bool,
    /// Rows of the last reading.
    pub rows: usize,
    /// Lines of the last reading that are no rows.
    pub malformed: usize,
    /// Whether mounts made on the host appear here; `None` where it cannot be told.
    pub propagation: Option<bool>,
    /// Mounts of volumes in the host's own table that are not in this one; `None` where that table cannot be read.
    pub unpropagated: Option<usize>,
    /// Directories that look like a kubelet's and are left out, for they are not root's alone; `None` where none is checked.
    pub refused_kubelet_roots: Option<usize>,
    /// Whether there is no directory at `--kubelet-root`.
    pub is_kubelet_root_missing: bool,
}

impl MountTableStatus {
    /// Whether volumes that are mounted can be found by it.
    pub fn shows_volumes(&self) -> bool {
        self.readable && !self.is_kubelet_root_missing
    }
}

/// What is known of reading the kubelet's figures.
#[derive(Debug, Clone, Copy)]
pub struct KubeletStatus {
    /// When it answered last.
    pub answered: Option<SystemTime>,
    /// Volumes of its answer, if that is known, that it measured too long ago.
    pub stale: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::{mount, volume};

    #[test]
    fn read_only_is_said_only_if_no_mount_may_be_writable() {
        let figures = |read_only| -> ProbeResult {
            Ok(Measurement::Filesystem(Usage {
                total: 1,
                used: Some(1),
                available: Some(0),
                inodes: None,
                read_only,
            }))
        };
        let failed: ProbeResult = Err(Reason::Io.into());
        let writable = || mount("pv", "nfs", "uid");
        let read_only = || VolumeMount { read_only: Some(true), is_read_only_here: true, ..writable() };
        let remounted = || VolumeMount { read_only: Some(true), ..writable() };
        let copy = || VolumeMount { read_only: None, ..writable() };
        let writable_again = || VolumeMount { is_read_only_here: true, ..writable() };
        let emergency = || VolumeMount { superblock_read_only: Some(true), ..writable() };
        let said = |mounts: Vec<(VolumeMount, ProbeResult)>| {
            let (mounts, results): (Vec<_>, Vec<_>) =
                mounts.into_iter().map(|(mount, result)| (Arc::new(mount), result)).unzip();
            MeasuredVolume::new(Arc::new(volume(mounts)), results).read_only()
        };
        assert_eq!(said(vec![(writable(), figures(false))]), Some(false));
        assert_eq!(said(vec![(writable(), figures(true))]), Some(true));
        assert_eq!(said(vec![(emergency(), figures(false))]), Some(true));
        assert_eq!(said(vec![(read_only(), figures(true)), (writable(), figures(false))]), Some(false));
        assert_eq!(said(vec![(read_only(), figures(true)), (read_only(), failed)]), Some(true));
        assert_eq!(said(vec![(read_only(), figures(true)), (writable(), failed)]), None);
        assert_eq!(said(vec![(writable(), figures(false)), (writable(), failed)]), Some(false));
        assert_eq!(said(vec![(writable(), failed)]), None);
        assert_eq!(said(vec![(remounted(), figures(false))]), Some(true), "for pods");
        assert_eq!(said(vec![(writable_again(), figures(true))]), Some(false), "for pods");
        assert_eq!(said(vec![(copy(), figures(false))]), None);
        assert_eq!(said(vec![(copy(), figures(true))]), Some(true), "the file system is");
        assert_eq!(said(vec![(copy(), figures(false)), (read_only(), figures(true))]), None);
        assert_eq!(said(vec![(copy(), figures(false)), (writable(), figures(false))]), Some(false));
        assert_eq!(said(vec![(read_only(), figures(true)), (copy(), failed)]), None);
        assert_eq!(said(vec![(writable(), Ok(Measurement::Block { size: 1 }))]), None);
    }

    #[test]
    fn a_read_only_mount_does_not_make_its_file_system_read_only() {
        let figures = |read_only| -> ProbeResult {
            let (used, available) = (Some(1), Some(0));
            Ok(Measurement::Filesystem(Usage { total: 1, used, available, inodes: None, read_only }))
        };
        let failed: ProbeResult = Err(Reason::Io.into());
        let superblock =
            |superblock_read_only| VolumeMount { superblock_read_only, ..mount("pv", "nfs", "uid") };
        let writable = || superblock(Some(false));
        let bound = |of| VolumeMount { read_only: Some(true), is_read_only_here: true, ..of };
        let remounted = |read_only, here| VolumeMount { read_only, is_read_only_here: here, ..writable() };
        let said = |mounts: Vec<(VolumeMount, ProbeResult)>| {
            let (mounts, results): (Vec<_>, Vec<_>) =
                mounts.into_iter().map(|(mount, result)| (Arc::new(mount), result)).unzip();
            MeasuredVolume::new(Arc::new(volume(mounts)), results).filesystem_read_only()
        };
        assert_eq!(said(vec![(writable(), figures(false))]), Some(false));
        assert_eq!(said(vec![(bound(writable()), figures(true))]), Some(false));
        assert_eq!(said(vec![(writable(), figures(true))]), Some(true), "since the table was read");
        assert_eq!(said(vec![(remounted(Some(true), false), figures(false))]), Some(false));
        assert_eq!(said(vec![(remounted(Some(true), false), figures(true))]), Some(true));
        assert_eq!(
            said(vec![(remounted(Some(false), true), figures(true))]),
            Some(false),
            "by this copy alone"
        );
        assert_eq!(said(vec![(remounted(None, false), figures(false))]), Some(false));
        assert_eq!(said(vec![(superblock(Some(true)), figures(false))]), Some(true), "emergency_ro");
        assert_eq!(said(vec![(bound(superblock(Some(true))), figures(true))]), Some(true));
        assert_eq!(said(vec![(bound(superblock(None)), figures(true))]), None, "/proc/mounts does not tell");
        assert_eq!(said(vec![(superblock(Some(true)), figures(true)), (writable(), failed)]), Some(false));
        assert_eq!(said(vec![(superblock(Some(true)), failed)]), None, "nothing was measured");
        assert_eq!(said(vec![(writable(), Ok(Measurement::Block { size: 1 }))]), None);
    }

    #[test]
    fn a_volume_without_capacity_is_neither_measured_nor_failed() {
        let state = |results: &[ProbeResult]| {
            let mounts = results.iter().map(|_| Arc::new(mount("pv", "nfs", "uid"))).collect();
            MeasuredVolume::new(Arc::new(volume(mounts)), results).state()
        };
        let none: ProbeResult = Err(Reason::NoFigures.into());
        assert_eq!(state(&[none, none]), VolumeState::Unsupported);
        assert_eq!(state(&[none, Ok(Measurement::Block { size: 1 })]), VolumeState::Measured);
        assert_eq!(state(&[none, Err(Reason::Io.into())]), VolumeState::Failed);
        assert_eq!(state(&[none, Err(Reason::Timeout.into())]), VolumeState::Hung);
    }

    #[test]
    fn mounts_that_are_gone_are_left_out_with_their_results() {
        let mounts = ["1", "2"].map(|uid| Arc::new(mount("pv", "nfs", uid)));
        let io: ProbeResult = Err(Reason::Io.into());
        let measured = || {
            let results = [Ok(Measurement::Block { size: 1 }), io];
            MeasuredVolume::new(Arc::new(volume(mounts.to_vec())), results)
        };
        let without_first = measured().retain_mounts(|mount| mount.pod_uid.as_deref() == Some("2")).unwrap();
        let left: Vec<_> =
            without_first.mounts().map(|(of, result)| (of.mount.pod_uid.clone().unwrap(), result)).collect();
        assert_eq!(left, [("2".to_owned(), io)]);
        assert!(measured().retain_mounts(|_| false).is_none(), "no mount is left");
        let same = measured();
        let volume = Arc::clone(&same.volume);
        assert!(Arc::ptr_eq(&volume, &same.retain_mounts(|_| true).unwrap().volume));
    }
}
