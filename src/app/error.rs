//! Why the program ends.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use crate::cluster::{AccessError, ObjectsError, RequestError};
use crate::kubelet::CaFileError;
use crate::node::{FixtureError, NoTable};

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// `--mount-table`, or the usual tables.
    #[error("{0}; give --mount-table, or --rootfs where the node's root file system is mounted")]
    Table(#[from] NoTable),
    /// `--objects`.
    #[error("--objects: {0}")]
    Objects(#[from] ObjectsError),
    /// `--kubernetes` or `--kubeconfig`.
    #[error("{0}")]
    Access(AccessError),
    /// `--kubernetes=required` where there is nothing to ask.
    #[error(
        "--kubernetes=required: this is no pod with a service account, and there is no kubeconfig; give one by --kubeconfig, or --kubernetes=auto"
    )]
    NoCluster,
    /// `--kubernetes=required`.
    #[error(
        "--kubernetes=required: the API server could not be asked within {within:?}: {failure}; give --kubernetes=auto to go on without"
    )]
    Unreachable {
        /// How long it was tried.
        within: Duration,
        /// The last failure.
        #[source]
        failure: RequestError,
    },
    /// `--kubelet-ca-file`.
    #[error(transparent)]
    Authority(#[from] CaFileError),
    /// `--fixture`.
    #[error("--fixture: {0}; give a directory like those in fixtures/nodes")]
    Fixture(#[from] FixtureError),
    /// The port.
    #[error(
        "cannot listen on {host} port {port}: {source}; choose another by --listen-host and --listen-port"
    )]
    Listen {
        /// What was asked for.
        host: String,
        /// What was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// `df`, where there would be nothing to see.
    #[error("no source of figures has answered; the log above, or --log-level=debug, says why")]
    NoFigures,
    /// What is printed, to a full disk or the like.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// Something of the system that the program cannot do without.
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
