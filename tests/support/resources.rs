//! What a process holds of the system.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Memory in KiB, threads, descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Pages in memory, the program's own code among them.
    pub(crate) resident: u64,
    /// Of these the heap and the stacks: where a leak shows.
    pub(crate) anonymous: u64,
    /// The most that was resident.
    pub(crate) peak: u64,
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
}

impl Resources {
    /// Reads `/proc/<pid>`. `status` is behind by some pages on kernels since 6.2, `smaps_rollup` counts them.
    pub(crate) fn of(pid: u32) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let kib = |text: &str, name: &str| -> u64 {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
        };
        let count = |directory: &str| fs::read_dir(format!("/proc/{pid}/{directory}")).unwrap().count();
        let pages = read("smaps_rollup");
        Self {
            resident: kib(&pages, "Rss:"),
            anonymous: kib(&pages, "Anonymous:"),
            peak: kib(&read("status"), "VmHWM:"),
            threads: count("task"),
            descriptors: count("fd"),
        }
    }

    /// The same, once threads and descriptors come and go no longer: what was asked last may still be ending.
    pub(crate) fn at_rest(pid: u32) -> Self {
        let mut last = Self::of(pid);
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = Self::of(pid);
            if (now.threads, now.descriptors) == (last.threads, last.descriptors) {
                return now;
            }
            last = now;
        }
    }

    /// Waits until a process holds no more threads and descriptors than these.
    pub(crate) fn wait_until_back(self, pid: u32) -> Self {
        let start = Instant::now();
        loop {
            let now = Self::at_rest(pid);
            if now.threads <= self.threads && now.descriptors <= self.descriptors {
                return now;
            }
            assert!(start.elapsed() < PATIENCE, "it held {self}, and now holds {now}");
        }
    }
}

impl Display for Resources {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { resident, anonymous, peak, threads, descriptors } = self;
        write!(
            f,
            "{resident} KiB resident, {anonymous} KiB anonymous, {peak} KiB at most, {threads} threads, \
             {descriptors} descriptors"
        )
    }
}
