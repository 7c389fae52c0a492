//! Why the kubelet gave no answer that can be used, and what to do about it.

use std::error::Error;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::error_text::{causes, error_chain, truncated};

const ENDPOINT_REMEDY: &str =
    "is --kubelet-endpoint the node's own address, as manifests/overlays/kubelet-only gives it?";
const OTHER_NAME: &str = "no TLS connection: its certificate is for";

/// A request without an answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{detail}")]
pub(super) struct KubeletError {
    /// The log need not tell two errors of one kind: what is to be done about them is the same.
    pub(super) kind: String,
    detail: String,
    pub(super) remedy: Option<String>,
}

impl KubeletError {
    pub(super) fn new<'a>(
        kind: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<Option<&'a str>>,
    ) -> Self {
        let remedy = remedy.into().map(str::to_owned);
        Self { kind: kind.into(), detail: detail.into(), remedy }
    }

    /// A connection that could not be made, or that broke.
    pub(super) fn connect(detail: &str) -> Self {
        Self::new("no connection", format!(": {detail}"), ENDPOINT_REMEDY)
    }

    pub(super) fn timeout(limit: Duration) -> Self {
        Self::new(format!("no answer within {limit:?}"), "", ENDPOINT_REMEDY)
    }

    /// A response that is not the page.
    pub(super) fn decode(detail: &str) -> Self {
        Self::new("an answer that cannot be understood", format!(": {}", truncated(detail)), None)
    }

    /// An answer that is no success, to a request that needs the right `get` on `rbac_resource`.
    pub(super) fn of_status(code: u16, body: &[u8], rbac_resource: &str) -> Self {
        let message = truncated(String::from_utf8_lossy(body).trim());
        let no_right = format!(
            "give the service account the right `get` on `{rbac_resource}`, as manifests/overlays/kubelet-only does"
        );
        let remedy = match code {
            401 => Some("the kubelet does not know who asks: is --token-path the service account's token?"),
            403 => Some(&*no_right),
            400 if message.contains("HTTPS") => Some("write https:// in --kubelet-endpoint"),
            _ => None,
        };
        Self::new(format!("HTTP status {code}"), format!(": {message}"), remedy)
    }

    /// Of a connection; `wanted` are the names that would do.
    pub(super) fn of_connection(error: &(dyn Error + 'static), wanted: &str) -> Self {
        let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<TlsError>()) else {
            return Self::connect(&error_chain(error));
        };
        match tls {
            TlsError::InvalidCertificate(error) => Self::of_certificate(error, wanted),
            TlsError::AlertReceived(AlertDescription::InternalError) => Self::new(
                "no TLS connection: the kubelet has no serving certificate yet",
                "",
                "approve its certificate signing request: `kubectl get csr`, `kubectl certificate approve`",
            ),
            TlsError::InvalidMessage(_) => Self::new(
                "no TLS connection: the port does not speak TLS",
                "",
                "for the kubelet's read-only port write http:// in --kubelet-endpoint",
            ),
            other => Self::new("no TLS connection", format!(": {other}"), None),
        }
    }

    fn of_certificate(error: &CertificateError, wanted: &str) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::new(
                "no TLS connection: its certificate is signed by an authority that is not trusted here",
                "",
                "if the kubelet made its certificate itself, give the last block of pki/kubelet.crt in its directory by \
                 --kubelet-ca-file, or mount the node's root file system and name that directory by --kubelet-root, if it \
                 is not /var/lib/kubelet; if an authority of your own signed it, give \
                 that authority's certificate; or let the cluster sign it (serverTLSBootstrap); \
                 --insecure-skip-tls-verify takes any",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::new(
                "no TLS connection: its certificate has expired",
                "",
                "a certificate that the kubelet made itself lasts a year and is not renewed: remove pki/kubelet.crt and \
                 pki/kubelet.key in its directory and restart it, or let the cluster sign it (serverTLSBootstrap)",
            ),
            CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
                Self::of_other_name(&names.join(", "), wanted)
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::of_other_name("other names", wanted)
            }
            other => Self::new(
                "no TLS connection: its certificate cannot be used",
                format!(": {other}"),
                "give the kubelet another (tlsCertFile), or let the cluster sign it (serverTLSBootstrap); \
                 --insecure-skip-tls-verify takes any",
            ),
        }
    }

    fn of_other_name(presented: &str, wanted: &str) -> Self {
        let remedy =
            "give one of its names by --kubelet-server-name, or the node's by --node-name or NODE_NAME";
        Self::new(OTHER_NAME, format!(" {presented}, and not for {wanted}"), remedy)
    }

    /// Whether the kubelet's certificate is for another name.
    pub(super) fn is_other_name(&self) -> bool {
        self.kind == OTHER_NAME
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
            assert!(failure.remedy.is_some(), "{failure}");
        }
        let one = certificate(CertificateError::UnknownIssuer);
        assert_eq!(one.kind, certificate(CertificateError::BadSignature).kind);
        assert_ne!(one.kind, certificate(CertificateError::Expired).kind);
    }

    #[test]
    fn names_in_a_certificate_are_printed_plainly() {
        let names = [r#"DnsName("node-1")"#, "IpAddress(10.0.0.1)", "node-2"].map(plain_name);
        assert_eq!(names, ["node-1", "10.0.0.1", "node-2"]);
    }
}
