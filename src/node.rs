//! The node: which volumes are mounted here, and how full the kernel says they are.

mod fixture;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod host_path;
mod mounts;
mod probe;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use fixture::{Fixture, FixtureError};
pub use mounts::layout::DEFAULT_KUBELET_ROOT;
pub use mounts::matcher::VolumeMatcher;
pub use mounts::mount_table::NoTable;
pub use probe::{KernelProbe, MountRootProof};

use crate::runtime::{BlockingWorker, Deadline};
use crate::snapshot::MountTableStatus;
use crate::volume::{Probe, ProbeResult, VolumeMount};
use host_path::Rootfs;
use mounts::matcher;
use mounts::mount_table::MountTable;
use mounts::name_lookup::ResolvedMounts;
use probe::ProbePool;

/// Looking up names may take this fraction of a scrape's time: most of it is for probing.
const LOOKUP_TIME_DIVISOR: u32 = 4;

/// Where the node is, and which of its mounts are volumes.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Where the node's root file system is mounted.
    pub rootfs: PathBuf,
    /// Instead of the usual mount tables.
    pub mount_table: Option<PathBuf>,
    /// Which mounts are volumes.
    pub matcher: VolumeMatcher,
}

impl NodeSettings {
    /// The kernel, as it measures this node's mounts.
    #[must_use]
    pub fn kernel(&self, proof: MountRootProof) -> KernelProbe {
        KernelProbe::new(Rootfs::new(self.rootfs.clone()), proof)
    }
}

/// A node that can be scanned and probed.
pub struct Node {
    rootfs: Rootfs,
    matcher: VolumeMatcher,
    table: MountTable,
    /// The table of the host's own first process, to tell which mounts did not reach this one's.
    host_table: Option<MountTable>,
    /// Its volumes; `None` where it cannot be read.
    host_mountpoints: Option<Vec<PathBuf>>,
    mounts: ResolvedMounts,
    status: MountTableStatus,
    kubelet_roots: Vec<Vec<u8>>,
    pool: ProbePool,
}

impl Node {
    /// Opens the mount table.
    ///
    /// # Errors
    ///
    /// If none can be read.
    pub fn open(
        settings: NodeSettings,
        probe: Arc<dyn Probe>,
        host_files: &BlockingWorker,
    ) -> Result<Self, NoTable> {
        let rootfs = Rootfs::new(settings.rootfs);
        let table = MountTable::choose(settings.mount_table.as_deref(), &rootfs)?;
        let host_table = (table.is_own() && !rootfs.is_host_root())
            .then(|| MountTable::open(&rootfs.join(Path::new("/proc/1/mountinfo"))).ok())
            .flatten();
        tracing::info!(rootfs = %rootfs.display(), table = %table.path().display(), "watching the mount table");
        Ok(Self {
            mounts: ResolvedMounts::new(rootfs.clone(), host_files.clone()),
            rootfs,
            matcher: settings.matcher,
            table,
            host_table,
            host_mountpoints: None,
            status: MountTableStatus::default(),
            kubelet_roots: Vec::new(),
            pool: ProbePool::new(probe),
        })
    }

    /// The state of the table at the last scan.
    #[must_use]
    pub fn status(&self) -> MountTableStatus {
        self.status.clone()
    }

    /// The kubelet's directories that the table shows, as they are reached here.
    #[must_use]
    pub fn kubelet_directories(&self) -> Vec<PathBuf> {
        let roots = self.kubelet_roots.iter().map(|root| Path::new(OsStr::from_bytes(root)));
        roots.map(|root| self.rootfs.join(root)).collect()
    }

    /// The mounts that are volumes now. A table that cannot be read shows none: an old one proves nothing.
    pub fn scan(&mut self, now: Instant, deadline: &Deadline) -> Vec<Arc<VolumeMount>> {
        let reading = self.table.refresh(now);
        self.apply(reading);
        self.mounts.resolve(&deadline.at_most(now + deadline.remaining() / LOOKUP_TIME_DIVISOR));
        self.refresh_host_table(now);
        self.mounts.mounts()
    }

    /// The mounts that are volumes by a new reading of the table, whether or not the kernel says that it changed.
    pub fn rescan(&mut self, now: Instant) -> Vec<Arc<VolumeMount>> {
        let reading = self.table.read(now).map(Some);
        self.apply(reading);
        self.mounts.mounts()
    }

    /// Probes mounts until the deadline: one result each, in the same order.
    pub fn probe(&mut self, mounts: &[Arc<VolumeMount>], deadline: &Deadline) -> Vec<ProbeResult> {
        self.pool.probe(mounts, deadline)
    }

    /// How long each of these probes took, in the same order; `None` for mounts that were skipped.
    pub fn probe_durations(&mut self) -> Vec<Option<Duration>> {
        self.pool.durations()
    }

    fn apply(&mut self, reading: io::Result<Option<Vec<u8>>>) {
        match reading {
            Ok(None) => return,
            Ok(Some(bytes)) => self.apply_table(&bytes),
            Err(error) => self.mark_unreadable(&error),
        }
        self.count_unpropagated();
    }

    fn apply_table(&mut self, bytes: &[u8]) {
        let found = matcher::read_table(bytes, &self.rootfs, &self.matcher, self.table.is_own());
        self.mounts.replace(found.candidates);
        if self.kubelet_roots != found.kubelet_roots {
            self.kubelet_roots = found.kubelet_roots;
            let roots: Vec<_> =
                self.kubelet_roots.iter().map(|root| root.escape_ascii().to_string()).collect();
            let roots = roots.join(" ");
            tracing::info!(roots, "the kubelet's directories");
        }
        if found.propagation == Some(false) && self.status.propagation != Some(false) {
            tracing::warn!(
                "mounts made on the host from now on will not be seen here: mount the host's directory with \
                 mountPropagation HostToContainer"
            );
        }
        self.status = MountTableStatus {
            readable: true,
            rows: found.rows,
            malformed: found.malformed,
            reads: self.table.reads(),
            propagation: found.propagation,
            unpropagated: None,
        };
    }

    fn mark_unreadable(&mut self, error: &io::Error) {
        if self.status.readable || self.status.reads == 0 {
            let table = self.table.path().as_os_str().as_bytes().escape_ascii().to_string();
            tracing::error!(table, %error, "the mount table cannot be read; no volume is shown until it can");
        }
        self.mounts.clear();
        self.status = MountTableStatus { reads: self.table.reads(), ..MountTableStatus::default() };
    }

    fn refresh_host_table(&mut self, now: Instant) {
        let Some(host_table) = &mut self.host_table else {
            return;
        };
        match host_table.refresh(now) {
            Ok(Some(bytes)) => {
                let host = Rootfs::new(PathBuf::from("/"));
                let found = matcher::read_table(&bytes, &host, &self.matcher, true);
                let mountpoints = found.candidates.into_iter().map(|c| c.mount.mountpoint);
                self.host_mountpoints = Some(mountpoints.collect());
            }
            Ok(None) => return,
            Err(_) => self.host_mountpoints = None,
        }
        self.count_unpropagated();
    }

    fn count_unpropagated(&mut self) {
        self.status.unpropagated = self.host_mountpoints.as_ref().map(|host| {
            let here: HashSet<&PathBuf> = self.mounts.mountpoints().collect();
            host.iter().filter(|path| !here.contains(path)).count()
        });
    }
}
