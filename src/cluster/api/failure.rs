//! What a request to the API server can come to besides an answer, and where it says so.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hyper::header::{HeaderMap, RETRY_AFTER};

use crate::remote::{ReadError, begin, chain};

/// Longer than this no server's `Retry-After` is believed.
const MOST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// A request without an answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The server's answer is no success.
    #[error("HTTP status {code}: {message}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// What the server says about it.
        message: String,
        /// When to ask again at the earliest.
        retry_after: Option<Duration>,
    },
    /// No answer, or not all of it, in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection, or one that broke.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The server is not the one that is trusted, or does not speak TLS.
    #[error("no TLS connection: {0}")]
    Tls(String),
    /// The answer is not what Kubernetes answers.
    #[error("an answer that cannot be understood: {0}")]
    Decode(String),
    /// There is nothing to ask with: a kubeconfig, token file or credential plugin that fails.
    #[error("no credentials: {0}")]
    Credentials(String),
}

impl Failure {
    /// Of an answer that is not what was to be expected; what says so may quote all of it.
    pub(super) fn decode(error: impl fmt::Display) -> Self {
        Self::Decode(begin(&error.to_string()))
    }

    /// Its name in `disk_usage_exporter_kubernetes_requests_total`; `None` where there was no request.
    pub(super) fn code(&self) -> Option<String> {
        Some(match self {
            Self::Status { code, .. } => code.to_string(),
            Self::Timeout(_) => "timeout".into(),
            Self::Connect(_) => "connect".into(),
            Self::Tls(_) => "tls".into(),
            Self::Decode(_) => "decode".into(),
            Self::Credentials(_) => return None,
        })
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether it is an answer all the same: the server knows who asks, and says no.
    pub(super) fn is_answer(&self) -> bool {
        self.status() == Some(403)
    }

    /// When the server wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether only this one object may be what fails, and others can be asked as before.
    pub(super) fn is_of_one_object(&self) -> bool {
        match self {
            Self::Status { code, retry_after, .. } => *code == 500 && retry_after.is_none(),
            Self::Decode(_) => true,
            _ => false,
        }
    }

    /// Of an answer that could not be read to its end.
    pub(super) fn of_reading(error: ReadError) -> Self {
        match error {
            ReadError::Broken(text) => Self::Connect(text),
            ReadError::TooLong(_) | ReadError::Fault(_) => Self::Decode(error.to_string()),
        }
    }

    /// Of an error anywhere between here and the server.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let text = chain(error);
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<kube::client::AuthError>() {
                return Self::Credentials(text);
            }
            let io = error.downcast_ref::<io::Error>();
            // What is wrong with a handshake arrives as such an error, around the TLS library's own.
            if io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData) {
                return Self::Tls(text);
            }
            // One that wraps another says that it is the other: the other would be passed over.
            let wrapped = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
            cause = wrapped.or_else(|| error.source());
        }
        Self::Connect(text)
    }
}

/// The seconds of a `Retry-After`; a date is what Kubernetes never sends.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MOST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_causes() {
        let broken = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        assert!(matches!(Failure::of(&broken), Failure::Connect(text) if text == "refused"));
        let handshake = io::Error::new(io::ErrorKind::InvalidData, "unknown issuer");
        let outer = io::Error::other(handshake);
        assert!(matches!(Failure::of(&outer), Failure::Tls(text) if text == "unknown issuer"));
    }

    #[test]
    fn a_server_may_ask_for_a_pause_but_not_for_ever() {
        let asked = |value: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]));
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("99999999"), Some(MOST_RETRY_AFTER));
        assert_eq!(asked("-1"), None);
        assert_eq!(asked("Mon, 23 Nov 2026 00:00:00 GMT"), None);
    }
}
