//! A row as the web page shows it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;

use super::escape::Visible;
use super::row::Row;
use crate::snapshot::{MeasuredVolume, VolumeState};
use crate::units::{Count, FULL, NEARLY_FULL, Percent, Size};
use crate::volume::{Inodes, PodMount, ProbeError, ProbeResult, Reason, VolumeMode};

/// How full a file system is, by the scarcer of bytes and inodes.
#[derive(Clone, Copy)]
pub(super) struct Fullness {
    pub(super) percent: f64,
    /// Inodes are scarcer.
    pub(super) of_inodes: Option<Inodes>,
}

impl Fullness {
    pub(super) fn of(row: &Row<'_>) -> Option<Self> {
        let bytes = row.percent_used();
        match row.inodes_percent_used() {
            Some(percent) if bytes.is_none_or(|bytes| percent > bytes) => {
                Some(Self { percent, of_inodes: row.inodes() })
            }
            _ => bytes.map(|percent| Self { percent, of_inodes: None }),
        }
    }
}

/// What the page's template prints of a row.
pub(super) struct PageRow<'a> {
    /// For the style: how bad it is.
    pub(super) class: &'static str,
    pub(super) fullness: Option<Fullness>,
    /// A percentage, or why there is none.
    pub(super) level: Cow<'static, str>,
    pub(super) namespace: Option<Visible<'a>>,
    /// The claim's name, else the `PersistentVolume`'s.
    pub(super) name: Visible<'a>,
    /// The `PersistentVolume` of a claim.
    pub(super) pv_name: Option<Visible<'a>>,
    pub(super) is_read_only: bool,
    pub(super) is_abnormal: bool,
    pub(super) pods: Vec<Visible<'a>>,
    /// What failed and why, each reason once.
    pub(super) failures: Vec<String>,
    /// Class and figure of each cell.
    pub(super) figures: [(&'static str, Option<Size>); 3],
    pub(super) fstypes: Visible<'a>,
    /// The kind of its storage.
    pub(super) kind: Visible<'a>,
    pub(super) mounts: Vec<PageMount<'a>>,
}

/// What the page's template prints of a mount.
pub(super) struct PageMount<'a> {
    pub(super) path: Visible<'a>,
    pub(super) device: Visible<'a>,
    pub(super) is_read_only: Option<bool>,
    pub(super) pod: Option<Visible<'a>>,
    pub(super) error: Option<Cow<'static, str>>,
}

impl<'a> Row<'a> {
    pub(super) fn for_page(&self) -> PageRow<'a> {
        let fullness = Fullness::of(self);
        let pv_name = self.pv_name().map(Visible::new);
        let usage = self.usage();
        let mounts = self.volume.into_iter().flat_map(MeasuredVolume::mounts);
        PageRow {
            class: match fullness {
                _ if self.is_unknown() => "failed",
                Some(Fullness { percent: FULL.., .. }) => "full",
                Some(Fullness { percent: NEARLY_FULL.., .. }) => "nearly",
                _ => "well",
            },
            level: match fullness {
                Some(fullness) => Percent(fullness.percent).to_string().into(),
                None => self.state_in_words().into(),
            },
            fullness,
            namespace: self.claim.map(|claim| Visible::new(claim.namespace.as_str())),
            name: match self.claim {
                Some(claim) => Visible::new(claim.name.as_str()),
                None => pv_name.clone().unwrap_or_default(),
            },
            pv_name: pv_name.filter(|_| self.claim.is_some()),
            is_read_only: self.volume.and_then(MeasuredVolume::read_only) == Some(true),
            is_abnormal: self.is_abnormal,
            pods: self.pods.iter().map(|pod| self.pod_name(*pod)).collect(),
            failures: self.volume.filter(|_| !self.is_unsupported()).map(failures).unwrap_or_default(),
            figures: [
                ("used", usage.and_then(|usage| usage.used).map(Size)),
                ("available", usage.and_then(|usage| usage.available).map(Size)),
                ("size", self.size().map(Size)),
            ],
            fstypes: self.volume.map(fstypes).unwrap_or_default(),
            kind: self.volume.map(kind).unwrap_or_default(),
            mounts: mounts.map(|(mount, result)| page_mount(mount, result)).collect(),
        }
    }

    /// Of pods in the claim's namespace the name is enough.
    fn pod_name(&self, (namespace, name): (&'a str, &'a str)) -> Visible<'a> {
        if self.claim.is_some_and(|claim| claim.namespace == namespace) {
            return Visible::new(name);
        }
        Visible::new(format!("{namespace}/{name}"))
    }

    /// Why there is no percentage.
    fn state_in_words(&self) -> &'static str {
        match self.volume.map(MeasuredVolume::state) {
            _ if self.measurement.is_some() => "size only",
            None => "no figures",
            Some(VolumeState::Measured) => "measured",
            Some(VolumeState::Failed) => "failed",
            Some(VolumeState::Hung) => "hung",
            Some(VolumeState::Skipped) => "not asked",
            Some(VolumeState::Unsupported) => "no capacity",
        }
    }
}

