//! The node: which volumes are mounted here, and how full the kernel says they are.

mod fixture;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod host_path;
mod mounts;
mod probe;

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use fixture::{Fixture, FixtureError};
pub use mounts::VolumeMatcher;
pub use mounts::layout::DEFAULT_KUBELET_ROOT;
pub use mounts::mount_table::NoTable;
pub use probe::{KernelProbe, MountRootProof, TimedResult};

use prometheus_client::registry::Registry;
use regex::bytes::Regex;

use crate::runtime::{BlockingWorker, Deadline};
use crate::snapshot::MountTableStatus;
use crate::volume::{Probe, VolumeMount};
use host_path::Rootfs;
use mounts::kubelet_roots::{KubeletRoots, SearchedTable};
use mounts::mount_table::{MountTable, TableLines};
use mounts::name_lookup::ResolvedMounts;
use mounts::{TableReading, read_table, take_flags_of_host};
use probe::ProbePool;

/// Looking up names may take this fraction of a scrape's time: most of it is for probing.
const LOOKUP_TIME_DIVISOR: u32 = 4;

/// They have at least this time, if the scrape had four times as much, however long reading the mount table took.
const MIN_LOOKUP_TIME: Duration = Duration::from_millis(20);

/// Where a node is read, and which of its mounts are volumes.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Where its root file system is mounted.
    pub rootfs: PathBuf,
    /// The mount table; one of the usual where it is not given.
    pub mount_table: Option<PathBuf>,
    /// Which mountpoints are volumes.
    pub matcher: VolumeMatcher,
    /// Of what was recorded of a node, nothing is checked by the files of this one.
    pub is_recorded: bool,
}

/// A node that can be scanned and probed.
pub struct Node {
    rootfs: Rootfs,
    volume_regex: Option<Regex>,
    kubelet_roots: KubeletRoots,
    table: MountTable,
    /// The table of the host's own first process, to tell which mounts did not reach this one's, and what was done to others
    /// since they did.
    host_table: Option<MountTable>,
    /// Its volumes; `None` where it cannot be read.
    host_mounts: Option<Vec<VolumeMount>>,
    mounts: ResolvedMounts,
    status: MountTableStatus,
    /// Those in the log.
    logged_roots: Vec<Vec<u8>>,
    pool: ProbePool,
}

impl Node {
    /// Opens the node's mount table.
    pub fn open(
        settings: NodeSettings,
        probe: Arc<dyn Probe>,
        host_files: &BlockingWorker,
    ) -> Result<Self, NoTable> {
        let NodeSettings { rootfs, mount_table, matcher, is_recorded } = settings;
        let VolumeMatcher { kubelet_root, volume_regex } = matcher;
        let checks = (!is_recorded).then(|| host_files.clone());
        let kubelet_roots = KubeletRoots::new(kubelet_root, rootfs.clone(), checks);
        let rootfs = Rootfs::new(rootfs);
        let table = MountTable::choose(mount_table.as_deref(), &rootfs)?;
        // A service of the host may have a mount namespace too.
        let host_table =
            table.is_own().then(|| MountTable::open(&rootfs.join(Path::new("/proc/1/mountinfo"))));
        tracing::info!(
            event = "mount_table_watched",
            rootfs = %rootfs.path.display(), table = %table.path.display(), "watching the mount table"
        );
        Ok(Self {
            mounts: ResolvedMounts::new(rootfs.clone(), host_files.clone()),
            rootfs,
            volume_regex,
            kubelet_roots,
            table,
            host_table: host_table.and_then(Result::ok),
            host_mounts: None,
            status: MountTableStatus::default(),
            logged_roots: Vec::new(),
            pool: ProbePool::new(probe),
        })
    }

