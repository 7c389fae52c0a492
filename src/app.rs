//! Puts the parts together.

mod error;
mod print;
mod sources;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use error::AppError;

use crate::collect::{Collector, HOLD_BACK, ScrapeRequest, SingleFlight};
use crate::config::{self, Command, Config, ServingArgs};
use crate::exposition::{Encoder, Encoding, Format, Series};
use crate::health::Health;
use crate::report::Page;
use crate::runtime::{CancelHandle, Deadline};
use crate::server::{self, Limits, Representation, ResponseMemory, Routes, SharedBody};
use crate::snapshot::Snapshot;
use crate::telemetry;
use crate::volume::Selections;
use sources::ApiConnection;

/// How long serving goes on while an API server that is required does not answer.
const REQUIRED_API_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before the first collection is repeated because no source could be read: the first one, and the longest.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Does what the settings say; what it comes to is for the shell.
pub fn run(config: Config) -> Result<ExitCode, AppError> {
    match config.command {
        Some(Command::Completions { shell }) => print::write_stdout(config::completions(shell).as_bytes())?,
        Some(Command::Man) => print::write_stdout(&config::man()?)?,
        _ => return run_collecting_command(config),
    };
    Ok(ExitCode::SUCCESS)
}

/// Shows the node, once or for as long as the program runs.
fn run_collecting_command(config: Config) -> Result<ExitCode, AppError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (inputs, api) = sources::open_sources(&config)?;
    let collector = Collector::new(inputs);
    let timeout = config.stat_timeout;
    match &config.command {
        Some(Command::Metrics) => {
            let encoder = encoder(&collector, config.kubernetes.selections());
            runtime.block_on(print::metrics(collector, encoder, api, timeout))
        }
        Some(Command::Df { table, watch }) => {
            runtime.block_on(print::df(collector, api, timeout, table, *watch))
        }
        _ => runtime.block_on(serve(config, collector, api)).map(|()| ExitCode::SUCCESS),
    }
}

async fn serve(config: Config, collector: Collector, api: Option<ApiConnection>) -> Result<(), AppError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = listen(&config)?;
    let health = Arc::new(Health::default());
    let cancel = CancelHandle::default();
    let encoder = encoder(&collector, config.kubernetes.selections());
    let page = Page {
        node: config.kubernetes.node_name,
        fixture: config.fixture.map(|path| path.display().to_string()),
    };
    let scrapes = start_collecting(collector, encoder, page, &cancel, &health)?;
    let scrapes_of_clients = scrapes.clone();
    let scrape = move |request| scrapes_of_clients.scrape(request);
    let routes = Routes::new(scrape, config.stat_timeout, Arc::clone(&health));
    let stop = async {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(event = "stopping", signal, "stopping");
        // Scrapes that wait get what is measured by now.
        cancel.cancel();
    };
    tokio::select! {
        () = server::run(server::connections(listener), Arc::new(routes), Limits::for_this_process(), stop) => Ok(()),
        Err(error) = become_ready(&scrapes, config.stat_timeout, &health, api) => Err(error),
    }
}

/// An encoder that adds the program's own metrics, and those of the collector.
fn encoder(collector: &Collector, selections: Selections) -> Encoder {
    let mut registry = telemetry::registry();
    collector.register_metrics(&mut registry);
    Encoder::new(selections, registry)
}

type Scrapes = SingleFlight<Representation, SharedBody>;

/// Starts the thread that collects and encodes.
fn start_collecting(
    mut collector: Collector,
    mut encoder: Encoder,
    page: Page,
    cancel: &CancelHandle,
    health: &Arc<Health>,
) -> io::Result<Scrapes> {
    let (health, memory) = (Arc::clone(health), ResponseMemory::default());
    let collect = move |deadline: &Deadline, previous: Option<Duration>| {
        let snapshot = Snapshot { previous_total_time: previous, ..collector.collect(deadline) };
        if snapshot.has_answer() {
            health.has_collected.store(true, Ordering::Release);
            health.has_settled.fetch_or(snapshot.pending == 0, Ordering::Release);
        }
        encoder.prepare(snapshot)
    };
    let encode = move |series: &Series, representation| {
        memory.share(match representation {
            Representation::Metrics(encoding) => series.encode(encoding),
            Representation::Page { gzip } => page.write(series.as_ref(), gzip),
        })
    };
    SingleFlight::start(cancel.clone(), collect, encode)
}

/// Collects once, whether or not somebody scrapes, and waits for the metadata of the first volumes.
async fn become_ready(
    scrapes: &Scrapes,
    stat_timeout: Duration,
    health: &Health,
    api: Option<ApiConnection>,
) -> Result<(), AppError> {
    let started = Instant::now();
    collect_until_first_answer(scrapes, stat_timeout, health).await;
    if let Some(api) = &api {
        if !health.has_settled.load(Ordering::Acquire) {
            api.status.wait_until_answered(HOLD_BACK).await;
            collect_until_first_answer(scrapes, stat_timeout, health).await;
            // Volumes that came after the first collection may be held back still, and there may always be some.
            health.has_settled.store(true, Ordering::Release);
        }
        api.wait_if_required(started, REQUIRED_API_TIMEOUT).await?;
    }
    Ok(())
}

/// Collects until a source of measurements has answered.
async fn collect_until_first_answer(scrapes: &Scrapes, measuring: Duration, health: &Health) {
    // Nobody reads it: compressed, it takes the least memory.
    let representation = Representation::Metrics(Encoding { format: Format::Text, gzip: true });
    let mut delay = INITIAL_RETRY_DELAY;
    loop {
        let _ = scrapes.scrape(ScrapeRequest { measuring, representation }).await;
        if health.has_collected.load(Ordering::Acquire) {
            return;
        }
        tokio::time::sleep(delay).await;
        delay = (2 * delay).min(MAX_RETRY_DELAY);
    }
}

/// Opens the port, and logs what is served there.
fn listen(config: &Config) -> Result<TcpListener, AppError> {
    let ServingArgs { listen_host, listen_port: port } = &config.serving;
    let listener = server::listen(listen_host.as_deref(), *port).map_err(|error| {
        let host = listen_host.as_ref().map_or("all interfaces".into(), |addresses| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        });
        AppError::failure(format_args!(
            "cannot listen on {host} port {port}: {error}; choose another by --listen-host and --listen-port"
        ))
    })?;
    if let Some(fixture) = &config.fixture {
        tracing::warn!(event = "fixture_mode", fixture = %fixture.display(), "showing a recorded node, not this machine");
    }
    let (address, version) = (listener.local_addr()?, env!("CARGO_PKG_VERSION"));
    tracing::info!(event = "listening", %address, version, revision = crate::REVISION, "listening");
    Ok(listener)
}