fn failures(measured: &MeasuredVolume) -> Vec<String> {
    let failure = |error: ProbeError| {
        let has_reason = |result: ProbeResult| result.is_err_and(|other| other.reason == error.reason);
        let failed = measured.mounts().filter(|(_, result)| has_reason(*result)).count();
        let (words, all) = (error_in_words(error), measured.volume.mounts.len());
        if all == 1 { words.into() } else { format!("{failed} of {}: {words}", Count(all, "mount")) }
    };
    measured.errors().into_iter().map(failure).collect()
}

fn fstypes(measured: &MeasuredVolume) -> Visible<'_> {
    let fstype = |of: &PodMount| match of.mount.mode {
        VolumeMode::Filesystem => of.mount.fstype.to_string_lossy().into_owned(),
        VolumeMode::Block => "block device".into(),
    };
    let fstypes: BTreeSet<String> = measured.volume.mounts.iter().map(fstype).collect();
    Visible::new(fstypes.into_iter().collect::<Vec<_>>().join(", "))
}

fn kind(measured: &MeasuredVolume) -> Visible<'_> {
    let plugin = || measured.volume.mounts.first().map(|of| of.mount.plugin.clone());
    let kind = measured.volume.source().map(|source| source.into_owned().kind);
    Visible::new(kind.or_else(plugin).unwrap_or_default())
}

fn page_mount(PodMount { mount, pod }: &PodMount, result: ProbeResult) -> PageMount<'_> {
    let pod = pod.as_ref().map(|pod| Visible::new(format!("{}/{}", pod.namespace, pod.name)));
    PageMount {
        path: Visible::new(mount.mountpoint.to_string_lossy()),
        device: Visible::new(mount.device.to_string_lossy()),
        is_read_only: mount.is_read_only(),
        pod: pod.or_else(|| mount.pod_uid.as_deref().map(Visible::new)),
        error: result.err().map(error_in_words),
    }
}

/// Why a mount has no figures.
fn error_in_words(error: ProbeError) -> Cow<'static, str> {
    match error.reason {
        Reason::Timeout if error.errno.is_some() => "its server did not answer in time",
        Reason::Timeout => "was asked and did not answer in time; it may hang",
        Reason::Skipped => "the time was over before it could be asked",
        Reason::NotMounted => "the path is gone, or is not this mount",
        Reason::Stale => "the server no longer knows the file handle (ESTALE)",
        Reason::Io => "input or output error (EIO)",
        Reason::Permission => "the kernel or the server does not let root look",
        Reason::NotConnected => {
            "its server cannot be reached, a FUSE server has ended, or the device is gone"
        }
        Reason::NoFigures => "it has no capacity, as an object store",
        Reason::Other => match error.errno {
            Some(errno) => return io::Error::from_raw_os_error(errno).to_string().into(),
            None => "another error; the log tells which",
        },
    }
    .into()
}
