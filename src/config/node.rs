//! Which node to read, and which of its mounts are volumes.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use regex::bytes::Regex;

use super::duration;
use super::values::{absolute_path, volume_regex};
use crate::node::{NodeSettings, VolumeMatcher};
use crate::volume::{Exclusions, NamePatterns};

/// Where containers have the node's root by convention.
const CONTAINER_ROOTFS: &str = "/rootfs";

/// Which node to read, and which of its mounts are volumes that are measured.
#[derive(Debug, Clone, Args)]
pub(super) struct NodeArgs {
    /// Directory where the node's root file system is mounted [default: /rootfs where that exists, else /].
    #[arg(long, env = "DISK_USAGE_EXPORTER_ROOTFS", value_name = "DIR", value_parser = PathBufValueParser::new().try_map(check_rootfs))]
    pub rootfs: Option<PathBuf>,

    /// The kubelet's directory as the host sees it [default: /var/lib/kubelet, and what the mount table shows, if root alone may write there].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_ROOT", value_name = "DIR", value_parser = absolute_path)]
    pub kubelet_root: Option<PathBuf>,

    /// Mount table to read [default: the rootfs's /proc/self/mountinfo, its /proc/mounts, or /proc/self/mountinfo].
    #[arg(long, env = "DISK_USAGE_EXPORTER_MOUNT_TABLE", value_name = "FILE")]
    pub mount_table: Option<PathBuf>,

    /// Which mountpoints are volumes, with the groups `name` (a must), `pod_uid` and `plugin` [default: the kubelet's layout]; not with --kubelet-root.
    #[arg(long, env = "DISK_USAGE_EXPORTER_VOLUME_REGEX", value_name = "REGEX", value_parser = volume_regex)]
    pub volume_regex: Option<Regex>,

    /// Directory of a recorded node to show instead of this machine; not with --rootfs, --mount-table or --objects.
    #[arg(long, env = "DISK_USAGE_EXPORTER_FIXTURE", value_name = "DIR", value_parser = PathBufValueParser::new().try_map(check_fixture))]
    pub fixture: Option<PathBuf>,

    /// How long one scrape waits for mounts that do not answer.
    #[arg(long, env = "DISK_USAGE_EXPORTER_STAT_TIMEOUT", value_name = "DURATION", default_value = "2s", value_parser = duration::parse_positive)]
    pub stat_timeout: Duration,

    /// Types of file systems, as the mount table names them, that are not measured: a comma list of names and prefix*.
    #[arg(long, env = "DISK_USAGE_EXPORTER_FS_TYPES_EXCLUDE", value_name = "LIST")]
    pub fs_types_exclude: Option<NamePatterns>,

    /// Storage classes whose volumes are not measured, where the PersistentVolume is known: a list as above.
    #[arg(long, env = "DISK_USAGE_EXPORTER_STORAGE_CLASSES_EXCLUDE", value_name = "LIST")]
    pub storage_classes_exclude: Option<NamePatterns>,

    /// Namespaces whose claims are not measured, where the claim or a pod is known: a list as above.
    #[arg(long, env = "DISK_USAGE_EXPORTER_NAMESPACES_EXCLUDE", value_name = "LIST")]
    pub namespaces_exclude: Option<NamePatterns>,
}

impl NodeArgs {
    /// Which volumes are not measured.
    pub(super) fn exclusions(&self) -> Exclusions {
        Exclusions {
            fs_types: self.fs_types_exclude.clone().unwrap_or_default(),
            storage_classes: self.storage_classes_exclude.clone().unwrap_or_default(),
            namespaces: self.namespaces_exclude.clone().unwrap_or_default(),
        }
    }

    /// Where the node is read, and the file of objects of a recorded one.
    pub(super) fn settings(self) -> (NodeSettings, Option<PathBuf>) {
        let Self {
            rootfs,
            kubelet_root,
            mount_table,
            volume_regex,
            fixture,
            // Of the server, and of the collector.
            stat_timeout: _,
            fs_types_exclude: _,
            storage_classes_exclude: _,
            namespaces_exclude: _,
        } = self;
        let matcher = VolumeMatcher { kubelet_root, volume_regex };
        if let Some(fixture) = fixture {
            let (rootfs, mount_table) = (fixture.join("rootfs"), recorded_mount_table(&fixture));
            let objects = Some(fixture.join("objects.json")).filter(|path| path.exists());
            return (NodeSettings { rootfs, mount_table, matcher, is_recorded: true }, objects);
        }
        let default = || if Path::new(CONTAINER_ROOTFS).is_dir() { CONTAINER_ROOTFS } else { "/" }.into();
        let rootfs = rootfs.unwrap_or_else(default);
        let rootfs = std::path::absolute(&rootfs).unwrap_or(rootfs);
        (NodeSettings { rootfs, mount_table, matcher, is_recorded: false }, None)
    }
}

fn check_rootfs(path: PathBuf) -> Result<PathBuf, &'static str> {
    let remedy = "not a directory; give the directory where the node's root file system is mounted, or / on the node itself";
    if path.is_dir() { Ok(path) } else { Err(remedy) }
}

fn check_fixture(path: PathBuf) -> Result<PathBuf, &'static str> {
    match recorded_mount_table(&path) {
        Some(_) => Ok(path),
        None => Err("no mountinfo and no mounts in it; give a directory like those in fixtures/nodes"),
    }
}

fn recorded_mount_table(fixture: &Path) -> Option<PathBuf> {
    ["mountinfo", "mounts"].map(|name| fixture.join(name)).into_iter().find(|path| path.exists())
}
