//! The web page, from `templates/page.html`. It is complete without its script, and asks nothing of other servers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;

use askama::Template;
use bytes::Bytes;

use super::notices::notices;
use super::row::{Row, rows, sort_by_percent};
use crate::compression;
use crate::snapshot::{MeasuredVolume, Snapshot, VolumeState};
use crate::units::{Count, FULL, NEARLY_FULL, Percent, Size};
use crate::volume::{Inodes, PodMount, ProbeError, ProbeResult, Reason, VolumeMode};

/// How it looks: `/style.css`.
pub const STYLE: &str = include_str!("style.css");
/// What lets people filter the rows: `/filter.js`.
pub const SCRIPT: &str = include_str!("filter.js");
/// What browsers show beside its title: `/icon.svg`.
pub const ICON: &str = include_str!("icon.svg");

/// Whose volumes the page shows.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The node's name, where it is known.
    pub node: Option<String>,
    /// The recorded node that is shown, if it is not this machine.
    pub fixture: Option<String>,
}

#[derive(Template)]
#[template(path = "page.html", config = "templates/askama.toml")]
struct PageTemplate<'a> {
    node: &'a str,
    fixture: Option<&'a str>,
    /// How many volumes are in each state that needs attention.
    failures: Vec<(usize, &'static str)>,
    notices: Vec<String>,
    rows: Vec<Row<'a>>,
    version: &'static str,
    measured_at: String,
}

impl Page {
    /// The page's HTML.
    pub fn write(&self, snapshot: &Snapshot, gzip: bool) -> Vec<Bytes> {
        let Self { node, fixture } = self;
        let node = if fixture.is_some() { "a recorded node" } else { node.as_deref().unwrap_or("this node") };
        let mut rows = rows(snapshot);
        sort_by_percent(&mut rows, |row| Some(row.fullness()?.0));
        let failures = [
            (snapshot.count(VolumeState::Hung), "hung"),
            (snapshot.count(VolumeState::Failed), "failed"),
            (snapshot.count(VolumeState::Skipped), "not asked in time"),
        ];
        let page = PageTemplate {
            node,
            fixture: fixture.as_deref(),
            failures: failures.into_iter().filter(|(count, _)| *count > 0).collect(),
            notices: notices(snapshot),
            rows,
            version: env!("CARGO_PKG_VERSION"),
            measured_at: format!("{:.0}", jiff::Timestamp::now()),
        };
        compression::encode(gzip, |out| page.write_into(out))
    }
}

/// What the template prints of a row besides its fields.
impl<'a> Row<'a> {
    /// How full the file system is by the scarcer of bytes and inodes: the percentage, and the inodes if it is of them.
    fn fullness(&self) -> Option<(f64, Option<Inodes>)> {
        let bytes = self.percent_used().map(|percent| (percent, None));
        let inodes = self.inodes_percent_used().map(|percent| (percent, self.inodes()));
        let known = [bytes, inodes].into_iter().flatten();
        known.reduce(|bytes, inodes| if inodes.0 > bytes.0 { inodes } else { bytes })
    }

    /// For the style: how bad it is.
    fn class(&self) -> &'static str {
        match self.fullness() {
            _ if self.is_unknown() => "failed",
            Some((FULL.., _)) => "full",
            Some((NEARLY_FULL.., _)) => "nearly",
            _ => "well",
        }
    }

    /// A percentage, or why there is none.
    fn level(&self) -> Cow<'static, str> {
        match (self.fullness(), self.volume.map(MeasuredVolume::state)) {
            (Some((percent, _)), _) => return Percent(percent).to_string().into(),
            _ if self.measurement.is_some() => "size only",
            (None, None) => "no figures",
            (None, Some(VolumeState::Measured)) => "measured",
            (None, Some(VolumeState::Failed)) => "failed",
            (None, Some(VolumeState::Hung)) => "hung",
            (None, Some(VolumeState::Skipped)) => "not asked",
            (None, Some(VolumeState::Unsupported)) => "no capacity",
        }
        .into()
    }

    fn is_read_only(&self) -> bool {
        self.volume.and_then(MeasuredVolume::read_only) == Some(true)
    }

    /// Of pods in the claim's namespace the name is enough.
    fn pod_name(&self, (namespace, name): &(&'a str, &'a str)) -> Cow<'a, str> {
        let is_of_claim = self.claim.is_some_and(|claim| claim.namespace == *namespace);
        if is_of_claim { (*name).into() } else { format!("{namespace}/{name}").into() }
    }

    /// What failed and why, each reason once.
    fn failures(&self) -> Vec<String> {
        let Some(measured) = self.volume.filter(|_| !self.is_unsupported()) else { return Vec::new() };
        let failure = |error: ProbeError| {
            let has_reason = |result: ProbeResult| result.is_err_and(|other| other.reason == error.reason);
            let failed = measured.mounts().filter(|(_, result)| has_reason(*result)).count();
            let (words, all) = (error_in_words(&error), measured.volume.mounts.len());
            if all == 1 { words.into() } else { format!("{failed} of {}: {words}", Count(all, "mount")) }
        };
        measured.errors().into_iter().map(failure).collect()
    }

    /// Class and figure of each cell.
    fn figures(&self) -> [(&'static str, Option<Size>); 3] {
        let usage = self.usage();
        [
            ("used", usage.and_then(|usage| usage.used).map(Size)),
            ("available", usage.and_then(|usage| usage.available).map(Size)),
            ("size", self.size().map(Size)),
        ]
    }
}

fn fstypes(measured: &MeasuredVolume) -> String {
    let fstype = |of: &PodMount| match of.mount.mode {
        VolumeMode::Filesystem => of.mount.fstype.to_string_lossy().into_owned(),
        VolumeMode::Block => "block device".into(),
    };
    let fstypes: BTreeSet<String> = measured.volume.mounts.iter().map(fstype).collect();
    Vec::from_iter(fstypes).join(", ")
}

/// The kind of its storage.
fn kind(measured: &MeasuredVolume) -> &str {
    let plugin = || measured.volume.mounts[0].mount.plugin.as_str();
    measured.volume.source().map_or_else(plugin, |(kind, _)| kind)
}

/// Why a mount has no figures.
fn error_in_words(error: &ProbeError) -> Cow<'static, str> {
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

#[cfg(test)]
mod tests;
