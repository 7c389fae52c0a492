//! Arguments, log, run, exit code.

use std::process::ExitCode;

use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::{app, logging};

fn main() -> ExitCode {
    let config = match Config::try_from(Args::typed()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    logging::start(config.log);
    match app::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}
