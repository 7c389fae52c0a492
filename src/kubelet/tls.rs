//! Which authorities may sign the kubelet's serving certificate. It is one of three kinds: made by the kubelet itself, with
//! the node's name in it; signed by the cluster, with the node's addresses; or the administrator's own.

use std::error::Error;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::KubeletError;
use crate::config::KubeletArgs;
use crate::host_files::{self, HostPath};

/// The cluster's authority, as every pod with a service account has it.
const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// What the kubelet makes for itself, in its directory: its certificate, and after it that of the authority that it made
/// to sign it.
const KUBELET_CERT_PATH: &str = "pki/kubelet.crt";
/// A larger file holds no certificates.
const MAX_CA_FILE_BYTES: u64 = 1 << 20;

/// The certificates of a file, as DER.
type Certificates = Result<Vec<Vec<u8>>, Box<dyn Error>>;

/// Whether the file that was named can be used.
pub fn validate_ca_file(args: &KubeletArgs) -> Result<(), String> {
    match &args.kubelet_ca_file {
        Some(path) if !args.insecure_skip_tls_verify => certificates(path).map(drop).map_err(|cause| {
            format!(
                "invalid value \"{}\" for '--kubelet-ca-file': {cause}; give a file of certificates as PEM",
                path.display()
            )
        }),
        _ => Ok(()),
    }
}

/// The certificates that may sign the kubelet's, as DER: those of `--kubelet-ca-file` alone if it is given; else the cluster's
/// and the kubelet's own. Files are read each time: certificates are replaced like tokens.
pub(super) fn root_certificates(
    args: &KubeletArgs,
    directory: &HostPath,
) -> Result<Vec<Vec<u8>>, KubeletError> {
    if args.insecure_skip_tls_verify {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut causes = Vec::new();
    let mut take = |path: &Path, read: Certificates| match read {
        Ok(read) => found.extend(read),
        Err(cause) => causes.push(format!("{}: {cause}", path.display())),
    };
    let path = args.kubelet_ca_file.as_deref().unwrap_or(Path::new(SERVICE_ACCOUNT_CA));
    take(path, certificates(path));
    if args.kubelet_ca_file.is_none() {
        let path = directory.path.join(KUBELET_CERT_PATH);
        take(&path, kubelet_self_signed_ca(&directory.rootfs, &path));
    }
    if found.is_empty() { Err(unchecked_certificate(&causes.join("; "))) } else { Ok(found) }
}

/// There is nothing to check the kubelet's certificate with.
pub(super) fn unchecked_certificate(cause: &str) -> KubeletError {
    let remedy = "give --kubelet-ca-file, or --insecure-skip-tls-verify";
    KubeletError::new("its certificate cannot be checked", format!(": {cause}"), remedy)
}

fn certificates(path: &Path) -> Certificates {
    parse_ca_certificates(&host_files::read_named(path, MAX_CA_FILE_BYTES)?)
}

/// The last certificate of the kubelet's own file.
fn kubelet_self_signed_ca(rootfs: &Path, path: &Path) -> Certificates {
    let mut found = parse_ca_certificates(&host_files::read(rootfs, path)?)?;
    Ok(found.split_off(found.len() - 1))
}

/// The certificates that can sign, at least one.
fn parse_ca_certificates(bytes: &[u8]) -> Certificates {
    let mut found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>()?;
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() {
        return Err("no certificate in it that can be used".into());
    }
    Ok(found.iter().map(|certificate| certificate.to_vec()).collect())
}
