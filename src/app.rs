//! Puts the parts together.

mod error;
mod metadata;
mod print;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::AppError;

use crate::cluster::ApiStatus;
use crate::collect::{Collected, Collector, HOLD_BACK, Request, Shared};
use crate::config::{self, Command, Config, KubernetesMode, ListenHost};
use crate::exposition::{Encoding, Exposition, Format, Prepared};
use crate::health::Health;
use crate::logging;
use crate::page::Page;
use crate::panics;
use crate::process::Myself;
use crate::server::{self, Form, Routes, Unsent};
use crate::shutdown::Shutdown;
use crate::snapshot::Snapshot;
use sources::Found;

/// How long serving goes on while an API server that is required does not answer.
const SERVE_PATIENCE: Duration = Duration::from_secs(30);
/// The first pause before a source is tried again that has not answered at start, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Does what the settings say; what it comes to is for the shell.
///
/// # Errors
///
/// If it cannot.
pub fn run(config: Config) -> Result<ExitCode, AppError> {
    match config.command {
        Some(Command::Completions { shell }) => print::print(config::completions(shell).as_bytes())?,
        Some(Command::Man) => print::print(&config::man()?)?,
        _ => return show(config),
    };
    Ok(ExitCode::SUCCESS)
}

/// Shows the node, once or for as long as the program runs.
fn show(config: Config) -> Result<ExitCode, AppError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Found { sources, api } = sources::find(&config)?;
    let collector = Collector::new(sources);
    let cluster =
        api.map(|api| Cluster { api, required: config.kubernetes.mode == KubernetesMode::Required });
    let timeout = config.stat_timeout;
    match &config.command {
        Some(Command::Metrics) => runtime.block_on(print::metrics(Scraper::new(collector), cluster, timeout)),
        Some(Command::Df(args)) => runtime.block_on(print::df(collector, cluster, timeout, args)),
        _ => runtime.block_on(serve(config, collector, cluster)).map(|()| ExitCode::SUCCESS),
    }
}

/// The API server that is asked, and whether the program can do without.
struct Cluster {
    api: ApiStatus,
    required: bool,
}

impl Cluster {
    /// Waits for a first answer of a server that is required. Where nothing is asked, nothing is missed.
    async fn reached(&self, started: Instant, within: Duration) -> Result<(), AppError> {
        if !self.required {
            return Ok(());
        }
        match self.api.wait_until_reached(within.saturating_sub(started.elapsed())).await {
            Err(Some(failure)) => Err(AppError::Unreachable { within, failure }),
            Err(None) | Ok(()) => Ok(()),
        }
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
        let snapshot = self.collector.collect(deadline);
        self.prepare(snapshot, previous_total_time)
    }

    fn prepare(&mut self, mut snapshot: Snapshot, previous_total_time: Option<Duration>) -> Prepared {
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
    let (collected, at_start) = (Arc::clone(&health), Arc::clone(&health));
    let interrupt = collector.interrupt();
    let mut work = Scraper::new(collector);
    let unsent = Unsent::default();
    let bodies = unsent.clone();
    let page = Page {
        node: config.kubernetes.node_name,
        fixture: config.node.fixture.map(|path| path.display().to_string()),
    };
    let scrapes = Shared::start(
        move |deadline, previous| {
            let prepared = work.scrape(deadline, previous);
            if prepared.has_answer() {
                collected.set_collected();
                if prepared.snapshot().pending == 0 {
                    collected.set_settled();
                }
            }
            Collected { in_time: prepared.in_time(), value: prepared }
        },
        move |prepared: &Prepared, form| {
            bodies.count(match form {
                Form::Metrics(encoding) => prepared.write(encoding),
                Form::Page { gzip } => page.write(prepared.snapshot(), gzip),
            })
        },
    )?;
    let routes = Arc::new(Routes::new(scrapes.clone(), config.stat_timeout, health, unsent));
    let started = Instant::now();
    let first = async {
        collect_once(&scrapes, config.stat_timeout, &at_start).await;
        if let Some(cluster) = &cluster {
            while !at_start.has_settled() {
                cluster.api.wait_until_answered(HOLD_BACK).await;
                collect_once(&scrapes, config.stat_timeout, &at_start).await;
            }
            cluster.reached(started, SERVE_PATIENCE).await?;
        }
        // Only the server's end is the program's.
        std::future::pending().await
    };
    let stop = async {
        let signal = shutdown.wait().await;
        tracing::info!(signal, "stopping");
        // Whoever waits for a scrape gets what is measured by now.
        interrupt.end_waiting();
    };
    let serving = server::run(listener, routes, stop);
    tokio::select! {
        () = serving => Ok(()),
        ended = first => ended,
    }
}

/// Collects until a source has answered, whether or not somebody scrapes.
async fn collect_once(scrapes: &Shared<Form>, patience: Duration, health: &Health) {
    // Nobody reads it: packed, it takes the least memory.
    let form = Form::Metrics(Encoding { format: Format::Text, gzip: true });
    let mut pause = PAUSE;
    loop {
        let _ = scrapes.ask(Request { patience, form }).await;
        if health.has_collected() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
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
