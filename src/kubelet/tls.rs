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
use verifier::Verifier;

/// The cluster's authority, as every pod with a service account has it.
const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// What the kubelet makes for itself, in its directory: its certificate, and after it that of the authority that it made
/// to sign it.
const KUBELET_CERT_PATH: &str = "pki/kubelet.crt";
/// A file that is no use.
const NO_CA_MESSAGE: &str = "no certificate in it that can be used";

/// Whom to trust, and by which name.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Anybody.
    pub skip_verify: bool,
    /// Whom these certificates sign, and nobody else; as a rule the cluster, and the kubelet itself.
    pub ca_file: Option<PathBuf>,
    /// The only name that is good; as a rule the endpoint's host and the node's name are.
    pub server_name: Option<String>,
    /// The node's name.
    pub node_name: Option<String>,
}

/// `--kubelet-ca-file` is of no use.
#[derive(Debug, thiserror::Error)]
#[error("invalid value {path:?} for '--kubelet-ca-file': {cause}; give a file of certificates as PEM")]
pub struct CaFileError {
    path: PathBuf,
    cause: String,
}

impl TlsSettings {
    /// Whether the file that was named can be used.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub fn validate_ca_file(&self) -> Result<(), CaFileError> {
        match &self.ca_file {
            Some(path) if !self.skip_verify => {
                let bad = |cause| CaFileError { path: path.clone(), cause };
                certificates(path).map(drop).map_err(bad)
            }
            _ => Ok(()),
        }
    }

    /// The names that the certificate may have.
    pub(super) fn accepted_names(&self, host: &str) -> Vec<String> {
        match &self.server_name {
            Some(name) => vec![name.clone()],
            None => std::iter::once(host.to_owned()).chain(self.node_name.clone()).collect(),
        }
    }

    /// What to connect by. Files are read each time: certificates are replaced like tokens.
    pub(super) fn client_config(
        &self,
        host: &str,
        directories: &[PathBuf],
    ) -> Result<ClientConfig, KubeletError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let wanted = if self.skip_verify {
            None
        } else {
            let names =
                self.accepted_names(host).into_iter().filter_map(|name| ServerName::try_from(name).ok());
            let roots = Arc::new(self.root_store(directories)?);
            let signers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let signers = signers.map_err(|error| KubeletError::Authority(error.to_string()))?;
            Some((signers, names.collect()))
        };
        let verifier = Arc::new(Verifier { provider: Arc::clone(&provider), wanted });
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| KubeletError::Authority(error.to_string()))?;
        Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }

    fn root_store(&self, directories: &[PathBuf]) -> Result<RootCertStore, KubeletError> {
        let mut found = Vec::new();
        let mut causes = Vec::new();
        let mut take = |read: Result<Vec<CertificateDer<'static>>, String>, path: &Path| match read {
            Ok(read) => found.extend(read),
            Err(cause) => causes.push(format!("{}: {cause}", path.display())),
        };
        if let Some(path) = &self.ca_file {
            take(certificates(path), path);
        } else {
            take(certificates(Path::new(SERVICE_ACCOUNT_CA)), Path::new(SERVICE_ACCOUNT_CA));
            for directory in directories {
                let path = directory.join(KUBELET_CERT_PATH);
                take(kubelet_self_signed_ca(&path).map(|authority| vec![authority]), &path);
            }
        }
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found);
        if added == 0 {
            return Err(KubeletError::Authority(causes.join("; ")));
        }
        Ok(roots)
    }
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
