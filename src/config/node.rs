//! Which node to read, and which of its mounts are volumes.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use regex::bytes::Regex;

use super::duration;
use super::error::ConfigError;
use super::values::{absolute_path, volume_regex};
use crate::node::{NodeSettings, VolumeMatcher};

/// Where containers have the node's root by convention.
const CONTAINER_ROOTFS: &str = "/rootfs";

/// Which node to read, and which of its mounts are volumes.
#[derive(Debug, Clone, Args)]
pub(super) struct NodeArgs {
    /// Directory where the node's root file system is mounted [default: /rootfs where that exists, else /].
    #[arg(long, env = "DISK_USAGE_EXPORTER_ROOTFS", value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// The kubelet's directory as the host sees it [default: found in the mount table].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_ROOT", value_name = "DIR", value_parser = absolute_path)]
    pub kubelet_root: Option<PathBuf>,

    /// Mount table to read [default: the rootfs's /proc/self/mountinfo, its /proc/mounts, or /proc/self/mountinfo].
    #[arg(long, env = "DISK_USAGE_EXPORTER_MOUNT_TABLE", value_name = "FILE")]
    pub mount_table: Option<PathBuf>,

    /// Which mountpoints are volumes, with the groups `name` (a must), `pod_uid` and `plugin` [default: the kubelet's layout]; not with --kubelet-root.
    #[arg(long, env = "DISK_USAGE_EXPORTER_VOLUME_REGEX", value_name = "REGEX", value_parser = volume_regex)]
    pub volume_regex: Option<Regex>,

    /// Directory of a recorded node to show instead of this machine; not with --rootfs, --mount-table or --objects.
    #[arg(long, env = "DISK_USAGE_EXPORTER_FIXTURE", value_name = "DIR")]
    pub fixture: Option<PathBuf>,

    /// How long one scrape waits for mounts that do not answer.
    #[arg(long, env = "DISK_USAGE_EXPORTER_STAT_TIMEOUT", value_name = "DURATION", default_value = "2s", value_parser = duration::parse_positive)]
    pub stat_timeout: Duration,
}

impl NodeArgs {
    /// Where the node is read, and the file of objects of a recorded one.
    pub(super) fn check(self) -> Result<(NodeSettings, Option<PathBuf>), ConfigError> {
        let Self { rootfs, kubelet_root, mount_table, volume_regex, fixture, stat_timeout: _ } = self;
        let matcher = VolumeMatcher { kubelet_root, volume_regex };
        if let Some(fixture) = fixture {
            let fixture = require_directory("fixture", fixture, "a directory like those in fixtures/nodes")?;
            let file = |name| Some(fixture.join(name)).filter(|path| path.exists());
            let Some(mount_table) = file("mountinfo").or_else(|| file("mounts")) else {
                return Err(ConfigError::NoTableInFixture(fixture));
            };
            let (rootfs, mount_table) = (fixture.join("rootfs"), Some(mount_table));
            return Ok((NodeSettings { rootfs, mount_table, matcher }, file("objects.json")));
        }
        let default = || if Path::new(CONTAINER_ROOTFS).is_dir() { CONTAINER_ROOTFS } else { "/" }.into();
        let remedy = "the directory where the node's root file system is mounted, or / on the node itself";
        let rootfs = require_directory("rootfs", rootfs.unwrap_or_else(default), remedy)?;
        let rootfs = std::path::absolute(&rootfs).unwrap_or(rootfs);
        Ok((NodeSettings { rootfs, mount_table, matcher }, None))
    }
}

fn require_directory(
    flag: &'static str,
    value: PathBuf,
    remedy: &'static str,
) -> Result<PathBuf, ConfigError> {
    if value.is_dir() { Ok(value) } else { Err(ConfigError::NoDirectory { flag, value, remedy }) }
}
