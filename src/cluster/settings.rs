//! What the API server is asked for, and whether it can be reached.

use std::time::Duration;

use super::request_error::RequestError;
use crate::volume::Selections;

/// What to ask the API server for.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Whose pods; `None` where it is not known.
    pub node_name: Option<String>,
    /// How old what is known of an object may get.
    pub label_refresh: Duration,
    /// Which labels are used.
    pub selections: Selections,
}

/// Whether the API server was reached, if only for a no, and its last failure.
pub(super) type ServerStatus = (bool, Option<RequestError>);
