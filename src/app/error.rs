//! Why the program ends.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::cluster::{AccessError, ObjectsError, RequestError};
use crate::kubelet::CaFileError;
use crate::node::{FixtureError, NoTable};

/// Why the program ends.
#[expect(missing_docs, reason = "each message says it")]
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0}; give --mount-table, or --rootfs where the node's root file system is mounted")]
    Table(#[from] NoTable),
    #[error("--objects: {0}")]
    Objects(#[from] ObjectsError),
    #[error("{0}")]
    Access(AccessError),
    #[error(
        "--kubernetes=required: this is no pod with a service account, and there is no kubeconfig; give one by --kubeconfig, or --kubernetes=auto"
    )]
    NoCluster,
    #[error(
        "--kubernetes=required: the API server could not be asked within {within:?}: {failure}; give --kubernetes=auto to go on without"
    )]
    Unreachable {
        within: Duration,
        #[source]
        failure: RequestError,
    },
    #[error(transparent)]
    Authority(#[from] CaFileError),
    #[error("--fixture: {0}; give a directory like those in fixtures/nodes")]
    Fixture(#[from] FixtureError),
    #[error(
        "cannot listen on {host} port {port}: {source}; choose another by --listen-host and --listen-port"
    )]
    Listen { host: String, port: u16, source: io::Error },
    #[error("no source of figures has answered; the log above, or --log-level=debug, says why")]
    NoFigures,
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl AppError {
    /// 2 for a setting that cannot be used, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Table(_)
            | Self::Objects(_)
            | Self::Fixture(_)
            | Self::Access(_)
            | Self::Authority(_)
            | Self::NoCluster => ExitCode::from(2),
            Self::Unreachable { .. }
            | Self::Listen { .. }
            | Self::NoFigures
            | Self::Output(_)
            | Self::System(_) => ExitCode::FAILURE,
        }
    }
}
