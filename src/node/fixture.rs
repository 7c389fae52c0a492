//! A recorded node: figures from `statvfs.json` instead of the kernel.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfs, StatVfsMountFlags};
use rustix::io::Errno;
use serde::Deserialize;

use super::probe::{probe_error, usage};
use crate::volume::{Measurement, Probe, ProbeResult, Reason, VolumeMount};

/// The figures of every mount of a recorded node, by mountpoint.
#[derive(Debug)]
pub struct Fixture {
    records: HashMap<PathBuf, Record>,
}

/// `statvfs.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// It is not what it should be.
    #[error("{0}: {1}")]
    Parse(PathBuf, #[source] serde_json::Error),
}

/// What the kernel answered for one mount.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record {
    Statvfs(Statvfs),
    BlockBytes(u64),
    Error(ErrorName),
    /// It never answers.
    Hang,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statvfs {
    frsize: u64,
    blocks: u64,
    bfree: u64,
    bavail: u64,
    files: u64,
    ffree: u64,
    #[serde(default)]
    read_only: bool,
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
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => return Err(FixtureError::Read(path, error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(records) => Ok(Self { records }),
            Err(error) => Err(FixtureError::Parse(path, error)),
        }
    }
}

impl Probe for Fixture {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        // A mountpoint that is no UTF-8 is named in the file as it would be shown.
        let name = mount.mountpoint.to_string_lossy().into_owned();
        match self.records.get(Path::new(&name)) {
            None => Err(Reason::NotMounted.into()),
            Some(Record::Statvfs(figures)) => usage(&figures.as_kernel()).map(Measurement::Filesystem),
            Some(Record::BlockBytes(size)) => Ok(Measurement::Block { size: (*size).into() }),
            Some(Record::Error(name)) => Err(probe_error(name.errno())),
            Some(Record::Hang) => loop {
                std::thread::park();
            },
        }
    }
}

impl Statvfs {
    fn as_kernel(self) -> StatVfs {
        let Self { frsize, blocks, bfree, bavail, files, ffree, read_only } = self;
        StatVfs {
            f_bsize: frsize,
            f_frsize: frsize,
            f_blocks: blocks,
            f_bfree: bfree,
            f_bavail: bavail,
            f_files: files,
            f_ffree: ffree,
            f_favail: ffree,
            f_fsid: 0,
            f_flag: if read_only { StatVfsMountFlags::RDONLY } else { StatVfsMountFlags::empty() },
            f_namemax: 255,
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
