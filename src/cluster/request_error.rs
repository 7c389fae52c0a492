//! What can come of a request to the API server besides an object.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::client::{ResponseTooLong, RetryLater};
use crate::remote::{begin, chain};

/// A request that was not answered with what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// No response, or not all of it, in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Any error of the client, a status of the server included.
    #[error("{}", describe(.0))]
    Kube(#[source] Arc<kube::Error>),
    /// The response is about another object.
    #[error("an answer that cannot be understood: it is of {0:?}")]
    OtherObject(String),
    /// A watch that ended before it was of any use.
    #[error("cannot connect: the watch ended at once")]
    WatchEnded,
    /// A watch that expired right after it had started from the beginning.
    #[error("cannot connect: the watch expires again and again")]
    WatchExpired,
    /// The request panicked.
    #[error("a fault of this program; the log tells it")]
    Panicked,
}

/// What went wrong, by where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestErrorKind {
    Status(u16),
    Connect,
    Tls,
    Decode,
    Credentials,
}

impl RequestError {
    /// Its name in `disk_usage_exporter_kubernetes_requests_total`; `None` where there was no request.
    pub(super) fn code(&self) -> Option<String> {
        let code = match self {
            Self::Timeout(_) => "timeout",
            Self::WatchEnded | Self::WatchExpired => "connect",
            Self::OtherObject(_) => "decode",
            Self::Panicked => return None,
            Self::Kube(error) => match kind(error) {
                RequestErrorKind::Status(code) => return Some(code.to_string()),
                RequestErrorKind::Connect => "connect",
                RequestErrorKind::Tls => "tls",
                RequestErrorKind::Decode => "decode",
                RequestErrorKind::Credentials => return None,
            },
        };
        Some(code.to_owned())
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match kind(error) {
                RequestErrorKind::Status(code) => Some(code),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the server knows who asks, and says no.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status() == Some(403)
    }

    /// For how long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Self::Kube(error) = self else { return None };
        causes(&**error).find_map(|cause| cause.downcast_ref::<RetryLater>()).map(|later| later.after)
    }

    /// Whether the server may answer about other objects as before.
    pub(super) fn is_of_one_object(&self) -> bool {
        match self {
            Self::Panicked | Self::OtherObject(_) => true,
            Self::Kube(error) => match kind(error) {
                RequestErrorKind::Status(code) => code == 500 && self.retry_after().is_none(),
                kind => kind == RequestErrorKind::Decode,
            },
            Self::Timeout(_) | Self::WatchEnded | Self::WatchExpired => false,
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Arc::new(error))
    }
}

fn kind(error: &kube::Error) -> RequestErrorKind {
    match error {
        kube::Error::Api(status) if status.code != 0 => return RequestErrorKind::Status(status.code),
        kube::Error::Api(_)
        | kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::BuildRequest(_) => return RequestErrorKind::Decode,
        _ => {}
    }
    causes(error)
        .find_map(|cause| {
            if let Some(later) = cause.downcast_ref::<RetryLater>() {
                return Some(RequestErrorKind::Status(later.status));
            }
            let io = cause.downcast_ref::<io::Error>();
            // What is wrong with a handshake arrives as such an error, around the TLS library's own.
            let is_tls = io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData);
            let is_credentials =
                cause.is::<kube::client::AuthError>() || cause.is::<super::access::AccessError>();
            match () {
                () if cause.is::<ResponseTooLong>() => Some(RequestErrorKind::Decode),
                () if is_credentials => Some(RequestErrorKind::Credentials),
                () if is_tls => Some(RequestErrorKind::Tls),
                () => None,
            }
        })
        .unwrap_or(RequestErrorKind::Connect)
}

/// Whether an error of a connection is about the server's certificate.
pub(super) fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let is_invalid = |io: &io::Error| io.kind() == io::ErrorKind::InvalidData;
    causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_invalid))
}

/// An error and its causes. An I/O error that wraps another one names the causes of that one as its own.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

/// What a server says, or is quoted, is kept short.
fn describe(error: &kube::Error) -> String {
    let prefix = match (kind(error), error) {
        (RequestErrorKind::Status(code), kube::Error::Api(status)) => {
            return format!("HTTP status {code}: {}", begin(&status.message));
        }
        (RequestErrorKind::Status(_), _) => "",
        (RequestErrorKind::Connect, _) => "cannot connect: ",
        (RequestErrorKind::Tls, _) => "no TLS connection: ",
        (RequestErrorKind::Decode, _) => "an answer that cannot be understood: ",
        (RequestErrorKind::Credentials, _) => "no credentials: ",
    };
    let text = match error {
        kube::Error::Service(inner) => chain(&**inner),
        error => chain(error),
    };
    format!("{prefix}{}", begin(&text))
}
