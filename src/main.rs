//! Arguments, log, run, exit code.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use disk_usage_exporter::app;
use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::logging;
use disk_usage_exporter::panics;

fn main() -> ExitCode {
    let config = match Config::try_from(Args::typed()) {
        Ok(config) => config,
        Err(error) => {
            say(&error);
            return ExitCode::from(2);
        }
    };
    let _log = match logging::start(config.log) {
        Ok(log) => log,
        Err(error) => {
            say(&format_args!("cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    panics::watch();
    match app::run(config) {
        Ok(code) => code,
        Err(error) => {
            say(&error);
            error.exit_code()
        }
    }
}

/// The cause of the end; that nobody may read it changes nothing.
fn say(error: &impl Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
}
