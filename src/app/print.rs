//! Printing, instead of serving.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::error::AppError;
use super::sources::ApiConnection;
use crate::collect::{Collector, HOLD_BACK};
use crate::exposition::{Encoder, Encoding, Format};
use crate::report::{Table, TableOptions};
use crate::runtime::Deadline;
use crate::snapshot::Snapshot;

/// How long the API server and the kubelet are waited for.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// `df --over` has found a volume: neither success nor a failure of the program's.
const EXIT_OVER_THRESHOLD: u8 = 3;
/// What makes a terminal go to its first line and empty it all.
const ANSI_CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// One exposition.
pub(super) async fn metrics(
    mut collector: Collector,
    mut encoder: Encoder,
    api: Option<ApiConnection>,
    stat_timeout: Duration,
) -> Result<ExitCode, AppError> {
    let snapshot = first_complete_snapshot(&mut collector, api, stat_timeout).await?;
    let series = encoder.prepare(snapshot);
    for chunk in series.encode(Encoding { format: Format::Text, gzip: false }) {
        if !write_stdout(&chunk)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One table, or one after the other.
pub(super) async fn df(
    mut collector: Collector,
    api: Option<ApiConnection>,
    stat_timeout: Duration,
    options: &TableOptions,
    watch: Option<Duration>,
) -> Result<ExitCode, AppError> {
    let is_terminal = io::stdout().is_terminal();
    let has_colours = is_terminal && may_colour();
    let before = if is_terminal && watch.is_some() { ANSI_CLEAR_SCREEN } else { "" };
    let mut snapshot = first_complete_snapshot(&mut collector, api, stat_timeout).await?;
    if !snapshot.has_answer() {
        return Err(AppError::failure(
            "no source of figures has answered; the log above, or --log-level=debug, says why",
        ));
    }
    loop {
        let table = Table::new(&snapshot, options);
        let is_read = write_stdout((before.to_owned() + &table.text(has_colours)).as_bytes())?;
        for notice in &table.notices {
            // A closed standard error is no reason to fail.
            let _ = writeln!(io::stderr(), "{notice}");
        }
        let Some(pause) = watch.filter(|_| is_read) else {
            return Ok(if table.is_over() { ExitCode::from(EXIT_OVER_THRESHOLD) } else { ExitCode::SUCCESS });
        };
        tokio::time::sleep(pause).await;
        snapshot = collector.collect(&Deadline::after(stat_timeout));
    }
}

/// Whether a terminal may be coloured, as <https://no-color.org> has it, and knows colours.
fn may_colour() -> bool {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_wanted && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// A snapshot of all that the sources tell within their time.
async fn first_complete_snapshot(
    collector: &mut Collector,
    api: Option<ApiConnection>,
    stat_timeout: Duration,
) -> Result<Snapshot, AppError> {
    let started = Instant::now();
    let deadline = Deadline::after(stat_timeout);
    let snapshot = collector.collect(&deadline);
    let is_answered = collector.wait_for_kubelet(&deadline);
    if is_answered && api.is_none() {
        return Ok(snapshot);
    }
    collector.wait_for_kubelet(&deadline.at(started + SOURCE_TIMEOUT));
    if let Some(api) = api {
        let started = Instant::now();
        api.status.wait_until_answered(HOLD_BACK).await;
        api.wait_if_required(started, SOURCE_TIMEOUT).await?;
    }
    Ok(collector.collect(&Deadline::after(stat_timeout)))
}

/// Writes to standard output; whether it is still read.
pub(super) fn write_stdout(text: &[u8]) -> Result<bool, AppError> {
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(AppError::failure(format_args!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(true),
    }
}
