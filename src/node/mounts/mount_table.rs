//! Which mount table is read, and when it is read again.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use prometheus_client::metrics::counter::Counter;

use crate::host_files;
use crate::node::host_path::Rootfs;

/// The kernel does not tell when a superblock turns read-only, so a reading is never trusted for longer.
const MAX_AGE: Duration = Duration::from_mins(1);

/// A table, open.
#[derive(Debug)]
pub(crate) struct MountTable {
    pub(crate) path: PathBuf,
    /// One of the kernel's, whose descriptor tells when it changed; `None` for a plain file, which is read on every scrape.
    live: Option<File>,
    read_at: Option<Instant>,
    /// Readings so far.
    pub(crate) reads: Counter,
}

/// No table could be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot read a mount table: {}", .0.iter().map(|(path, cause)| format!("{}: {cause}", path.display())).collect::<Vec<_>>().join("; "))]
pub struct NoTable(Vec<(PathBuf, io::Error)>);

impl MountTable {
    /// Opens the given table, else the first of the usual ones that can be.
    pub(crate) fn choose(given: Option<&Path>, rootfs: &Rootfs) -> Result<Self, NoTable> {
        let usual = || {
            vec![
                rootfs.join(Path::new("/proc/self/mountinfo")),
                rootfs.join(Path::new("/proc/mounts")),
                PathBuf::from("/proc/self/mountinfo"),
            ]
        };
        let candidates = given.map_or_else(usual, |path| vec![path.to_owned()]);
        let mut errors = Vec::new();
        for path in candidates {
            match Self::open(&path) {
                Ok(table) => return Ok(table),
                Err(error) => errors.push((path, error)),
            }
        }
        Err(NoTable(errors))
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = host_files::open_named(path)?;
        let is_live = fstatfs(&file)?.filesystem_type() == PROC_SUPER_MAGIC;
        Ok(Self {
            path: path.to_owned(),
            live: is_live.then_some(file),
            read_at: None,
            reads: Counter::default(),
        })
    }

    /// Whether this is the kernel's, of the mount namespace that this process is in: mount ids can be compared.
    pub(crate) fn is_own(&self) -> bool {
        let is_of = |process: &str| self.path.parent().is_some_and(|parent| parent.ends_with(process));
        let is_own_path = is_of("self") || is_of("thread-self") || self.path.ends_with("proc/mounts");
        is_own_path && self.live.is_some()
    }

    /// The table's bytes, where they may differ from the last reading; `None` where they do not.
    pub(crate) fn refresh(&mut self, now: Instant) -> Option<io::Result<Vec<u8>>> {
        // Poll in any case: polling clears the change flag, and the read below covers those changes.
        let has_changed = self.has_changed();
        let is_fresh = self.read_at.is_some_and(|at| now.duration_since(at) < MAX_AGE);
        (has_changed || !is_fresh).then(|| self.read(now))
    }

    /// Makes the next refresh read it, whether or not it has changed.
    pub(crate) fn expire(&mut self) {
        self.read_at = None;
    }

    fn has_changed(&self) -> bool {
        let Some(file) = &self.live else {
            return true;
        };
        let mut descriptors = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        // Where the kernel does not tell, reading does.
        poll(&mut descriptors, PollTimeout::ZERO) != Ok(0)
    }

    /// The table's bytes, whether or not they differ from the last reading.
    pub(crate) fn read(&mut self, now: Instant) -> io::Result<Vec<u8>> {
        // A reading that fails leaves nothing that could be trusted.
        self.read_at = None;
        let mut bytes = Vec::new();
        match &mut self.live {
            Some(file) => {
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
            }
            None => _ = host_files::open_named(&self.path)?.read_to_end(&mut bytes)?,
        }
        self.reads.inc();
        self.read_at = Some(now);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_kernel_table_is_read_again_after_a_minute_only() {
        let mut table = MountTable::open(Path::new("/proc/self/mountinfo")).unwrap();
        let start = Instant::now();
        let mut read = |seconds| {
            let bytes = table.refresh(start + Duration::from_secs(seconds));
            bytes.is_some_and(|bytes| bytes.is_ok())
        };
        assert!(read(0));
        assert!(!read(0) && !read(59));
        assert!(read(60));
        assert!(!read(119));
        assert_eq!(table.reads.get(), 2);
    }

    #[test]
    fn a_plain_file_is_read_on_every_scrape() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("self");
        std::fs::create_dir(&path).unwrap();
        let path = path.join("mountinfo");
        std::fs::write(&path, "one").unwrap();
        let mut table = MountTable::open(&path).unwrap();
        assert!(!table.is_own(), "a plain file is nobody's own");
        let now = Instant::now();
        assert_eq!(table.refresh(now).unwrap().unwrap(), b"one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(table.refresh(now).unwrap().unwrap(), b"two");
        std::fs::remove_file(&path).unwrap();
        assert!(table.refresh(now).unwrap().is_err());
    }

    #[test]
    fn the_first_table_that_opens_is_taken_and_every_failure_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::new(dir.path().to_owned());
        let usual = MountTable::choose(None, &rootfs).unwrap();
        assert_eq!(usual.path, Path::new("/proc/self/mountinfo"));
        assert!(usual.is_own());
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/mounts"), "").unwrap();
        let below = MountTable::choose(None, &rootfs).unwrap();
        assert_eq!(below.path, dir.path().join("proc/mounts"));
        let error = MountTable::choose(Some(Path::new("/nowhere")), &rootfs).unwrap_err();
        assert!(error.to_string().contains("/nowhere: No such file"), "{error}");
        assert!(MountTable::choose(Some(dir.path()), &rootfs).is_err(), "a directory");
    }
}
