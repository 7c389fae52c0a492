//! Failed requests to the API server.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

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

/// The kind of a failure, displayed as the prefix of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestErrorKind {
    #[error("HTTP status {0}: ")]
    Status(u16),
    #[error("")]
    Timeout,
    #[error("cannot connect: ")]
    Connect,
    #[error("no TLS connection: ")]
    Tls,
    #[error("an answer that cannot be understood: ")]
    Decode,
    #[error("no credentials: ")]
    Credentials,
}

/// A request that was not answered with what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
// The text of a server is truncated.
#[error("{kind}{}", truncated(&self.text()))]
pub struct RequestError {
    pub(super) kind: RequestErrorKind,
    /// For how long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    #[source]
    source: Arc<dyn Error + Send + Sync>,
}

impl RequestError {
    /// An error that the client does not know.
    pub(super) fn new(kind: RequestErrorKind, text: &'static str) -> Self {
        Self { kind, retry_after: None, source: Arc::from(Box::<dyn Error + Send + Sync>::from(text)) }
    }

    fn text(&self) -> String {
        match self.source.downcast_ref() {
            Some(kube::Error::Api(status)) => status.message.clone(),
            Some(kube::Error::Service(error)) => error_chain(&**error),
            _ => error_chain(&*self.source),
        }
    }

    /// Its name in `disk_usage_exporter_kubernetes_requests_total`; `None` where there was no request.
    pub(super) fn code(&self) -> Option<Cow<'static, str>> {
        Some(match self.kind {
            RequestErrorKind::Status(code) => code.to_string().into(),
            RequestErrorKind::Timeout => "timeout".into(),
            RequestErrorKind::Connect => "connect".into(),
            RequestErrorKind::Tls => "tls".into(),
            RequestErrorKind::Decode => "decode".into(),
            RequestErrorKind::Credentials => return None,
        })
    }

    /// Whether the server knows who asks, and says no.
    pub(super) fn is_forbidden(&self) -> bool {
        self.kind == RequestErrorKind::Status(403)
    }

    /// Whether the server may answer about other objects as before.
    pub(super) fn is_of_one_object(&self) -> bool {
        let kinds = [RequestErrorKind::Status(500), RequestErrorKind::Decode];
        self.retry_after.is_none() && kinds.contains(&self.kind)
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        let later = causes(&error).find_map(|cause| cause.downcast_ref::<RetryLater>());
        let kind = match &error {
            kube::Error::Api(status) if status.code != 0 => RequestErrorKind::Status(status.code),
            kube::Error::Api(_)
            | kube::Error::SerdeError(_)
            | kube::Error::FromUtf8(_)
            | kube::Error::BuildRequest(_) => RequestErrorKind::Decode,
            error => match later {
                Some(later) => RequestErrorKind::Status(later.status),
                None => causes(error).find_map(kind_of_cause).unwrap_or(RequestErrorKind::Connect),
            },
        };
        Self { kind, retry_after: later.map(|later| later.after), source: Arc::new(error) }
    }
}

fn kind_of_cause(cause: &(dyn Error + 'static)) -> Option<RequestErrorKind> {
    if cause.is::<BodyTooLong>() {
        return Some(RequestErrorKind::Decode);
    }
    if cause.is::<Arc<AccessError>>() || cause.is::<kube::client::AuthError>() {
        return Some(RequestErrorKind::Credentials);
    }
    // What is wrong with a handshake arrives as such an error, around the TLS library's own.
    let is_tls = |io: &io::Error| io.kind() == io::ErrorKind::InvalidData;
    cause.downcast_ref::<io::Error>().is_some_and(is_tls).then_some(RequestErrorKind::Tls)
}

/// Whether an error of a connection is about the server's certificate.
pub(super) fn is_tls(error: &(dyn Error + 'static)) -> bool {
    causes(error).find_map(kind_of_cause) == Some(RequestErrorKind::Tls)
}
