//! What asking the kubelet can come to besides an answer, and what to do about it.

use std::error::Error;
use std::mem::discriminant;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::error_text::{causes, error_chain, truncated};
use crate::runtime::JobLost;

/// A request without an answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KubeletError {
    #[error("HTTP status {code}: {message}")]
    Status { code: u16, message: String },
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It could not be made, or it broke.
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no TLS connection: its certificate is signed by an authority that is not trusted here")]
    UnknownAuthority,
    #[error("no TLS connection: its certificate is for {presented}, and not for {wanted}")]
    OtherName { presented: String, wanted: String },
    #[error("no TLS connection: its certificate has expired")]
    Expired,
    #[error("no TLS connection: the kubelet has no serving certificate yet")]
    NoCertificate,
    /// Whoever signed it.
    #[error("no TLS connection: its certificate cannot be used: {0}")]
    UnusableCertificate(String),
    #[error("no TLS connection: the port does not speak TLS")]
    NotTls,
    #[error("no TLS connection: {0}")]
    Tls(String),
    #[error("an answer that cannot be understood: {0}")]
    Decode(String),
    /// There is nothing to check it with.
    #[error("its certificate cannot be checked: {0}")]
    Authority(String),
    #[error("the token in {0} is none")]
    Token(String),
    #[error("cannot look for the kubelet's own certificate: {0}")]
    Certificate(#[from] JobLost),
    #[error("the request panicked; the log has the message")]
    Panicked,
}

impl KubeletError {
    /// Of an answer that is no success.
    pub(super) fn of_status(code: u16, body: &[u8]) -> Self {
        let message = String::from_utf8_lossy(body);
        Self::Status { code, message: truncated(message.trim()) }
    }

    /// Of a connection; `wanted` are the names that would do.
    pub(super) fn of_connection(error: &(dyn Error + 'static), wanted: &str) -> Self {
        let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<TlsError>()) else {
            return Self::Connect(error_chain(error));
        };
        match tls {
            TlsError::InvalidCertificate(error) => Self::of_certificate(error, wanted),
            TlsError::AlertReceived(AlertDescription::InternalError) => Self::NoCertificate,
            TlsError::InvalidMessage(_) => Self::NotTls,
            other => Self::Tls(other.to_string()),
        }
    }

    /// The same where another name would have done too.
    pub(super) fn with_other_name(self, name: &str) -> Self {
        match self {
            Self::OtherName { presented, wanted } => {
                Self::OtherName { presented, wanted: format!("{name} or {wanted}") }
            }
            other => other,
        }
    }

    fn of_certificate(error: &CertificateError, wanted: &str) -> Self {
        let other_name = |presented| Self::OtherName { presented, wanted: wanted.into() };
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                other_name(presented.iter().map(|name| plain_name(name)).collect::<Vec<_>>().join(", "))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                other_name("other names".into())
            }
            other => Self::UnusableCertificate(other.to_string()),
        }
    }

    /// Whether the log need not tell both: what is to be done about them is the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Status { code: one, .. }, Self::Status { code: another, .. }) => one == another,
            _ => discriminant(self) == discriminant(other),
        }
    }

    /// What to do about it, where that can be told. `rbac_resource` is the one of the page.
    pub(super) fn remedy(&self, rbac_resource: &str) -> Option<String> {
        let remedy = match self {
            Self::Status { code: 401, .. } => {
                "the kubelet does not know who asks: is --token-path the service account's token?"
            }
            Self::Status { code: 403, .. } => {
                return Some(format!(
                    "give the service account the right `get` on `{rbac_resource}`, as manifests/overlays/kubelet-only does"
                ));
            }
            Self::Status { code: 400, message } if message.contains("HTTPS") => {
                "write https:// in --kubelet-endpoint"
            }
            Self::Connect(_) | Self::Timeout(_) => {
                "is --kubelet-endpoint the node's own address, as manifests/overlays/kubelet-only gives it?"
            }
            Self::UnknownAuthority => {
                "if the kubelet made its certificate itself, give the last block of pki/kubelet.crt in its directory by \
                 --kubelet-ca-file, or mount the node's root file system and name that directory by --kubelet-root, if it \
                 is not /var/lib/kubelet; if an authority of your own signed it, give \
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
            Self::UnusableCertificate(_) => {
                "give the kubelet another (tlsCertFile), or let the cluster sign it (serverTLSBootstrap); \
                 --insecure-skip-tls-verify takes any"
            }
            Self::NotTls => "for the kubelet's read-only port write http:// in --kubelet-endpoint",
            Self::Authority(_) => "give --kubelet-ca-file, or --insecure-skip-tls-verify",
            Self::Status { .. }
            | Self::Tls(_)
            | Self::Decode(_)
            | Self::Token(_)
            | Self::Certificate(_)
            | Self::Panicked => {
                return None;
            }
        };
        Some(remedy.into())
    }
}

/// `node-1` for `DnsName("node-1")`, as the TLS library prints it.
fn plain_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn whatever_is_wrong_with_a_certificate_there_is_something_to_do() {
        let certificate = |error| {
            let error = io::Error::other(TlsError::InvalidCertificate(error));
            KubeletError::of_connection(&error, "node-1")
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
            assert!(failure.remedy("nodes/stats").is_some(), "{failure}");
        }
        let one = certificate(CertificateError::UnknownIssuer);
        assert!(one.is_like(&certificate(CertificateError::BadSignature)));
        assert!(!one.is_like(&certificate(CertificateError::Expired)));
    }

    #[test]
    fn names_in_a_certificate_are_printed_plainly() {
        let names = [r#"DnsName("node-1")"#, "IpAddress(10.0.0.1)", "node-2"].map(plain_name);
        assert_eq!(names, ["node-1", "10.0.0.1", "node-2"]);
    }
}
