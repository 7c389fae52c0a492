//! What the system says of this process.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use procfs::FromRead;
use procfs::process::{LimitValue, Limits, Stat};

use crate::snapshot::ProcessStatus;

/// More than the line of `/proc/self/stat` can have.
const MOST_STAT_BYTES: usize = 4096;

/// This process, looked at again and again.
#[derive(Debug, Default)]
pub struct Myself {
    /// What does not change; `None` until it was asked for.
    fixed: Option<Fixed>,
}

#[derive(Debug)]
struct Fixed {
    /// `/proc/self/stat`: open, it tells what is true at each reading.
    stat: Option<File>,
    max_fds: Option<u64>,
    boot_time: Option<u64>,
}

impl Fixed {
    fn look() -> Self {
        let limits = Limits::from_file("/proc/self/limits").ok();
        Self {
            stat: File::open("/proc/self/stat").ok(),
            max_fds: limits.and_then(|limits| match limits.max_open_files.soft_limit {
                LimitValue::Value(value) => Some(value),
                LimitValue::Unlimited => None,
            }),
            boot_time: procfs::boot_time_secs().ok(),
        }
    }
}

impl Myself {
    /// What is true now; what cannot be read is absent.
    pub fn status(&mut self) -> ProcessStatus {
        // What could not be opened for want of descriptors may be next time.
        let fixed = self.fixed.take().filter(|fixed| fixed.stat.is_some()).unwrap_or_else(Fixed::look);
        let Fixed { stat, max_fds, boot_time } = self.fixed.insert(fixed);
        let stat = stat.as_ref().and_then(|file| read_stat(file).ok());
        let stat = stat.as_ref();
        let ticks = procfs::ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let start_time = |stat: &Stat| Some((*boot_time)? as f64 + seconds(stat.starttime, ticks));
        ProcessStatus {
            cpu_seconds: stat.map(|stat| seconds(stat.utime + stat.stime, ticks)),
            open_fds: open_fds(Path::new("/proc/self/fd")).ok(),
            max_fds: *max_fds,
            virtual_bytes: stat.map(|stat| stat.vsize),
            resident_bytes: stat.map(|stat| stat.rss * procfs::page_size()),
            threads: stat.and_then(|stat| stat.num_threads.try_into().ok()),
            start_time: stat.and_then(start_time),
        }
    }
}

fn read_stat(file: &File) -> procfs::ProcResult<Stat> {
    let mut line = [0; MOST_STAT_BYTES];
    let length = file.read_at(&mut line, 0)?;
    Stat::from_read(&line[..length])
}

/// Since Linux 6.2 the directory's size tells; before, its entries, one of which is that of the reading itself.
fn open_fds(directory: &Path) -> io::Result<u64> {
    match std::fs::metadata(directory)?.size() {
        0 => Ok((std::fs::read_dir(directory)?.count() as u64).saturating_sub(1)),
        size => Ok(size),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric's value is a double")]
fn seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_known_of_this_process() {
        let mut myself = Myself::default();
        let ProcessStatus {
            cpu_seconds,
            open_fds,
            max_fds,
            virtual_bytes,
            resident_bytes,
            threads,
            start_time,
        } = myself.status();
        assert!(cpu_seconds.is_some());
        let open_fds = open_fds.unwrap();
        assert!(open_fds >= 3 && max_fds.is_none_or(|max| max >= open_fds));
        assert!(virtual_bytes.unwrap() > resident_bytes.unwrap());
        assert!(resident_bytes.unwrap() > 100_000 && threads.unwrap() >= 1);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - start_time.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }

    #[test]
    fn what_changes_is_read_anew() {
        let mut myself = Myself::default();
        let before = myself.status();
        let start = std::time::Instant::now();
        while myself.status().cpu_seconds == before.cpu_seconds {
            assert!(start.elapsed().as_secs() < 60, "this loop takes CPU time");
        }
    }

    #[test]
    fn descriptors_are_counted_where_the_directory_does_not_tell() {
        let start = std::time::Instant::now();
        // Other tests open files meanwhile.
        while open_fds(Path::new("/proc/self/fdinfo")).unwrap()
            != open_fds(Path::new("/proc/self/fd")).unwrap()
        {
            assert!(start.elapsed().as_secs() < 60, "one entry a descriptor, and no size");
        }
        assert_eq!(std::fs::metadata("/proc/self/fdinfo").unwrap().size(), 0);
    }
}
