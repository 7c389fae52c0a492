//! The memory limit of the shipped manifests, as the kernel sets it, or else as it is measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::document::read;
use super::exporter::{BINARY, Exporter};
use super::manifest::{Manifest, text};
use super::resources::Resources;

/// A cgroup of the test's own, removed when dropped; `None` where none can be made.
pub(crate) struct MemoryLimit {
    bytes: u64,
    cgroup: Option<PathBuf>,
}

impl MemoryLimit {
    /// The limit of `manifests/base/daemonset.yaml`.
    pub(crate) fn shipped() -> Self {
        let manifest = Manifest::parse(&read("manifests/base/daemonset.yaml"));
        let limit = text(&manifest.container()["resources"]["limits"]["memory"]);
        let bytes = limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() << 20;
        let cgroup = make_cgroup(bytes);
        if cgroup.is_none() {
            eprintln!("no cgroup can be made here: the program's peak is measured in place of its limit");
        }
        Self { bytes, cgroup }
    }

    /// The program, serving within the limit, with one heap as in the image.
    pub(crate) fn start(&self, args: &[&str]) -> Exporter {
        let mut command = Command::new("bash");
        let join = match &self.cgroup {
            Some(cgroup) => format!("echo $$ >{}/cgroup.procs && ", cgroup.display()),
            None => String::new(),
        };
        command.arg("-c").arg(format!("{join}exec \"$0\" \"$@\"")).arg(BINARY).arg("--listen-host=127.0.0.1");
        Exporter::spawn(command.args(args).env("MALLOC_ARENA_MAX", "1").env("HOME", "/nonexistent"))
    }

    /// Panics if the program needed more. One that did is dead where there is a cgroup.
    pub(crate) fn assert_kept(&self, what: &str, exporter: &Exporter) {
        let Resources { peak, anonymous, .. } = Resources::of(exporter.pid());
        println!("{what}: {peak} KiB at most, {anonymous} KiB anonymous now, limit {} KiB", self.bytes >> 10);
        assert!(self.cgroup.is_some() || peak << 10 <= self.bytes, "{what}: {peak} KiB");
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let Some(cgroup) = &self.cgroup else { return };
        let start = Instant::now();
        // Its processes are still ending.
        while std::fs::remove_dir(cgroup).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A cgroup below this process's own, of version 1 or 2, without swap.
fn make_cgroup(bytes: u64) -> Option<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let memberships = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = memberships.lines().filter_map(|line| {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        (is_memory || controllers.is_empty()).then_some((is_memory, path.trim_start_matches('/')))
    });
    own.into_iter().find_map(|(is_first_version, path)| {
        let mount = if is_first_version { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("disk-usage-exporter-test-{}-{count}", std::process::id());
        let cgroup = Path::new(mount).join(path).join(name);
        std::fs::create_dir(&cgroup).ok()?;
        let (limit, (swap, with_swap)) = if is_first_version {
            ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes))
        } else {
            ("memory.max", ("memory.swap.max", 0))
        };
        let is_limited = std::fs::write(cgroup.join(limit), bytes.to_string()).is_ok();
        // Kernels without swap accounting have no such file.
        let _ = std::fs::write(cgroup.join(swap), with_swap.to_string());
        if !is_limited {
            let _ = std::fs::remove_dir(&cgroup);
        }
        is_limited.then_some(cgroup)
    })
}
