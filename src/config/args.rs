//! The command line: commands, and the flags of each subsystem.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::df::DfArgs;
use super::kubelet::KubeletArgs;
use super::kubernetes::KubernetesArgs;
use super::log::LogArgs;
use super::node::NodeArgs;
use super::serving::ServingArgs;

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
    /// Reads the command line and the environment; ends the program with a message where they are wrong. Flags may
    /// stand before or after the command.
    #[must_use]
    pub fn typed() -> Self {
        Self::from_matches(&Self::command_line().get_matches()).unwrap_or_else(|error| error.exit())
    }

    pub(super) fn from_matches(matches: &ArgMatches) -> clap::error::Result<Self> {
        let mut args = Self::from_arg_matches(matches)?;
        args.kubelet.set_default_sources(matches);
        Ok(args)
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
        /// The shell: bash, zsh or fish.
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
