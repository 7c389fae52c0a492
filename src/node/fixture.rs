//! A recorded node: figures from `statvfs.json` instead of the kernel.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::Deserialize;

use super::probe::{Statvfs, probe_error};
use crate::volume::{Measurement, Probe, ProbeResult, Reason, VolumeMount};

/// The figures of every mount of a recorded node, by mountpoint.
#[derive(Debug)]
pub struct Fixture(HashMap<String, Record>);

/// This `statvfs.json` cannot be read, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub struct FixtureError(PathBuf, #[source] io::Error);

/// What the kernel answered for one mount.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record {
    Statvfs(Statvfs),
    BlockBytes(u64),
    Error(#[serde(with = "ErrorName")] Errno),
    /// It never answers.
    Hang,
}

/// The error numbers that a fixture may name.
#[expect(clippy::upper_case_acronyms, reason = "as errno(3) names them")]
#[derive(Deserialize)]
#[serde(remote = "Errno")]
enum ErrorName {
    ENOTCONN,
    ESTALE,
    EIO,
    EACCES,
    ENOENT,
    EHOSTDOWN,
    EAGAIN,
}

impl Fixture {
    /// Reads `statvfs.json` of a fixture's directory.
    pub fn load(directory: &Path) -> Result<Self, FixtureError> {
        let path = directory.join("statvfs.json");
        let bytes = std::fs::read(&path);
        let records = bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        records.map(Self).map_err(|error| FixtureError(path, error))
    }
}

impl Probe for Fixture {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        // A mountpoint that is no UTF-8 is named in the file as it would be shown.
        match self.0.get(&*mount.mountpoint.to_string_lossy()) {
            None => Err(Reason::NotMounted.into()),
            Some(Record::Statvfs(figures)) => figures.measurement(),
            Some(Record::BlockBytes(size)) => Ok(Measurement::Block { size: (*size).into() }),
            Some(Record::Error(errno)) => Err(probe_error(*errno)),
            Some(Record::Hang) => loop {
                std::thread::park();
            },
        }
    }
}
