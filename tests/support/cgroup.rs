//! A cgroup of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Removed when dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// One below this process's own, of version 1 or 2, with limits by that version (version 1: `true`); `None` where none
    /// can be made. The first limit has to be there.
    pub(crate) fn new(
        controller: &str,
        limits: impl Fn(bool) -> Vec<(&'static str, String)>,
    ) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let memberships = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = memberships.lines().filter_map(|line| {
            let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
            let is_first_version = controllers.split(',').any(|name| name == controller);
            (is_first_version || controllers.is_empty())
                .then_some((is_first_version, path.trim_start_matches('/')))
        });
        own.into_iter().find_map(|(is_first_version, path)| {
            let mount = Path::new("/sys/fs/cgroup").join(if is_first_version { controller } else { "" });
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("disk-usage-exporter-test-{}-{count}", std::process::id());
            let cgroup = mount.join(path).join(name);
            std::fs::create_dir(&cgroup).ok()?;
            let set = |(file, value)| std::fs::write(cgroup.join(file), value);
            // Some kernels lack some files.
            let results: Vec<_> = limits(is_first_version).into_iter().map(set).collect();
            let cgroup = Self(cgroup);
            results[0].is_ok().then_some(cgroup)
        })
    }

    /// A program that enters it before it does anything; its arguments are to be added.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("bash");
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        command.arg("-c").arg(script).arg(program);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = Instant::now();
        // Its processes are still ending.
        while std::fs::remove_dir(&self.0).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
