//! What is typed: flags and their environment names.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hyper::Uri;
use regex::bytes::Regex;

use super::df::DfArgs;
use super::duration;
use super::endpoint;
use super::values::{
    KubeletVolumeStats, KubeletVolumeStatsLabels, KubernetesMode, ListenHost, LogLevel, Source, flag,
    kubeconfig, node_name, server_name, volume_regex,
};
use crate::volume::LabelFilter;

/// Tells Prometheus how full every Kubernetes volume on this node is.
#[derive(Debug, Parser)]
#[command(name = "disk-usage-exporter", version, max_term_width = 110)]
pub struct Args {
    /// What to do; without a command, serve.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address to listen on [default: all interfaces, IPv6 and IPv4].
    #[arg(long, env = "DISK_USAGE_EXPORTER_LISTEN_HOST", value_name = "ADDRESS")]
    pub listen_host: Option<ListenHost>,

    /// Port to listen on; 0 picks a free one and logs it.
    #[arg(
        long,
        visible_alias = "metrics-port",
        env = "DISK_USAGE_EXPORTER_LISTEN_PORT",
        value_name = "PORT",
        default_value_t = 9274
    )]
    pub listen_port: u16,

    /// Least severity that is logged: trace, debug, info, warn or warning, error, critical, fatal [default: info; df: warn].
    #[arg(long, env = "DISK_USAGE_EXPORTER_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    /// The same as --log-level=debug.
    #[arg(long, env = "DISK_USAGE_EXPORTER_DEBUG", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = flag, action = ArgAction::Set)]
    pub debug: bool,

    /// Log lines for people instead of JSON lines [default: false; df: true].
    #[arg(long, env = "DISK_USAGE_EXPORTER_LOG_HUMAN", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flag, action = ArgAction::Set)]
    pub log_human: Option<bool>,

    /// Directory where the node's root file system is mounted [default: /rootfs where that exists, else /].
    #[arg(long, env = "DISK_USAGE_EXPORTER_ROOTFS", value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// The kubelet's directory as the host sees it [default: found in the mount table].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_ROOT", value_name = "DIR")]
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

    /// Where figures come from, a comma list of mounts and kubelet [default: mounts, or kubelet if one of the flags about asking it is given].
    #[arg(long, env = "DISK_USAGE_EXPORTER_SOURCES", value_name = "LIST", value_delimiter = ',')]
    pub sources: Option<Vec<Source>>,

    /// Claims with series of the kubelet's names, kubelet_volume_stats_*: auto (all with the kubelet as a source, else off), all, missing (only what the kubelet does not expose itself), off.
    #[arg(
        long,
        env = "DISK_USAGE_EXPORTER_KUBELET_VOLUME_STATS",
        value_name = "MODE",
        default_value = "auto"
    )]
    pub kubelet_volume_stats: KubeletVolumeStats,

    /// Labels of these series: kubelet (namespace and persistentvolumeclaim, one series a claim), or pod (pod besides, one a claim and pod).
    #[arg(
        long,
        env = "DISK_USAGE_EXPORTER_KUBELET_VOLUME_STATS_LABELS",
        value_name = "MODE",
        default_value = "kubelet"
    )]
    pub kubelet_volume_stats_labels: KubeletVolumeStatsLabels,

    /// The kubelet of this node [default: https://127.0.0.1:10250].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_ENDPOINT", value_name = "URL", value_parser = endpoint::parse)]
    pub kubelet_endpoint: Option<Uri>,

    /// Certificates that sign the kubelet's, as PEM [default: the service account's ca.crt, and the kubelet's own where its directory is mounted].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_CA_FILE", value_name = "FILE")]
    pub kubelet_ca_file: Option<PathBuf>,

    /// The name that the kubelet's certificate must have [default: the endpoint's host or the node's name].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_SERVER_NAME", value_name = "NAME", value_parser = server_name)]
    pub kubelet_server_name: Option<String>,

    /// Take any certificate of the kubelet's: whoever answers in its place gets the token [default: false].
    #[arg(long, env = "DISK_USAGE_EXPORTER_INSECURE_SKIP_TLS_VERIFY", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flag, action = ArgAction::Set)]
    pub insecure_skip_tls_verify: Option<bool>,

    /// File of the token for the kubelet, read at each request [default: the service account's].
    #[arg(long, env = "DISK_USAGE_EXPORTER_TOKEN_PATH", value_name = "FILE")]
    pub token_path: Option<PathBuf>,

    /// How long an answer of the kubelet is used before it is asked again [default: 30s].
    #[arg(long, env = "DISK_USAGE_EXPORTER_SCRAPE_INTERVAL", value_name = "DURATION", value_parser = duration::parse_positive)]
    pub scrape_interval: Option<Duration>,

    /// File of `kubectl get pv,pvc,pods -A -o json` to take labels from; it is read again when it changes.
    #[arg(long, env = "DISK_USAGE_EXPORTER_OBJECTS", value_name = "FILE")]
    pub objects: Option<PathBuf>,

    /// Whether to ask the Kubernetes API for labels: auto (in a cluster, else where there is a kubeconfig), required, off.
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBERNETES", value_name = "MODE", default_value = "auto")]
    pub kubernetes: KubernetesMode,

    /// Kubeconfig to use, or several as in PATH [default: in a cluster the pod's service account, else ~/.kube/config].
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", value_parser = kubeconfig)]
    pub kubeconfig: Option<String>,

    /// Kubernetes node whose pods to look up [default: this machine's host name; in a cluster none].
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,

    /// How old labels of PersistentVolumes and PersistentVolumeClaims may get, give or take a fifth.
    #[arg(long, env = "DISK_USAGE_EXPORTER_LABEL_REFRESH", value_name = "DURATION", default_value = "1h", value_parser = duration::parse_positive)]
    pub label_refresh: Duration,

    /// Labels of PersistentVolumes that become metric labels: *, nothing, or a comma list of names and prefix*.
    #[arg(long, env = "DISK_USAGE_EXPORTER_PV_LABELS", value_name = "LIST", default_value = "*")]
    pub pv_labels: LabelFilter,

    /// Labels of PersistentVolumeClaims that become metric labels: *, nothing, or a comma list of names and prefix*.
    #[arg(long, env = "DISK_USAGE_EXPORTER_PVC_LABELS", value_name = "LIST", default_value = "*")]
    pub pvc_labels: LabelFilter,
}

impl Args {
    /// Reads the command line and the environment; ends the program with a message where they are wrong. Flags may
    /// stand before or after the command.
    #[must_use]
    pub fn typed() -> Self {
        let matches = Self::command_line().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The same for whoever asks about the command line.
    pub(super) fn command_line() -> clap::Command {
        Self::command().mut_args(|arg| arg.global(true))
    }
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Print one exposition and end.
    Metrics,
    /// Print a table of the volumes, the fullest first, and end.
    Df(DfArgs),
    /// Print what makes a shell complete this command line.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// A shell that can complete this command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// `bash`
    Bash,
    /// `zsh`
    Zsh,
    /// `fish`
    Fish,
}
