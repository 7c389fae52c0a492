//! Printing, instead of serving.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::Cluster;
use super::error::AppError;
use super::exporter::Exporter;
use crate::collect::Collector;
use crate::config::DfArgs;
use crate::df::Report;
use crate::exposition::{Encoding, Format};
use crate::runtime::Deadline;
use crate::snapshot::Snapshot;

/// How long the API server and the kubelet are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// `df --over` has found a volume: neither success nor a failure of the program's.
const FOUND: u8 = 3;
/// What makes a terminal go to its first line and empty it all.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// One exposition.
pub(super) async fn metrics(
    mut exporter: Exporter,
    cluster: Option<Cluster>,
    stat_timeout: Duration,
) -> Result<ExitCode, AppError> {
    let snapshot = first(&mut exporter.collector, cluster, stat_timeout).await?;
    let series = exporter.prepare(snapshot, None);
    for chunk in series.encode(Encoding { format: Format::Text, gzip: false }) {
        if !print(&chunk)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One table, or one after the other.
pub(super) async fn df(
    mut collector: Collector,
    cluster: Option<Cluster>,
    stat_timeout: Duration,
    args: &DfArgs,
) -> Result<ExitCode, AppError> {
    let settings = args.settings();
    let is_terminal = io::stdout().is_terminal();
    let has_colours = is_terminal && DfArgs::may_colour();
    let before = if is_terminal && args.watch.is_some() { CLEAR } else { "" };
    let mut snapshot = first(&mut collector, cluster, stat_timeout).await?;
    if !snapshot.has_answer() {
        return Err(AppError::NoFigures);
    }
    loop {
        let report = Report::new(&snapshot, &settings);
        let is_read = print((before.to_owned() + &report.text(has_colours)).as_bytes())?;
        for note in report.notes() {
            // That nobody may read it changes nothing.
            let _ = writeln!(io::stderr(), "{note}");
        }
        let Some(pause) = args.watch.filter(|_| is_read) else {
            return Ok(if report.is_over() { ExitCode::from(FOUND) } else { ExitCode::SUCCESS });
        };
        tokio::time::sleep(pause).await;
        snapshot = collector.collect(&Deadline::after(stat_timeout));
    }
}

/// A snapshot of all that the sources tell within their time.
async fn first(
    collector: &mut Collector,
    cluster: Option<Cluster>,
    stat_timeout: Duration,
) -> Result<Snapshot, AppError> {
    let started = Instant::now();
    let deadline = Deadline::after(stat_timeout);
    let snapshot = collector.collect(&deadline);
    let is_answered = collector.wait_for_kubelet(&deadline);
    if is_answered && cluster.is_none() {
        return Ok(snapshot);
    }
    collector.wait_for_kubelet(&deadline.at(started + PATIENCE));
    if let Some(cluster) = cluster {
        let started = Instant::now();
        cluster.api.settled().await;
        cluster.reached(started, PATIENCE).await?;
    }
    Ok(collector.collect(&Deadline::after(stat_timeout)))
}

/// Writes to standard output; whether it is still read.
pub(super) fn print(text: &[u8]) -> Result<bool, AppError> {
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).map_err(AppError::Output),
    }
}
