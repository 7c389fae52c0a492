//! What can come of a request to the API server besides an object.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::access::AccessError;
use super::client::{ResponseTooLong, RetryLater};
use crate::error_text::{error_chain, truncated};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestErrorKind {
    Status(u16),
    Timeout,
    Connect,
    Tls,
    Decode,
    Credentials,
    Panic,
}

/// A request that was not answered with what it asked for.
#[derive(Debug, Clone)]
pub struct RequestError {
    pub(super) kind: RequestErrorKind,
    /// For how long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    source: Option<Arc<kube::Error>>,
    note: &'static str,
}

impl RequestError {
    /// An error that the client does not know.
    pub(super) fn new(kind: RequestErrorKind, note: &'static str) -> Self {
        Self { kind, retry_after: None, source: None, note }
    }

    /// Its name in `disk_usage_exporter_kubernetes_requests_total`; `None` where there was no request.
    pub(super) fn code(&self) -> Option<String> {
        Some(match self.kind {
            RequestErrorKind::Status(code) => code.to_string(),
            RequestErrorKind::Timeout => "timeout".into(),
            RequestErrorKind::Connect => "connect".into(),
            RequestErrorKind::Tls => "tls".into(),
            RequestErrorKind::Decode => "decode".into(),
            RequestErrorKind::Credentials | RequestErrorKind::Panic => return None,
        })
    }

    /// Whether the server knows who asks, and says no.
    pub(super) fn is_forbidden(&self) -> bool {
        self.kind == RequestErrorKind::Status(403)
    }

    /// Whether the server may answer about other objects as before.
    pub(super) fn is_of_one_object(&self) -> bool {
        use RequestErrorKind::{Decode, Panic, Status};
        self.retry_after.is_none() && matches!(self.kind, Status(500) | Decode | Panic)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RequestErrorKind::Status(code) => write!(formatter, "HTTP status {code}: ")?,
            RequestErrorKind::Timeout | RequestErrorKind::Panic => {}
            RequestErrorKind::Connect => formatter.write_str("cannot connect: ")?,
            RequestErrorKind::Tls => formatter.write_str("no TLS connection: ")?,
            RequestErrorKind::Decode => formatter.write_str("an answer that cannot be understood: ")?,
            RequestErrorKind::Credentials => formatter.write_str("no credentials: ")?,
        }
        // What a server says, or is quoted, is kept short.
        formatter.write_str(&match self.source.as_deref() {
            None => self.note.to_owned(),
            Some(kube::Error::Api(status)) => truncated(&status.message),
            Some(kube::Error::Service(error)) => truncated(&error_chain(&**error)),
            Some(error) => truncated(&error_chain(error)),
        })
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|error| error as _)
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
        Self { kind, retry_after: later.map(|later| later.after), source: Some(Arc::new(error)), note: "" }
    }
}

fn kind_of_cause(cause: &(dyn Error + 'static)) -> Option<RequestErrorKind> {
    if cause.is::<ResponseTooLong>() {
        return Some(RequestErrorKind::Decode);
    }
    if cause.is::<AccessError>() || cause.is::<kube::client::AuthError>() {
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

/// An error and its causes. An I/O error that wraps another one names the causes of that one as its own.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
