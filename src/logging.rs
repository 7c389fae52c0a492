//! The log: JSON lines on standard error, or lines for people.

use std::io;

use crate::config::LogConfig;

/// Logs from now on, panics too.
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
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let location = panic.location().map(ToString::to_string);
        let cause = panic.payload_as_str();
        tracing::error!(thread, location, cause, "a fault of this program; please report it");
    }));
}
