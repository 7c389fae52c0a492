//! The memory limit of the shipped manifests, as the kernel sets it, or else as it is measured.

use std::process::Command;

use super::cgroup::Cgroup;
use super::document::read;
use super::exporter::{BINARY, Exporter};
use super::manifest::{Manifest, text};
use super::resources::Resources;

/// A cgroup; `None` where none can be made.
pub(crate) struct MemoryLimit {
    bytes: u64,
    cgroup: Option<Cgroup>,
}

impl MemoryLimit {
    /// The limit of `manifests/base/daemonset.yaml`.
    pub(crate) fn shipped() -> Self {
        let manifest = Manifest::parse(&read("manifests/base/daemonset.yaml"));
        let limit = text(&manifest.container()["resources"]["limits"]["memory"]);
        let bytes = limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() << 20;
        let cgroup = Cgroup::new("memory", |is_first_version| {
            // Without swap.
            let limits = if is_first_version {
                [("memory.limit_in_bytes", bytes), ("memory.memsw.limit_in_bytes", bytes)]
            } else {
                [("memory.max", bytes), ("memory.swap.max", 0)]
            };
            limits.map(|(file, bytes)| (file, bytes.to_string())).into()
        });
        if cgroup.is_none() {
            eprintln!("no cgroup can be made here: the program's peak is measured in place of its limit");
        }
        Self { bytes, cgroup }
    }

    /// The program, serving within the limit, with one heap as in the image.
    pub(crate) fn start(&self, args: &[&str]) -> Exporter {
        let cgroup = self.cgroup.as_ref();
        let mut command = cgroup.map_or_else(|| Command::new(BINARY), |cgroup| cgroup.command(BINARY));
        command.arg("--listen-host=127.0.0.1").args(args);
        Exporter::spawn(command.env("MALLOC_ARENA_MAX", "1").env("HOME", "/nonexistent"))
    }

    /// Panics if the program needed more. One that did is dead where there is a cgroup.
    pub(crate) fn assert_kept(&self, what: &str, exporter: &Exporter) {
        let Resources { peak, anonymous, .. } = Resources::of(exporter.pid());
        println!("{what}: {peak} KiB at most, {anonymous} KiB anonymous now, limit {} KiB", self.bytes >> 10);
        assert!(self.cgroup.is_some() || peak << 10 <= self.bytes, "{what}: {peak} KiB");
    }
}
