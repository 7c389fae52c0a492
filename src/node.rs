//! The node's side: which volumes are mounted here, and how full the kernel says they are.

mod block;
mod discovery;
mod fixture;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod layout;
mod mount_table;
mod mountinfo;
mod paths;
mod probe;
mod proof;
mod statvfs;
mod vol_data;
mod volumes;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use discovery::Recognition;
pub use fixture::{Fixture, FixtureError};
pub use mount_table::NoTable;
pub use probe::Interrupt;
pub use statvfs::{Kernel, Measure, Target};

use crate::snapshot::MountTableStatus;
use crate::volume::{self, ProbeResult, VolumeMount};
use mount_table::MountTable;
use paths::Rootfs;
use probe::Prober;
use volumes::Volumes;

/// Of the time until a scrape's deadline, the part that looking for what the table does not tell may take.
const LOOKING_SHARE: u32 = 4;

/// A node cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No mount table.
    #[error(transparent)]
    Table(#[from] NoTable),
    /// No thread.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Where the node is, and what on it is a volume.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the node's root file system is mounted.
    pub rootfs: PathBuf,
    /// Instead of the usual mount tables.
    pub mount_table: Option<PathBuf>,
    /// Which mounts are volumes.
    pub recognition: Recognition,
}

impl Settings {
    /// The kernel, as it measures this node.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        let rootfs = Rootfs::new(self.rootfs.clone());
        Kernel { sysfs: block::sysfs(&rootfs) }
    }
}

/// A node that can be scanned and measured.
pub struct Node {
    rootfs: Rootfs,
    recognition: Recognition,
    table: MountTable,
    /// The table of the host's own first process, to tell which mounts did not reach this one's.
    host_table: Option<MountTable>,
    /// Its volumes; `None` where it cannot be read.
    host_mountpoints: Option<Vec<PathBuf>>,
    volumes: Volumes,
    status: MountTableStatus,
    kubelet_roots: Vec<Vec<u8>>,
    prober: Prober,
    /// The mounts that the prober watches.
    watched: Vec<Arc<VolumeMount>>,
}

impl Node {
    /// Opens the mount table.
    ///
    /// # Errors
    ///
    /// If none can be read.
    pub fn open(settings: Settings, measure: Arc<dyn Measure>) -> Result<Self, OpenError> {
        let rootfs = Rootfs::new(settings.rootfs);
        let table = MountTable::choose(settings.mount_table.as_deref(), &rootfs)?;
        let host_table = (table.is_own() && !rootfs.is_host_root())
            .then(|| MountTable::open(&rootfs.join(Path::new("/proc/1/mountinfo"))).ok())
            .flatten();
        let volumes = Volumes::new(rootfs.clone())?;
        tracing::info!(rootfs = %rootfs.display(), table = %table.path().display(), "watching the mount table");
        Ok(Self {
            rootfs,
            recognition: settings.recognition,
            table,
            host_table,
            host_mountpoints: None,
            volumes,
            status: MountTableStatus::default(),
            kubelet_roots: Vec::new(),
            prober: Prober::new(measure),
            watched: Vec::new(),
        })
    }

    /// What is known of the table since the last scan.
    #[must_use]
    pub fn status(&self) -> MountTableStatus {
        self.status.clone()
    }

    /// The kubelet's directories that the table shows, as they are reached here.
    #[must_use]
    pub fn kubelet_directories(&self) -> Vec<PathBuf> {
        let found = self.kubelet_roots.iter().map(|root| Path::new(OsStr::from_bytes(root)));
        found.map(|root| self.rootfs.join(root)).collect()
    }

    /// The mounts that are volumes now. A table that cannot be read shows none: what it said before is no knowledge.
    /// What the table does not tell of them is looked for until the deadline, but most of the time is for measuring.
    pub fn scan(&mut self, now: Instant, deadline: Instant) -> Vec<Arc<VolumeMount>> {
        let reading = self.table.refresh(now);
        self.apply(reading);
        self.volumes.look(deadline.saturating_duration_since(now) / LOOKING_SHARE);
        self.refresh_host_table(now);
        self.volumes.mounts()
    }

    /// Measures mounts until the deadline: one answer each, in the same order.
    pub fn measure(&mut self, mounts: &[Arc<VolumeMount>], deadline: Instant) -> Vec<ProbeResult> {
        if !volume::are_same(&self.watched, mounts) {
            self.prober.watch(mounts.iter().map(|mount| self.target(mount)).collect());
            self.watched = mounts.to_vec();
        }
        self.prober.measure(deadline)
    }

    fn target(&self, mount: &VolumeMount) -> Target {
        Target {
            path: self.rootfs.join(&mount.mountpoint),
            mountpoint: mount.mountpoint.clone(),
            device: mount.device.clone(),
            id: mount.id,
            own_table: self.table.is_own(),
            mode: mount.mode,
        }
    }

    /// What ends measuring before its deadline, for good.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.prober.interrupt()
    }

    /// Whether the table changed since the last scan: what was measured meanwhile may be of something else. Mounts are
    /// told by the next scan.
    pub fn has_changed(&mut self, now: Instant) -> bool {
        let reading = self.table.refresh_if_told(now);
        self.apply(reading)
    }

    /// The mounts that are there by the last reading of the table.
    #[must_use]
    pub fn mounted(&self) -> Vec<Arc<VolumeMount>> {
        self.volumes.mounts()
    }

    /// Whether there was anything new in a reading.
    fn apply(&mut self, reading: io::Result<Option<Vec<u8>>>) -> bool {
        match reading {
            Ok(None) => return false,
            Ok(Some(bytes)) => self.take(&bytes),
            Err(error) => self.lose(&error),
        }
        self.count_unpropagated();
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        let found = discovery::discover(bytes, &self.rootfs, &self.recognition, self.table.is_own());
        self.volumes.replace(found.candidates);
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

    fn lose(&mut self, error: &io::Error) {
        if self.status.readable || self.status.reads == 0 {
            let table = self.table.path().as_os_str().as_bytes().escape_ascii().to_string();
            tracing::error!(table, %error, "the mount table cannot be read; no volume is shown until it can");
        }
        self.volumes.clear();
        self.status = MountTableStatus { reads: self.table.reads(), ..MountTableStatus::default() };
    }

    fn refresh_host_table(&mut self, now: Instant) {
        let Some(host_table) = &mut self.host_table else {
            return;
        };
        match host_table.refresh(now) {
            Ok(Some(bytes)) => {
                let host = Rootfs::new(PathBuf::from("/"));
                let found = discovery::discover(&bytes, &host, &self.recognition, true);
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
            let here: HashSet<&PathBuf> = self.volumes.mountpoints().collect();
            host.iter().filter(|path| !here.contains(path)).count()
        });
    }
}
