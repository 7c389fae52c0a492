//! What asking the kubelet can come to besides an answer, and what to do about it.

use std::io;
use std::mem::discriminant;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::path::KubeletPath;
use crate::error_text::{error_chain, truncated};

/// A request without an answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KubeletError {
    /// The answer is no success.
    #[error("HTTP status {code}: {message}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// What the kubelet says about it.
        message: String,
    },
    /// No answer, or not all of it, in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection, or one that broke.
    #[error("no connection: {0}")]
    Connect(String),
    /// No handshake.
    #[error("no TLS connection: {0}")]
    Tls(Handshake),
    /// The answer is not what a kubelet answers.
    #[error("an answer that cannot be understood: {0}")]
    Decode(String),
    /// There is nothing to check its certificate with.
    #[error("its certificate cannot be checked: {0}")]
    Authority(String),
    /// The file's content cannot be a token.
    #[error("the token in {0} is none")]
    Token(String),
    /// A bug of this program.
    #[error("the request panicked; the log has the message")]
    Panicked,
}

/// The situations that a handshake can meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Handshake {
    /// Signed by nobody who is trusted.
    #[error("its certificate is signed by an authority that is not trusted here")]
    UnknownAuthority,
    /// Not of this name.
    #[error("its certificate is for {presented}, and not for {wanted}")]
    OtherName {
        /// The names in it.
        presented: String,
        /// The names that would do.
        wanted: String,
    },
    /// Too old.
    #[error("its certificate has expired")]
    Expired,
    /// It has none yet.
    #[error("the kubelet has no serving certificate yet")]
    NoCertificate,
    /// Of no use, whoever signed it.
    #[error("its certificate cannot be used: {0}")]
    Unusable(String),
    /// Something else listens there.
    #[error("the port does not speak TLS")]
    NotTls,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl KubeletError {
    /// Of an answer that is no success.
    pub(super) fn of_status(code: u16, body: &[u8]) -> Self {
        let message = String::from_utf8_lossy(body);
        Self::Status { code, message: truncated(message.trim()) }
    }

    /// Of a handshake; `wanted` are the names that would do.
    pub(super) fn of_handshake(error: &io::Error, wanted: &str) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Connect(error_chain(error));
        };
        Self::Tls(match tls {
            TlsError::InvalidCertificate(error) => Handshake::of_certificate(error, wanted),
            TlsError::AlertReceived(AlertDescription::InternalError) => Handshake::NoCertificate,
            TlsError::InvalidMessage(_) => Handshake::NotTls,
            other => Handshake::Other(other.to_string()),
        })
    }

    /// Whether the log need not tell both: what is to be done about them is the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Status { code: one, .. }, Self::Status { code: another, .. }) => one == another,
            (Self::Tls(one), Self::Tls(another)) => discriminant(one) == discriminant(another),
            _ => discriminant(self) == discriminant(other),
        }
    }

    /// What to do about it, where that can be told.
    pub(super) fn remedy(&self, path: KubeletPath) -> Option<String> {
        Some(match self {
            Self::Status { code: 401, .. } => {
                "the kubelet does not know who asks: is --token-path the service account's token?".into()
            }
            Self::Status { code: 403, .. } => format!(
                "give the service account the right `get` on `{}`, as manifests/overlays/kubelet-only does",
                path.rbac_resource()
            ),
            Self::Status { code: 400, message } if message.contains("HTTPS") => {
                "write https:// in --kubelet-endpoint".into()
            }
            Self::Connect(_) | Self::Timeout(_) => {
                "is --kubelet-endpoint the node's own address, as manifests/overlays/kubelet-only gives it?"
                    .into()
            }
            Self::Tls(handshake) => handshake.remedy()?.into(),
            Self::Authority(_) => "give --kubelet-ca-file, or --insecure-skip-tls-verify".into(),
            _ => return None,
        })
    }
}

impl Handshake {
    fn of_certificate(error: &CertificateError, wanted: &str) -> Self {
        let other_name = |presented: &[String]| Self::OtherName {
            presented: if presented.is_empty() { "other names".into() } else { presented.join(", ") },
            wanted: wanted.into(),
        };
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidForName => other_name(&[]),
            CertificateError::NotValidForNameContext { presented, .. } => other_name(presented),
            other => Self::Unusable(other.to_string()),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownAuthority => {
                "if the kubelet made its certificate itself, give the last block of pki/kubelet.crt in its directory by \
                 --kubelet-ca-file, or mount the node's root file system; if an authority of your own signed it, give \
                 that authority's certificate; or let the cluster sign it (serverTLSBootstrap); \
                 --insecure-skip-tls-verify takes any"
            }
            Self::OtherName { .. } => {
                "give one of its names by --kubelet-server-name, or the node's by --node-name or NODE_NAME"
            }
            Self::Expired => {
                "a certificate that the kubelet made itself lasts a year and is not renewed: remove pki/kubelet.crt and \
                 pki/kubelet.key in its directory and restart it, or let the cluster sign it (serverTLSBootstrap)"
            }
            Self::NoCertificate => {
                "approve its certificate signing request: `kubectl get csr`, `kubectl certificate approve`"
            }
            Self::Unusable(_) => {
                "give the kubelet another (tlsCertFile), or let the cluster sign it (serverTLSBootstrap); \
                 --insecure-skip-tls-verify takes any"
            }
            Self::NotTls => "for the kubelet's read-only port write http:// in --kubelet-endpoint",
            Self::Other(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wrong_with_a_certificate_there_is_something_to_do() {
        let certificate = |error| {
            let error = io::Error::other(TlsError::InvalidCertificate(error));
            KubeletError::of_handshake(&error, "node-1")
        };
        for error in [
            CertificateError::UnknownIssuer,
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::NotValidForName,
            CertificateError::InvalidPurpose,
            CertificateError::BadEncoding,
        ] {
            let failure = certificate(error);
            assert!(failure.remedy(KubeletPath::Summary).is_some(), "{failure}");
        }
        let one = certificate(CertificateError::UnknownIssuer);
        assert!(one.is_like(&certificate(CertificateError::BadSignature)));
        assert!(!one.is_like(&certificate(CertificateError::Expired)));
    }
}
