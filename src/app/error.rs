//! Why the program ends.

use std::fmt::Display;
use std::io;

/// Why the program ends: what happened and what to do, and its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AppError {
    message: String,
    /// 2 for a setting that cannot be used, 1 for everything else.
    pub exit_code: u8,
}

impl AppError {
    /// A setting that cannot be used.
    pub fn setting(message: impl Display) -> Self {
        Self { message: message.to_string(), exit_code: 2 }
    }

    pub(super) fn failure(message: impl Display) -> Self {
        Self { message: message.to_string(), exit_code: 1 }
    }
}

impl From<io::Error> for AppError {
    fn from(error: io::Error) -> Self {
        Self::failure(format_args!("cannot start: {error}"))
    }
}
