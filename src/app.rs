//! Puts the parts together.

mod metadata;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{AccessError, Api, ObjectsError};
use crate::collect::{Collected, Collector, Request, Shared};
use crate::config::{Command, Config, KubernetesMode, ListenHost, NodeConfig};
use crate::exposition::{Encoding, Exposition, Format, Prepared};
use crate::health::Health;
use crate::logging;
use crate::node::{self, Fixture, FixtureError, Measure, NoTable, Node, OpenError};
use crate::panics;
use crate::process::Myself;
use crate::server::{self, Page, Routes, Unsent};
use crate::shutdown::Shutdown;
use metadata::Found;

/// How long serving goes on while an API server that is required does not answer.
const SERVE_PATIENCE: Duration = Duration::from_secs(30);
/// How long printing waits for it.
const PRINT_PATIENCE: Duration = Duration::from_secs(10);

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
        /// What came of it last.
        failure: String,
    },
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
    /// `metrics`, to a full disk or the like.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// Something of the system that the program cannot do without.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl AppError {
    /// 2 for a setting that cannot be used, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Table(_) | Self::Objects(_) | Self::Fixture(_) | Self::Access(_) | Self::NoCluster => {
                ExitCode::from(2)
            }
            Self::Unreachable { .. } | Self::Listen { .. } | Self::Output(_) | Self::System(_) => {
                ExitCode::FAILURE
            }
        }
    }
}

/// Does what the settings say.
///
/// # Errors
///
/// If it cannot.
pub fn run(config: Config) -> Result<(), AppError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let node = node(&config)?;
    let Found { source, api } = metadata::find(&config)?;
    let collector = Collector::new(node, source);
    let api = api.map(|api| Cluster { api, required: config.kubernetes.mode == KubernetesMode::Required });
    match config.command {
        Some(Command::Metrics) => runtime.block_on(print_metrics(collector, api, config.stat_timeout)),
        None => runtime.block_on(serve(config, collector, api)),
    }
}

fn node(config: &Config) -> Result<Node, AppError> {
    let NodeConfig { rootfs, mount_table, objects: _, fixture } = &config.node;
    let settings = node::Settings {
        rootfs: rootfs.clone(),
        mount_table: mount_table.clone(),
        recognition: node::Recognition {
            kubelet_root: config.kubelet_root.clone(),
            volume_regex: config.volume_regex.clone(),
        },
    };
    let measure: Arc<dyn Measure> = match fixture {
        Some(fixture) => Arc::new(Fixture::load(fixture)?),
        None => Arc::new(settings.kernel()),
    };
    Node::open(settings, measure).map_err(|error| match error {
        OpenError::Table(error) => AppError::Table(error),
        OpenError::System(error) => AppError::System(error),
    })
}

/// The API server that is asked, and whether the program can do without.
struct Cluster {
    api: Api,
    required: bool,
}

impl Cluster {
    /// Waits for a first answer of a server that is required. Where nothing is asked, nothing is missed.
    async fn reached(&self, started: Instant, within: Duration) -> Result<(), AppError> {
        if !self.required {
            return Ok(());
        }
        match self.api.reached(within.saturating_sub(started.elapsed())).await {
            Err(Some(failure)) => Err(AppError::Unreachable { within, failure }),
            Err(None) | Ok(()) => Ok(()),
        }
    }
}

async fn print_metrics(
    collector: Collector,
    cluster: Option<Cluster>,
    stat_timeout: Duration,
) -> Result<(), AppError> {
    let mut scraper = Scraper::new(collector);
    let mut prepared = scraper.scrape(Instant::now() + stat_timeout, None);
    if let Some(cluster) = cluster {
        let started = Instant::now();
        cluster.api.settled().await;
        cluster.reached(started, PRINT_PATIENCE).await?;
        prepared = scraper.scrape(Instant::now() + stat_timeout, None);
    }
    let text = Encoding { format: Format::Text, gzip: false };
    match io::stdout().write_all(&prepared.write(text)) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(AppError::Output),
    }
}

/// One scrape after the other: collects, and makes what is written.
struct Scraper {
    collector: Collector,
    exposition: Exposition,
    myself: Myself,
}

impl Scraper {
    fn new(collector: Collector) -> Self {
        Self { collector, exposition: Exposition::default(), myself: Myself::default() }
    }

    fn scrape(&mut self, deadline: Instant, previous_total_time: Option<Duration>) -> Prepared {
        let mut snapshot = self.collector.collect(deadline);
        snapshot.exporter.previous_total_time = previous_total_time;
        snapshot.exporter.process = self.myself.status();
        snapshot.exporter.panics = panics::count();
        snapshot.exporter.lost_log_lines = logging::lost_lines();
        self.exposition.prepare(snapshot)
    }
}

async fn serve(config: Config, collector: Collector, cluster: Option<Cluster>) -> Result<(), AppError> {
    let mut shutdown = Shutdown::listen()?;
    let listener = listen(config.listen_host.as_ref(), config.listen_port)?;
    announce(listener.local_addr()?, config.node.fixture.as_ref());
    let health = Arc::new(Health::default());
    let (collected, settled) = (Arc::clone(&health), Arc::clone(&health));
    let interrupt = collector.interrupt();
    let mut work = Scraper::new(collector);
    let unsent = Unsent::default();
    let bodies = unsent.clone();
    let scrapes = Shared::start(
        move |deadline, previous| {
            let prepared = work.scrape(deadline, previous);
            collected.set_collected();
            Collected { in_time: prepared.in_time(), value: prepared }
        },
        move |prepared: &Prepared, encoding| bodies.count(prepared.write(encoding)),
    )?;
    let page = Page { fixture: config.node.fixture.map(|path| path.display().to_string()) };
    let routes = Arc::new(Routes::new(scrapes.clone(), config.stat_timeout, health, page.html(), unsent));
    let started = Instant::now();
    let first = async {
        // Nobody reads it: packed, it takes the least memory.
        let form = Encoding { format: Format::Text, gzip: true };
        let _ = scrapes.ask(Request { patience: config.stat_timeout, form }).await;
        if let Some(cluster) = &cluster {
            cluster.api.settled().await;
            settled.set_settled();
            cluster.reached(started, SERVE_PATIENCE).await?;
        }
        settled.set_settled();
        // Only the server's end is the program's.
        std::future::pending().await
    };
    let stop = async {
        let signal = shutdown.wait().await;
        tracing::info!(signal, "stopping");
        // Whoever waits for a scrape gets what is measured by now.
        interrupt.end_measuring();
    };
    let serving = server::run(listener, routes, stop);
    tokio::select! {
        () = serving => Ok(()),
        ended = first => ended,
    }
}

fn listen(host: Option<&ListenHost>, port: u16) -> Result<tokio::net::TcpListener, AppError> {
    let addresses = host.map(|ListenHost(addresses)| addresses.as_slice());
    server::listen(addresses, port).map_err(|source| AppError::Listen {
        host: addresses.map_or("all interfaces".into(), |addresses| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }),
        port,
        source,
    })
}

fn announce(address: SocketAddr, fixture: Option<&PathBuf>) {
    if let Some(fixture) = fixture {
        tracing::warn!(fixture = %fixture.display(), "showing a recorded node, not this machine");
    }
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, "listening");
}
