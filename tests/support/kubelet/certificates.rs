//! The kinds of serving certificate that a kubelet can have.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// The node's name in all tests.
const NODE: &str = "node-1";
/// A TLS record: fatal alert `internal_error`, as Go sends it.
pub(super) const NO_CERTIFICATE_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Signed by an authority that the kubelet made for it; for the host name alone.
    OwnMade,
    /// The same, a year later.
    OwnMadeExpired,
    /// Signed by the cluster, for the node's name and address.
    ClusterSigned,
    /// Signed by the cluster, for another name.
    OtherName,
    /// Its signing request is not approved: every handshake fails.
    NotApproved,
}

#[derive(Clone, Default)]
pub(super) enum Serving {
    #[default]
    Plain,
    Tls(Arc<ServerConfig>),
    NoCertificate,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) struct Pki {
    kubelet: Authority,
    cluster: Authority,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self { kubelet: authority("node-1-ca@1795310010"), cluster: authority("kubernetes") }
    }

    /// The cluster's authority, as pods have it.
    pub(crate) fn cluster(&self) -> String {
        self.cluster.pem()
    }

    /// `pki/kubelet.crt`: a certificate that the kubelet made, and the authority that it made to sign it.
    pub(crate) fn kubelet_crt(&self) -> String {
        let names = [NODE.to_owned()];
        let leaf = leaf_params(&names).signed_by(&KeyPair::generate().unwrap(), &self.kubelet).unwrap();
        leaf.pem() + &self.kubelet.pem()
    }

    pub(super) fn serving(&self, certificate: Certificate, address: IpAddr) -> Serving {
        let (signer, names) = match certificate {
            Certificate::OwnMade | Certificate::OwnMadeExpired => (&self.kubelet, vec![NODE.to_owned()]),
            Certificate::ClusterSigned => (&self.cluster, vec![NODE.into(), address.to_string()]),
            Certificate::OtherName => (&self.cluster, vec!["kubelet.example.org".into()]),
            Certificate::NotApproved => return Serving::NoCertificate,
        };
        let mut params = leaf_params(&names);
        if certificate == Certificate::OwnMadeExpired {
            params.not_before = date_time_ymd(2024, 1, 1);
            params.not_after = date_time_ymd(2025, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![params.signed_by(&key, signer).unwrap().der().clone()];
        if matches!(certificate, Certificate::OwnMade | Certificate::OwnMadeExpired) {
            chain.push(signer.der().clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Serving::Tls(Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap()))
    }
}

fn leaf_params(names: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, NODE);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}
