//! Arguments, log, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use disk_usage_exporter::app;
use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::logging;
use disk_usage_exporter::panics;

fn main() -> ExitCode {
    run().unwrap_or_else(|(message, code)| {
        // That nobody may read it changes nothing.
        let _ = writeln!(std::io::stderr(), "error: {message}");
        code
    })
}

fn run() -> Result<ExitCode, (String, ExitCode)> {
    let config = Config::try_from(Args::typed()).map_err(|error| (error.to_string(), ExitCode::from(2)))?;
    let log = logging::start(config.log);
    let _log = log.map_err(|error| (format!("cannot start the log: {error}"), ExitCode::FAILURE))?;
    panics::watch();
    app::run(config).map_err(|error| (error.to_string(), error.exit_code()))
}
