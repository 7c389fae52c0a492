//! The log: JSON lines on standard error, or lines for people.

mod lines;

use std::io;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogConfig;
pub use lines::Flush;
use lines::Lines;

/// Logs from now on, until what is returned is dropped.
///
/// # Errors
///
/// If the system gives no thread for it.
pub fn start(config: LogConfig) -> io::Result<Flush> {
    let (lines, flush) = Lines::start(io::stderr())?;
    let builder =
        tracing_subscriber::fmt().with_max_level(config.level).with_writer(lines).log_internal_errors(false);
    // kube logs whole answers of the API server, which this program reports in short.
    let targets =
        Targets::new().with_default(LevelFilter::TRACE).with_target("kube_client", LevelFilter::OFF);
    if config.human {
        builder.with_ansi(false).with_target(false).finish().with(targets).init();
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_target(false)
            .finish()
            .with(targets)
            .init();
    }
    Ok(flush)
}

/// Counts lines that are lost because nobody reads the log.
#[must_use]
pub fn lost_lines() -> Counter {
    lines::LOST.clone()
}
