//! The command line: commands, and the flags of each subsystem.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::ffi::OsString;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::aot::Shell;

use super::duration;
use super::kubelet::KubeletArgs;
use super::kubernetes::KubernetesArgs;
use super::log::LogArgs;
use super::node::NodeArgs;
use super::values::listen_host;
use crate::report::TableOptions;

/// Tells Prometheus how full every Kubernetes volume on this node is.
#[derive(Debug, Parser)]
#[command(name = "disk-usage-exporter", version, max_term_width = 110, hide_possible_values = true)]
pub struct Args {
    /// What to do; without a command, serve.
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub(super) serving: ServingArgs,

    #[command(flatten)]
    pub(super) log: LogArgs,

    #[command(flatten)]
    pub(super) node: NodeArgs,

    #[command(flatten)]
    pub(super) kubelet: KubeletArgs,

    #[command(flatten)]
    pub(super) kubernetes: KubernetesArgs,
}

impl Args {
    /// Reads a command line and the environment. Flags may stand before or after the command.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> clap::error::Result<Self> {
        let matches = Self::command_line().try_get_matches_from(line)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.kubelet.set_default_sources(&matches);
        Ok(args)
    }

    /// The same for whoever asks about the command line.
    pub(super) fn command_line() -> clap::Command {
        Self::command().mut_args(|arg| arg.global(true))
    }
}

/// Where to listen.
#[derive(Debug, Clone, clap::Args)]
pub struct ServingArgs {
    /// Address to listen on [default: all interfaces, IPv6 and IPv4].
    #[arg(long, env = "DISK_USAGE_EXPORTER_LISTEN_HOST", value_name = "ADDRESS", value_parser = listen_host)]
    pub listen_host: Option<Arc<[IpAddr]>>,

    /// Port to listen on; 0 picks a free one and logs it.
    #[arg(
        long,
        visible_alias = "metrics-port",
        env = "DISK_USAGE_EXPORTER_LISTEN_PORT",
        value_name = "PORT",
        default_value_t = 9274
    )]
    pub listen_port: u16,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Print one exposition and end.
    Metrics,
    /// Print a table of the volumes, the fullest first, and end.
    #[command(next_help_heading = "Options of df")]
    Df {
        /// Which volumes are shown, and how.
        #[command(flatten)]
        table: TableOptions,

        /// Again and again, with such a pause; 2s if none is given.
        #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = duration::parse_positive)]
        watch: Option<Duration>,
    },
    /// Print what makes a shell complete this command line.
    Completions {
        /// The shell: bash, zsh, fish, elvish or powershell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}
