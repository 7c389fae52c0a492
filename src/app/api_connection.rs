//! The API server, and whether the program can do without it.

use std::time::{Duration, Instant};

use super::error::AppError;
use crate::cluster::ApiStatus;

/// The API server that metadata comes from.
pub(super) struct ApiConnection {
    pub(super) status: ApiStatus,
    /// `--kubernetes=required`.
    pub(super) is_required: bool,
}

impl ApiConnection {
    /// Waits for a first answer of a server that is required, within a time that began at `started`. Where nothing is
    /// mounted, nothing is requested and nothing is missing.
    ///
    /// # Errors
    ///
    /// If the server could not be reached by then.
    pub(super) async fn wait_if_required(&self, started: Instant, within: Duration) -> Result<(), AppError> {
        if !self.is_required {
            return Ok(());
        }
        match self.status.wait_until_reached(within.saturating_sub(started.elapsed())).await {
            Err(Some(failure)) => Err(AppError::Unreachable { within, failure }),
            Err(None) | Ok(()) => Ok(()),
        }
    }
}
