//! Settings: what was typed, checked and made whole.

mod args;
mod df;
mod duration;
mod endpoint;
mod error;
mod manual;
mod sources;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::bytes::Regex;
use tracing::level_filters::LevelFilter;

pub use args::{Args, Command, Shell};
pub use df::DfArgs;
pub use error::ConfigError;
pub use manual::{completions, man};
pub use sources::{Asking, Sources};
pub use values::{KubernetesMode, ListenHost, LogLevel, Source};

use crate::volume::LabelFilter;
use sources::Typed;

/// Where containers have the node's root by convention.
const USUAL_ROOTFS: &str = "/rootfs";

/// Everything that can be set.
#[derive(Debug)]
pub struct Config {
    /// What to do.
    pub command: Option<Command>,
    /// Address to listen on; `None` is every interface.
    pub listen_host: Option<ListenHost>,
    /// Port to listen on.
    pub listen_port: u16,
    /// How to log.
    pub log: LogConfig,
    /// Which node to show.
    pub node: NodeConfig,
    /// Where figures come from.
    pub sources: Sources,
    /// Which mountpoints are volumes.
    pub volume_regex: Option<Regex>,
    /// The kubelet's directory as the host sees it.
    pub kubelet_root: Option<PathBuf>,
    /// How long one scrape waits for mounts that do not answer.
    pub stat_timeout: Duration,
    /// The Kubernetes API.
    pub kubernetes: Kubernetes,
    /// Labels of `PersistentVolume`s that become metric labels.
    pub pv_labels: LabelFilter,
    /// Labels of `PersistentVolumeClaim`s that become metric labels.
    pub pvc_labels: LabelFilter,
}

/// How to log.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// Least severity.
    pub level: LevelFilter,
    /// Lines for people instead of JSON.
    pub human: bool,
}

/// Which node to show.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where its root file system is mounted.
    pub rootfs: PathBuf,
    /// The mount table, if it is not one of the usual.
    pub mount_table: Option<PathBuf>,
    /// A file of Kubernetes objects.
    pub objects: Option<PathBuf>,
    /// The recorded node that all this is of, if it is not this machine.
    pub fixture: Option<PathBuf>,
}

/// The Kubernetes API.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Whether it is asked.
    pub mode: KubernetesMode,
    /// The kubeconfig that was named, or several as in `PATH`.
    pub kubeconfig: Option<String>,
    /// The node that was named.
    pub node_name: Option<String>,
    /// How old labels may get.
    pub label_refresh: Duration,
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let Args {
            command,
            listen_host,
            listen_port,
            log_level,
            debug,
            log_human,
            rootfs,
            kubelet_root,
            mount_table,
            volume_regex,
            fixture,
            stat_timeout,
            sources,
            kubelet_volume_stats,
            kubelet_volume_stats_labels,
            kubelet_endpoint,
            kubelet_ca_file,
            kubelet_server_name,
            insecure_skip_tls_verify,
            token_path,
            scrape_interval,
            objects,
            kubernetes: mode,
            kubeconfig,
            node_name,
            label_refresh,
            pv_labels,
            pvc_labels,
        } = args;
        let sources = Sources::try_from(Typed {
            sources,
            stats: kubelet_volume_stats,
            labels: kubelet_volume_stats_labels,
            endpoint: kubelet_endpoint,
            ca_file: kubelet_ca_file,
            server_name: kubelet_server_name,
            skip_verify: insecure_skip_tls_verify,
            token: token_path,
            interval: scrape_interval,
        })?;
        let is_table = matches!(command, Some(Command::Df(_)));
        let sources = if is_table { sources.for_table() } else { sources };
        let required = mode == KubernetesMode::Required;
        let about_mounts = [
            ("fixture", fixture.is_some()),
            ("mount-table", mount_table.is_some()),
            ("volume-regex", volume_regex.is_some()),
            ("objects", objects.is_some()),
            ("kubernetes=required", required),
        ];
        if let Some((flag, _)) = about_mounts.iter().find(|(_, given)| *given && !sources.mounts) {
            return Err(ConfigError::NeedsMounts(flag));
        }
        let exclusive = [
            ("volume-regex", volume_regex.is_some(), "kubelet-root", kubelet_root.is_some()),
            ("fixture", fixture.is_some(), "rootfs", rootfs.is_some()),
            ("fixture", fixture.is_some(), "mount-table", mount_table.is_some()),
            ("fixture", fixture.is_some(), "objects", objects.is_some()),
            ("fixture", fixture.is_some(), "kubernetes=required", required),
            ("fixture", fixture.is_some(), "sources=mounts,kubelet", sources.kubelet),
            ("fixture", fixture.is_some(), "kubelet-volume-stats=missing", sources.only_missing()),
            ("objects", objects.is_some(), "kubernetes=required", required),
        ];
        if let Some((taker, _, taken, _)) = exclusive.iter().find(|(_, first, _, second)| *first && *second) {
            return Err(ConfigError::Conflict(taken, taker));
        }
        let node = match fixture {
            Some(fixture) => NodeConfig::recorded(fixture)?,
            None => NodeConfig::real(rootfs, mount_table, objects)?,
        };
        Ok(Self {
            command,
            listen_host,
            listen_port,
            log: LogConfig::chosen(log_level, debug, log_human, is_table),
            node,
            sources,
            volume_regex,
            kubelet_root: kubelet_root.map(absolute).transpose()?,
            stat_timeout,
            kubernetes: Kubernetes { mode, kubeconfig, node_name, label_refresh },
            pv_labels,
            pvc_labels,
        })
    }
}

