//! How the kubelet's serving certificate is checked. It is one of three kinds: made by the kubelet itself, with the node's
//! name in it; signed by the cluster, with the node's addresses; or the administrator's own.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::error::KubeletError;
use crate::config::KubeletArgs;
use crate::host_files::{self, HostPath};

/// The cluster's authority, as every pod with a service account has it.
const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// What the kubelet makes for itself, in its directory: its certificate, and after it that of the authority that it made
/// to sign it.
const KUBELET_CERT_PATH: &str = "pki/kubelet.crt";
/// A file that is no use.
const NO_CA_MESSAGE: &str = "no certificate in it that can be used";

/// `--kubelet-ca-file` is of no use.
#[derive(Debug, thiserror::Error)]
#[error("invalid value {path:?} for '--kubelet-ca-file': {cause}; give a file of certificates as PEM")]
pub struct CaFileError {
    path: PathBuf,
    cause: String,
}

/// Whether the file that was named can be used.
pub fn validate_ca_file(args: &KubeletArgs) -> Result<(), CaFileError> {
    match &args.kubelet_ca_file {
        Some(path) if !args.insecure_skip_tls_verify => {
            let bad = |cause: Box<dyn Error>| CaFileError { path: path.clone(), cause: cause.to_string() };
            certificates(path).map(drop).map_err(bad)
        }
        _ => Ok(()),
    }
}

/// What to connect by, to a kubelet whose certificate has one of these names. Files are read each time: certificates are
/// replaced like tokens.
pub(super) fn client_config(
    args: &KubeletArgs,
    names: Vec<String>,
    directory: &HostPath,
) -> Result<ClientConfig, KubeletError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let wanted = if args.insecure_skip_tls_verify {
        None
    } else {
        let names = names.into_iter().filter_map(|name| ServerName::try_from(name).ok());
        let roots = Arc::new(root_store(args.kubelet_ca_file.as_deref(), directory)?);
        let signers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let signers = signers.map_err(|error| KubeletError::Authority(error.to_string()))?;
        Some((signers, names.collect()))
    };
    let verifier = Arc::new(Verifier { provider: Arc::clone(&provider), wanted });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| KubeletError::Authority(error.to_string()))?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The certificates of `--kubelet-ca-file` alone if it is given; else the cluster's and the kubelet's own.
fn root_store(ca_file: Option<&Path>, directory: &HostPath) -> Result<RootCertStore, KubeletError> {
    let mut found = Vec::new();
    let mut causes = Vec::new();
    let mut take = |path: &Path, read: Result<Vec<CertificateDer<'static>>, Box<dyn Error>>| match read {
        Ok(read) => found.extend(read),
        Err(cause) => causes.push(format!("{}: {cause}", path.display())),
    };
    let path = ca_file.unwrap_or(Path::new(SERVICE_ACCOUNT_CA));
    take(path, certificates(path));
    if ca_file.is_none() {
        let path = directory.path.join(KUBELET_CERT_PATH);
        take(&path, kubelet_self_signed_ca(&directory.rootfs, &path).map(|authority| vec![authority]));
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 { Err(KubeletError::Authority(causes.join("; "))) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    host_files::open_named(path)?.read_to_end(&mut bytes)?;
    parse_ca_certificates(&bytes)
}

/// The last certificate of the kubelet's own file.
fn kubelet_self_signed_ca(rootfs: &Path, path: &Path) -> Result<CertificateDer<'static>, Box<dyn Error>> {
    parse_ca_certificates(&host_files::read(rootfs, path)?)?.pop().ok_or_else(|| NO_CA_MESSAGE.into())
}

/// The certificates that can sign, at least one.
fn parse_ca_certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Box<dyn Error>> {
    let mut found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()?;
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() { Err(NO_CA_MESSAGE.into()) } else { Ok(found) }
}

/// Checks that the server has the certificate's key, and mostly also whose the certificate is.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Who signs it, and the names of which it must have one; `None`: it may be anybody's.
    wanted: Option<(Arc<WebPkiServerVerifier>, Vec<ServerName<'static>>)>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some((signers, names)) = &self.wanted else {
            return Ok(ServerCertVerified::assertion());
        };
        let mut outcome = Err(CertificateError::NotValidForName.into());
        for name in names {
            outcome = signers.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
            let is_of_other_name = matches!(
                outcome,
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                ))
            );
            if !is_of_other_name {
                break;
            }
        }
        outcome
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
