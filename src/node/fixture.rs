//! A recorded node: figures from `statvfs.json` instead of the kernel.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
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
    Error(ErrorName),
    /// It never answers.
    Hang,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ErrorName {
    Enotconn,
    Estale,
    Eio,
    Eacces,
    Enoent,
    Ehostdown,
    Eagain,
}

impl Fixture {
    /// Reads `statvfs.json` of a fixture's directory.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no such file.
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
            Some(Record::Error(name)) => Err(probe_error(name.errno())),
            Some(Record::Hang) => loop {
                std::thread::park();
            },
        }
    }
}

impl ErrorName {
    fn errno(self) -> Errno {
        match self {
            Self::Enotconn => Errno::NOTCONN,
            Self::Estale => Errno::STALE,
            Self::Eio => Errno::IO,
            Self::Eacces => Errno::ACCESS,
            Self::Enoent => Errno::NOENT,
            Self::Ehostdown => Errno::HOSTDOWN,
            Self::Eagain => Errno::AGAIN,
        }
    }
}
