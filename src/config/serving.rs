//! Where to listen.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use clap::Args;

use super::values::ListenHost;

/// Where to listen.
#[derive(Debug, Clone, Args)]
pub struct ServingArgs {
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
}