impl LogConfig {
    /// Beside a table only what its reader should know.
    fn chosen(level: Option<LogLevel>, is_debug: bool, human: Option<bool>, is_table: bool) -> Self {
        let usual = if is_table { LevelFilter::WARN } else { LevelFilter::INFO };
        let level = level.map_or(usual, |LogLevel(level)| level);
        Self {
            level: if is_debug { level.max(LevelFilter::DEBUG) } else { level },
            human: human.unwrap_or(is_table),
        }
    }
}

/// Without a slash at its end, or doubled ones.
fn absolute(root: PathBuf) -> Result<PathBuf, ConfigError> {
    if root.is_absolute() {
        Ok(root.components().collect())
    } else {
        Err(ConfigError::RelativeKubeletRoot(root))
    }
}

fn directory(flag: &'static str, value: PathBuf, remedy: &'static str) -> Result<PathBuf, ConfigError> {
    if value.is_dir() { Ok(value) } else { Err(ConfigError::NoDirectory { flag, value, remedy }) }
}

impl NodeConfig {
    fn real(
        rootfs: Option<PathBuf>,
        mount_table: Option<PathBuf>,
        objects: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let usual = || if Path::new(USUAL_ROOTFS).is_dir() { USUAL_ROOTFS } else { "/" }.into();
        let remedy = "the directory where the node's root file system is mounted, or / on the node itself";
        let rootfs = directory("rootfs", rootfs.unwrap_or_else(usual), remedy)?;
        Ok(Self {
            rootfs: std::path::absolute(&rootfs).unwrap_or(rootfs),
            mount_table,
            objects,
            fixture: None,
        })
    }

    fn recorded(fixture: PathBuf) -> Result<Self, ConfigError> {
        let fixture = directory("fixture", fixture, "a directory like those in fixtures/nodes")?;
        let file = |name| Some(fixture.join(name)).filter(|path| path.exists());
        let Some(mount_table) = file("mountinfo").or_else(|| file("mounts")) else {
            return Err(ConfigError::NoTableInFixture(fixture));
        };
        Ok(Self {
            rootfs: fixture.join("rootfs"),
            mount_table: Some(mount_table),
            objects: file("objects.json"),
            fixture: Some(fixture),
        })
    }
}

#[cfg(test)]
mod tests;