    /// Registers the metrics of the mount table.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register(
            "disk_usage_exporter_mount_table_reads",
            "Readings of the mount table; an unchanged one is not read again for a minute",
            self.table.reads.clone(),
        );
    }

    /// The state of the table at the last scan.
    pub fn status(&self) -> MountTableStatus {
        MountTableStatus {
            refused_kubelet_roots: self.kubelet_roots.refused(),
            is_kubelet_root_missing: self.kubelet_roots.is_missing,
            ..self.status.clone()
        }
    }

    /// The mounts that are volumes now. A table that cannot be read shows none: an old one proves nothing.
    pub fn scan(&mut self, now: Instant, deadline: &Deadline) -> Vec<Arc<VolumeMount>> {
        let lookup_time = deadline.remaining() / LOOKUP_TIME_DIVISOR;
        let lookups =
            || deadline.at(now + lookup_time).at_least(Instant::now() + lookup_time.min(MIN_LOOKUP_TIME));
        if self.refresh_host_table(now, lookups) {
            self.table.expire();
        }
        if let Some(reading) = self.table.refresh(now) {
            self.apply(reading, &lookups());
        }
        self.mounts.resolve(&lookups());
        self.mounts.mounts()
    }

    /// The mounts that are volumes by a new reading of the table, whether or not the kernel says that it changed.
    pub fn rescan(&mut self, now: Instant) -> Vec<Arc<VolumeMount>> {
        let reading = self.table.read(now);
        self.apply(reading, &Deadline::after(Duration::ZERO));
        self.mounts.mounts()
    }

    /// Probes mounts until the deadline: one result each, in the same order.
    pub fn probe(&mut self, mounts: &[Arc<VolumeMount>], deadline: &Deadline) -> Vec<TimedResult> {
        self.pool.probe(mounts, deadline)
    }

    fn apply(&mut self, reading: io::Result<TableLines>, deadline: &Deadline) {
        match reading {
            Ok(lines) => self.apply_table(&lines, deadline),
            Err(error) => {
                if self.status.readable || self.table.reads.get() == 0 {
                    let table = self.table.path.as_os_str().as_bytes().escape_ascii().to_string();
                    tracing::error!(
                        event = "mount_table_unreadable", table, %error,
                        "cannot read the mount table: no volumes are exposed until it can be read"
                    );
                }
                self.mounts.replace(Vec::new());
                self.status = MountTableStatus::default();
            }
        }
        self.count_unpropagated();
    }

    fn apply_table(&mut self, lines: &TableLines, deadline: &Deadline) {
        let (regex, is_own) = (self.volume_regex.as_ref(), self.table.is_own());
        let roots = |found| self.kubelet_roots.trusted(SearchedTable::Own, found, deadline);
        let TableReading { mut mounts, kubelet_roots, status } =
            read_table(lines, &self.rootfs, regex, is_own, roots);
        take_flags_of_host(&mut mounts, self.host_mounts.as_deref().unwrap_or_default());
        if self.kubelet_roots.is_pending() {
            self.table.expire();
        }
        self.mounts.replace(mounts);
        if self.logged_roots != kubelet_roots {
            self.logged_roots = kubelet_roots;
            let roots = self.logged_roots.join(&b' ').escape_ascii().to_string();
            tracing::info!(event = "kubelet_roots_found", roots, "found the kubelet's directories");
        }
        if status.propagation == Some(false) && self.status.propagation != Some(false) {
            tracing::warn!(
                event = "mounts_not_propagated",
                "new mounts of the host will not be seen here: mount the host's root with \
                 mountPropagation HostToContainer"
            );
        }
        self.status = status;
    }

    /// Whether other volumes are mounted there now, or in another way.
    fn refresh_host_table(&mut self, now: Instant, lookups: impl Fn() -> Deadline) -> bool {
        let Some(table) = &mut self.host_table else {
            return false;
        };
        let Some(reading) = table.refresh(now) else {
            return false;
        };
        let host = Rootfs::new("/".into());
        let roots = |found| self.kubelet_roots.trusted(SearchedTable::Host, found, &lookups());
        let mounts =
            reading.map(|lines| read_table(&lines, &host, self.volume_regex.as_ref(), true, roots).mounts);
        if self.kubelet_roots.is_pending() {
            self.host_table.iter_mut().for_each(MountTable::expire);
        }
        let before = std::mem::replace(&mut self.host_mounts, mounts.ok());
        self.host_mounts != before
    }

    fn count_unpropagated(&mut self) {
        let host = self.host_mounts.as_ref().filter(|_| !self.rootfs.is_host_root());
        self.status.unpropagated = host.map(|host| {
            let here: HashSet<&PathBuf> = self.mounts.mountpoints().collect();
            host.iter().filter(|mount| !here.contains(&mount.mountpoint)).count()
        });
    }
}
