//! The log: JSON lines on standard error, or lines for people.

use std::io;

use crate::config::LogConfig;

/// Logs from now on.
pub fn start(config: LogConfig) {
    // Nobody may read the log: that is no reason to end.
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    if config.human {
        builder.with_ansi(false).with_target(false).init();
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_target(false)
            .init();
    }
}
