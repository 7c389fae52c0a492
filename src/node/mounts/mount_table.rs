//! Which mount table is read, and when it is read again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
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

/// A line has one path of at most 4,095 bytes (`PATH_MAX`) for the mountpoint, four times as long where every byte is escaped.
/// The directory that is mounted has no such limit: whoever may move it can make its path megabytes long.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Of all lines; 100,000 mounts, the kernel's own limit, with lines as they usually are.
const MAX_TABLE_BYTES: usize = 16 << 20;

/// What is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A table, open.
#[derive(Debug)]
pub(crate) struct MountTable {
    pub(crate) path: PathBuf,
    /// One of the kernel's, whose descriptor tells when it changed; `None` for a plain file, which is read on every scrape.
    /// It is read by another descriptor: the kernel keeps a buffer of the longest line until that is closed, and counts it
    /// as this program's memory.
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

    /// The table's lines, where they may differ from the last reading; `None` where they do not.
    pub(crate) fn refresh(&mut self, now: Instant) -> Option<io::Result<TableLines>> {
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

    /// The table's lines, whether or not they differ from the last reading.
    pub(crate) fn read(&mut self, now: Instant) -> io::Result<TableLines> {
        // A reading that fails leaves nothing that could be trusted.
        self.read_at = None;
        let lines = TableLines::read(host_files::open_named(&self.path)?)?;
        self.reads.inc();
        self.read_at = Some(now);
        Ok(lines)
    }
}

/// The lines of a table that are not too long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TableLines {
    pub(crate) bytes: Vec<u8>,
    /// Lines that are left out.
    pub(crate) dropped: usize,
}

impl TableLines {
    /// Reads a table of any size in limited memory. Where all lines are too many, the longest are dropped.
    pub(crate) fn read(table: impl Read) -> io::Result<Self> {
        Self::read_limited(table, MAX_TABLE_BYTES)
    }

    fn read_limited(table: impl Read, max_bytes: usize) -> io::Result<Self> {
        let mut table = BufReader::with_capacity(CHUNK_BYTES, table);
        let mut lines = Self::default();
        let mut max_line = MAX_LINE_BYTES;
        let (mut line_start, mut is_too_long) = (0, false);
        loop {
            let chunk = match table.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return Ok(lines);
            }
            let length = chunk.len();
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                if !is_too_long && lines.bytes.len() - line_start + part.len() > max_line {
                    is_too_long = true;
                    lines.bytes.truncate(line_start);
                    lines.dropped += 1;
                }
                if !is_too_long {
                    lines.bytes.extend_from_slice(part);
                }
                if part.ends_with(b"\n") {
                    is_too_long = false;
                    while lines.bytes.len() > max_bytes {
                        max_line /= 2;
                        lines.drop_longer_than(max_line);
                    }
                    line_start = lines.bytes.len();
                }
            }
            table.consume(length);
        }
    }

    fn drop_longer_than(&mut self, max_line: usize) {
        let mut kept = Vec::with_capacity(self.bytes.len());
        for line in self.bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.len() <= max_line {
                kept.extend_from_slice(line);
            } else {
                self.dropped += 1;
            }
        }
        self.bytes = kept;
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
        assert_eq!(table.refresh(now).unwrap().unwrap().bytes, b"one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(table.refresh(now).unwrap().unwrap().bytes, b"two");
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

    #[test]
    fn a_line_of_any_length_costs_itself_only() {
        let longest = [&vec![b'x'; MAX_LINE_BYTES - 1][..], b"\n"].concat();
        for length in [MAX_LINE_BYTES, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 40 << 20] {
            let before = b"first\n".chain(&longest[..]);
            let long = io::repeat(b' ').take(length as u64);
            let lines = TableLines::read(before.chain(long).chain(&b"\nlast"[..])).unwrap();
            assert_eq!(lines.bytes, [&b"first\n"[..], &longest, b"last"].concat(), "{length}");
            assert_eq!(lines.dropped, 1, "{length}");
            assert!(lines.bytes.capacity() < 4 * MAX_LINE_BYTES, "{length}");
        }
        let cut = TableLines::read(b"first\n".chain(io::repeat(0).take(1 << 20))).unwrap();
        assert_eq!((&cut.bytes[..], cut.dropped), (&b"first\n"[..], 1));
        assert_eq!(TableLines::read(&b""[..]).unwrap(), TableLines::default());
    }

    #[test]
    fn of_too_many_lines_the_longest_are_dropped() {
        let long = [&[b'x'; 4000][..], b"\n"].concat();
        let mut table = Vec::new();
        for number in 0..100 {
            table.extend_from_slice(format!("short {number}\n").as_bytes());
            table.extend_from_slice(&long);
        }
        let all = TableLines::read_limited(&table[..], table.len()).unwrap();
        assert_eq!((all.bytes.len(), all.dropped), (table.len(), 0));
        let lines = TableLines::read_limited(&table[..], 100_000).unwrap();
        let short = table.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(b"short"));
        assert_eq!((lines.bytes, lines.dropped), (short.collect::<Vec<_>>().concat(), 100));
        let none = TableLines::read_limited(&table[..], 5).unwrap();
        assert_eq!((none.bytes.len(), none.dropped), (0, 200));
    }

    // The kernel has no memory for a line of megabytes, or a signal comes.
    #[test]
    fn a_table_that_fails_midway_is_none() {
        struct Failing(Vec<i32>);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.pop() {
                    None => Ok(0),
                    Some(0) => b"line\n".as_slice().read(buffer),
                    Some(error) => Err(io::Error::from_raw_os_error(error)),
                }
            }
        }
        use nix::errno::Errno;
        let error = TableLines::read(Failing(vec![0, Errno::ENOMEM as i32, 0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let lines = TableLines::read(Failing(vec![0, Errno::EINTR as i32, 0])).unwrap();
        assert_eq!(lines.bytes, b"line\nline\n");
    }
}
