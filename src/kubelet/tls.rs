//! How the kubelet's serving certificate is checked. It is one of three kinds: made by the kubelet itself, with the node's
//! name in it; signed by the cluster, with the node's addresses; or the administrator's own.

mod verifier;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::error::KubeletError;
use crate::config::KubeletArgs;
use verifier::Verifier;

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
///
/// # Errors
///
/// If it cannot.
pub fn validate_ca_file(args: &KubeletArgs) -> Result<(), CaFileError> {
    match &args.kubelet_ca_file {
        Some(path) if !args.insecure_skip_tls_verify => {
            let bad = |cause| CaFileError { path: path.clone(), cause };
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
    directories: &[PathBuf],
) -> Result<ClientConfig, KubeletError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let wanted = if args.insecure_skip_tls_verify {
        None
    } else {
        let names = names.into_iter().filter_map(|name| ServerName::try_from(name).ok());
        let roots = Arc::new(root_store(args.kubelet_ca_file.as_deref(), directories)?);
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
fn root_store(ca_file: Option<&Path>, directories: &[PathBuf]) -> Result<RootCertStore, KubeletError> {
    let mut found = Vec::new();
    let mut causes = Vec::new();
    let mut take = |read: Result<Vec<CertificateDer<'static>>, String>, path: &Path| match read {
        Ok(read) => found.extend(read),
        Err(cause) => causes.push(format!("{}: {cause}", path.display())),
    };
    let path = ca_file.unwrap_or(Path::new(SERVICE_ACCOUNT_CA));
    take(certificates(path), path);
    for directory in directories.iter().filter(|_| ca_file.is_none()) {
        let path = directory.join(KUBELET_CERT_PATH);
        take(kubelet_self_signed_ca(&path).map(|authority| vec![authority]), &path);
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 { Err(KubeletError::Authority(causes.join("; "))) } else { Ok(roots) }
}

/// The last certificate of the kubelet's own file. Directories are found in the mount table, where users of the node can
/// put mounts that look like a kubelet's: theirs are not to choose whom to trust.
fn kubelet_self_signed_ca(path: &Path) -> Result<CertificateDer<'static>, String> {
    // A pipe of theirs is not to keep this thread.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(format!("it belongs to the user {owner}, and not to root"));
    }
    if !metadata.is_file() {
        return Err("it is no file".into());
    }
    parse_ca_certificates(file)?.pop().ok_or_else(|| NO_CA_MESSAGE.into())
}

/// The certificates of a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    parse_ca_certificates(File::open(path).map_err(|error| error.to_string())?)
}

/// The certificates that can sign, at least one.
fn parse_ca_certificates(file: File) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_reader_iter(file).collect::<Result<Vec<_>, _>>();
    let mut found = read.map_err(|error| error.to_string())?;
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() { Err(NO_CA_MESSAGE.into()) } else { Ok(found) }
}
