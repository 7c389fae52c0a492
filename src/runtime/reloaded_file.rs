//! A file that is read again when it changes, on a worker that may block: it may be on a file system that hangs.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BlockingWorker, Deadline, Job};

/// How long reading may take before the file counts as one that cannot be read.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// What changes when a file does.
type Stamp = (u64, u64, u64, i64, i64);

type Reading<T> = (Option<Stamp>, T);

/// The file, and how its contents are read.
pub(crate) struct ReloadedFile<T> {
    path: PathBuf,
    read: Arc<dyn Fn(&Path) -> T + Send + Sync>,
    worker: BlockingWorker,
    /// The reading that has not ended yet, and when it began.
    reading: Option<(Job<Option<Reading<T>>>, Instant)>,
    /// What the file was when it was read last; `None` if it is to be read whatever it is.
    stamp: Option<Stamp>,
    hung_after: Duration,
}

/// What came of looking at the file.
pub(crate) enum Reload<T> {
    /// It has not changed, or is still being read.
    Unchanged,
    /// What reading it came to.
    Read(T),
    /// Reading it panicked, or does not end.
    Failed(io::Error),
}

impl<T: Send + 'static> ReloadedFile<T> {
    /// Reads the file in place.
    pub(crate) fn open(
        path: &Path,
        worker: &BlockingWorker,
        read: impl Fn(&Path) -> T + Send + Sync + 'static,
    ) -> (Self, T) {
        let stamp = stamp(path);
        let contents = read(path);
        let (path, worker, read) = (path.to_owned(), worker.clone(), Arc::new(read));
        (Self { path, read, worker, reading: None, stamp, hung_after: HUNG_AFTER }, contents)
    }

    /// Reads the file again if it has changed, and waits for that at most for so long.
    pub(crate) fn refresh(&mut self, max_wait: Duration) -> Reload<T> {
        let (wait, (mut job, since)) = match self.reading.take() {
            Some(reading) => (Duration::ZERO, reading),
            None => (max_wait, (self.start_reading(), Instant::now())),
        };
        match job.wait(&Deadline::after(wait)) {
            // It is what it was; after a hang it is read again next.
            Some(Ok(None)) => Reload::Unchanged,
            Some(Ok(Some((stamp, contents)))) => {
                self.stamp = stamp;
                Reload::Read(contents)
            }
            Some(Err(panicked)) => {
                self.read_again();
                Reload::Failed(io::Error::other(panicked))
            }
            None => {
                let is_hung = wait.is_zero() && since.elapsed() >= self.hung_after;
                self.reading = Some((job, since));
                if !is_hung {
                    return Reload::Unchanged;
                }
                // It must be read again before it counts as readable.
                self.read_again();
                Reload::Failed(io::Error::other("reading does not end: is its file system there?"))
            }
        }
    }

    /// Reads the file next time whether or not it has changed.
    pub(crate) fn read_again(&mut self) {
        self.stamp = None;
    }

    fn start_reading(&self) -> Job<Option<Reading<T>>> {
        let (path, read, before) = (self.path.clone(), Arc::clone(&self.read), self.stamp);
        self.worker.run(move || {
            let stamp = stamp(&path);
            let is_unchanged = stamp.is_some() && stamp == before;
            (!is_unchanged).then(|| (stamp, read(&path)))
        })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_cannot_be_read_until_it_can() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let worker = BlockingWorker::start("test").unwrap();
        let (mut file, _) = ReloadedFile::open(&path, &worker, |path| std::fs::read(path).unwrap());
        let (go_on, gate) = std::sync::mpsc::channel::<()>();
        let mut hanging = worker.run(move || gate.recv());
        let no_wait = Duration::ZERO;
        for _ in 0..2 {
            assert!(matches!(file.refresh(no_wait), Reload::Unchanged), "it may be large");
        }
        file.hung_after = Duration::ZERO;
        assert!(matches!(file.refresh(no_wait), Reload::Failed(_)));
        drop(go_on);
        let long = Duration::from_mins(1);
        assert!(hanging.wait(&Deadline::after(long)).is_some());
        assert!(file.reading.take().unwrap().0.wait(&Deadline::after(long)).is_some());
        assert!(matches!(file.refresh(long), Reload::Read(_)), "though it has not changed");
        assert!(matches!(file.refresh(long), Reload::Unchanged));
    }
}
