//! Arguments, log, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use disk_usage_exporter::app::{self, AppError};
use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::{logging, panics};

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // That nobody may read it changes nothing.
        let _ = writeln!(std::io::stderr(), "error: {error}");
        error.exit_code.into()
    })
}

fn run() -> Result<ExitCode, AppError> {
    let args = Args::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let config = Config::try_from(args).map_err(AppError::setting)?;
    let _log = logging::start(config.log)?;
    panics::watch();
    app::run(config)
}
