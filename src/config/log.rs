//! What is logged, and how.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use tracing::level_filters::LevelFilter;

use super::values::flag;

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct LogArgs {
    /// Least severity that is logged: trace, debug, info, warn or warning, error, critical, fatal [default: info; df and metrics: warn].
    #[arg(long, env = "DISK_USAGE_EXPORTER_LOG_LEVEL", value_name = "LEVEL", ignore_case = true, value_parser = log_level())]
    pub log_level: Option<LevelFilter>,

    /// The same as --log-level=debug.
    #[arg(long, env = "DISK_USAGE_EXPORTER_DEBUG", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = flag, action = ArgAction::Set)]
    pub debug: bool,

    /// Log lines for people instead of JSON lines [default: false; df: true].
    #[arg(long, env = "DISK_USAGE_EXPORTER_LOG_HUMAN", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flag, action = ArgAction::Set)]
    pub log_human: Option<bool>,
}

/// The minimum log level. `critical` and `fatal` are levels of Python's loggers.
fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    let names = [
        PossibleValue::new("trace"),
        PossibleValue::new("debug"),
        PossibleValue::new("info"),
        PossibleValue::new("warn").alias("warning"),
        PossibleValue::new("error").aliases(["critical", "fatal"]),
    ];
    PossibleValuesParser::new(names).try_map(|name| match name.to_ascii_lowercase().as_str() {
        "warning" => Ok(LevelFilter::WARN),
        "critical" | "fatal" => Ok(LevelFilter::ERROR),
        name => name.parse(),
    })
}

/// What is logged, and how: checked.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// The minimum level.
    pub level: LevelFilter,
    /// Lines for people instead of JSON.
    pub human: bool,
}

impl LogArgs {
    /// The defaults of commands that print keep a terminal readable: warnings alone, and for `df` as lines for people.
    pub(super) fn check(&self, is_printing: bool, is_df: bool) -> LogConfig {
        let default = if is_printing { LevelFilter::WARN } else { LevelFilter::INFO };
        let level = self.log_level.unwrap_or(default);
        LogConfig {
            level: if self.debug { level.max(LevelFilter::DEBUG) } else { level },
            human: self.log_human.unwrap_or(is_df),
        }
    }
}
