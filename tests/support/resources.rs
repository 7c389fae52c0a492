//! What a process holds of the system.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::time::Duration;

use super::{PATIENCE, ask_until};

/// Memory in KiB, threads, descriptors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    /// Pages in memory, the program's own code among them.
    pub(crate) resident: u64,
    /// Of these the heap and the stacks: where a leak shows.
    pub(crate) anonymous: u64,
    /// The most that was resident.
    pub(crate) peak: u64,
    threads: usize,
    descriptors: usize,
}

impl Resources {
    /// Reads `/proc/<pid>`. `status` is behind by some pages on kernels since 6.2, `smaps_rollup` counts them.
    pub(crate) fn of(pid: u32) -> Self {
        let kib = |file: &str, name: &str| -> u64 {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let line = line.unwrap_or_else(|| panic!("{text}"));
            line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
        };
        let count = |directory: &str| fs::read_dir(format!("/proc/{pid}/{directory}")).unwrap().count();
        Self {
            resident: kib("smaps_rollup", "Rss:"),
            anonymous: kib("smaps_rollup", "Anonymous:"),
            peak: kib("status", "VmHWM:"),
            threads: count("task"),
            descriptors: count("fd"),
        }
    }

    /// The same, once threads and descriptors no longer come and go: the last request may still be ending.
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
        let is_back = |now: &Self| now.threads <= self.threads && now.descriptors <= self.descriptors;
        ask_until(PATIENCE, &format!("the process held {self}"), || Self::at_rest(pid), is_back)
    }
}

impl Display for Resources {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} (memory in KiB)")
    }
}
