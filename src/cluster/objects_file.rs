//! A file of Kubernetes objects, read again when it changes, on a worker that may block: its file system may hang.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::objects::{ObjectsError, parse_objects};
use crate::host_files;
use crate::input_limits::read_limited;
use crate::runtime::{BlockingWorker, Deadline, Job};
use crate::volume::{Metadata, Selections};

/// How long a collection waits for a changed file: a large one is used from the next collection on.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// How long reading may take before the file counts as one that cannot be read.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// A larger file takes more memory than any node gives to this program: choose its volumes, and its pods by
/// `--field-selector=spec.nodeName=…`.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Device, inode, size and modification time of a file.
type Stamp = (u64, u64, u64, i64, i64);

/// The stamp of a file and the metadata read from it.
type Reading = (Option<Stamp>, Result<Metadata, ObjectsError>);

/// A file of objects, read again when it changes.
pub struct ObjectsFile {
    path: PathBuf,
    selections: Selections,
    worker: BlockingWorker,
    /// The reading that has not ended yet, and when it began.
    reading: Option<(Job<Option<Reading>>, Instant)>,
    /// The stamp at the last reading that succeeded; `None` makes the next collection read the file again.
    stamp: Option<Stamp>,
    pub(super) metadata: Arc<Metadata>,
}

impl ObjectsFile {
    /// Reads the file, the first time in place.
    pub fn open(path: &Path, selections: Selections, worker: &BlockingWorker) -> Result<Self, ObjectsError> {
        let stamp = stamp(path);
        let metadata = Arc::new(read(path, &selections)?);
        let (path, worker) = (path.to_owned(), worker.clone());
        Ok(Self { path, selections, worker, reading: None, stamp, metadata })
    }

    /// Reads what the file says now. If it can no longer be read, what it said last stays: labels must not flap.
    pub(super) fn refresh(&mut self) {
        self.refresh_within(MAX_WAIT, HUNG_AFTER);
    }

    fn refresh_within(&mut self, max_wait: Duration, hung_after: Duration) {
        let (wait, (mut job, since)) = match self.reading.take() {
            Some(reading) => (Duration::ZERO, reading),
            None => (max_wait, (self.start_reading(), Instant::now())),
        };
        let unreadable = |error| Err(ObjectsError::Read(self.path.clone(), error));
        let (stamp, read) = match job.wait(&Deadline::after(wait)) {
            Some(Ok(None)) => return,
            Some(Ok(Some(reading))) => reading,
            Some(Err(panicked)) => (None, unreadable(io::Error::other(panicked))),
            None => {
                let is_hung = wait.is_zero() && since.elapsed() >= hung_after;
                self.reading = Some((job, since));
                if !is_hung {
                    return;
                }
                (None, unreadable(io::Error::other("reading does not end: is its file system there?")))
            }
        };
        // It may be readable later though nothing about the file changes.
        self.stamp = stamp.filter(|_| read.is_ok());
        let had_success = self.metadata.sources.iter().all(|source| source.success);
        match read {
            Ok(metadata) => {
                if !had_success {
                    tracing::info!(event = "objects_file_recovered", path = %self.path.display(), "the objects file can be read again");
                }
                self.metadata = Arc::new(metadata);
            }
            Err(error) if had_success => {
                tracing::error!(event = "objects_file_unreadable", %error, "cannot read the objects file: keeping its last objects");
                let metadata = Arc::make_mut(&mut self.metadata);
                metadata.sources.iter_mut().for_each(|source| source.success = false);
            }
            Err(_) => {}
        }
    }

    fn start_reading(&self) -> Job<Option<Reading>> {
        let (path, selections, before) = (self.path.clone(), self.selections.clone(), self.stamp);
        self.worker.run(move || {
            let stamp = stamp(&path);
            let is_unchanged = stamp.is_some() && stamp == before;
            (!is_unchanged).then(|| (stamp, read(&path, &selections)))
        })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

fn read(path: &Path, selections: &Selections) -> Result<Metadata, ObjectsError> {
    let unreadable = |error| ObjectsError::Read(path.to_owned(), error);
    let file = host_files::open_named(path).map_err(unreadable)?;
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let bytes = read_limited(file, MAX_FILE_BYTES).map_err(unreadable)?;
    Ok(Metadata { oldest: modified.ok(), ..parse_objects(&bytes, path, selections)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_cannot_be_read_until_it_can() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, r#"{"items": []}"#).unwrap();
        let worker = BlockingWorker::start("test").unwrap();
        let selections = Selections::default();
        let mut file = ObjectsFile::open(&path, selections, &worker).unwrap();
        let is_read = |file: &ObjectsFile| file.metadata.sources[0].success;
        let (go_on, gate) = std::sync::mpsc::channel::<()>();
        let mut hanging = worker.run(move || gate.recv());
        let long = Duration::from_mins(1);
        for _ in 0..2 {
            file.refresh_within(Duration::ZERO, long);
            assert!(is_read(&file), "it may be large");
        }
        file.refresh_within(Duration::ZERO, Duration::ZERO);
        assert!(!is_read(&file));
        drop(go_on);
        assert!(hanging.wait(&Deadline::after(long)).is_some());
        assert!(file.reading.take().unwrap().0.wait(&Deadline::after(long)).is_some());
        file.refresh_within(long, long);
        assert!(is_read(&file), "though it has not changed");
        let read = Arc::clone(&file.metadata);
        file.refresh_within(long, long);
        assert!(Arc::ptr_eq(&read, &file.metadata));
    }
}
