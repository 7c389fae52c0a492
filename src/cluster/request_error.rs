//! Failed requests to the API server.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kube::client::AuthError;

use super::access::AccessError;
use crate::error_text::{causes, error_chain, truncated};
use crate::input_limits::BodyTooLong;

/// The server wants to be asked later.
#[derive(Debug, thiserror::Error)]
#[error("asked to try again after {after:?}")]
pub(super) struct RetryLater {
    pub(super) status: u16,
    pub(super) after: Duration,
}

/// A request that was not answered with what it asked for. Texts of a server are truncated.
#[expect(missing_docs, reason = "each message says it")]
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    #[error("HTTP status {code}: {text}")]
    Status {
        code: u16,
        text: String,
        /// For how long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    #[error("{0}")]
    Timeout(&'static str),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no TLS connection: {0}")]
    Tls(String),
    #[error("an answer that cannot be understood: {0}")]
    Decode(String),
    #[error("no credentials: {0}")]
    Credentials(String),
}

impl RequestError {
    /// Its name in `disk_usage_exporter_kubernetes_requests_total`; `None` where there was no request.
    pub(super) fn code(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Status { code, .. } => code.to_string().into(),
            Self::Timeout(_) => "timeout".into(),
            Self::Connect(_) => "connect".into(),
            Self::Tls(_) => "tls".into(),
            Self::Decode(_) => "decode".into(),
            Self::Credentials(_) => return None,
        })
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }

    pub(super) fn is_status(&self, status: u16) -> bool {
        matches!(self, Self::Status { code, .. } if *code == status)
    }

    /// Whether the server knows who asks, and says no.
    pub(super) fn is_forbidden(&self) -> bool {
        self.is_status(403)
    }

    /// Whether the server may answer about other objects as before.
    pub(super) fn is_of_one_object(&self) -> bool {
        matches!(self, Self::Status { code: 500, retry_after: None, .. } | Self::Decode(_))
    }

    fn of_connection(error: &(dyn Error + 'static)) -> Self {
        let text = truncated(&error_chain(error));
        if let Some(later) = causes(error).find_map(|cause| cause.downcast_ref::<RetryLater>()) {
            Self::Status { code: later.status, text, retry_after: Some(later.after) }
        } else if causes(error).any(<dyn Error>::is::<BodyTooLong>) {
            Self::Decode(text)
        } else if causes(error).any(|cause| cause.is::<Arc<AccessError>>() || cause.is::<AuthError>()) {
            Self::Credentials(text)
        } else if is_tls(error) {
            Self::Tls(text)
        } else {
            Self::Connect(text)
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code != 0 => {
                Self::Status { code: status.code, text: truncated(&status.message), retry_after: None }
            }
            kube::Error::Api(status) => Self::Decode(truncated(&status.message)),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::BuildRequest(_) => {
                Self::Decode(truncated(&error_chain(&error)))
            }
            kube::Error::Service(error) => Self::of_connection(&**error),
            error => Self::of_connection(error),
        }
    }
}

/// Whether an error of a connection is about the server's certificate. What is wrong with a handshake arrives as such an I/O
/// error, around the TLS library's own.
pub(super) fn is_tls(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::InvalidData)
}
