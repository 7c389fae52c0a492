//! `disk-usage-exporter`: how full every Kubernetes volume on a node is, for Prometheus.
//!
//! # Layout
//!
//! | module | its job |
//! | --- | --- |
//! | [`volume`] | the domain: volumes, mounts, figures, metadata |
//! | [`snapshot`] | the immutable result of one collection |
//! | [`node`] | the node's side: mount table, volumes, `statvfs` |
//! | [`cluster`] | the Kubernetes side: what objects say about volumes |
//! | [`kubelet`] | the kubelet: its own figures of claims' volumes |
//! | [`collect`] | one collection, shared by all scrapes that ask during it |
//! | [`exposition`] | snapshots as bytes for Prometheus |
//! | [`report`] | a snapshot for people: the table of `df`, the web page |
//! | [`compression`] | encoded documents in chunks, compressed with gzip or not |
//! | [`server`] | HTTP: the listener, its limits, the routes |
//! | [`runtime`] | deadlines, and which thread may block on what |
//! | [`host_files`] | files of the node, which its users may have made |
//! | [`config`], [`logging`], [`health`], [`telemetry`], [`panics`] | what every program needs |
//! | [`app`] | puts the parts together; the only module that knows them all |
//!
//! # How data flows
//!
//! ```text
//!  mount table ──► mounts ──► volumes ──► measurements ──┐
//!     node          node      collect        node        ├─► Snapshot ──► series ──► bytes ──► socket
//!                               ▲                        │    collect     exposition           server
//!    API server, file ──► Metadata ──────────────────────┤        └────► HTML ─────┘
//!                          cluster                        │              report
//!    /stats/summary ──► figures of claims ───────────────┘
//!                          kubelet
//! ```
//!
//! One way, and no part asks one to its right. `node`, `cluster` and `kubelet` do not know each other: `collect` tells
//! `cluster` what is mounted, and takes what is known of it by then.

pub mod app;
pub mod cluster;
pub mod collect;
pub mod compression;
pub mod config;
mod error_text;
pub mod exposition;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod health;
pub mod host_files;
mod input_limits;
pub mod kubelet;
pub mod logging;
pub mod node;
pub mod panics;
pub mod report;
pub mod runtime;
pub mod server;
pub mod snapshot;
pub mod telemetry;
mod units;
pub mod volume;

/// The source revision that this program was built from.
pub const REVISION: &str = match option_env!("DISK_USAGE_EXPORTER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
