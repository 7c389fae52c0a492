//! The kubelet's pages, and a request for one, on a connection of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Empty, LengthLimitError, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use rustls::pki_types::ServerName;

use super::error::KubeletError;
use super::tls;
use crate::config::KubeletArgs;
use crate::error_text::error_chain;
use crate::host_files::{HostPath, read_token};
use crate::runtime::{BlockingWorker, Clients};

/// A summary of 1,000 claims has 1 MB; the kubelet's metrics can have a few.
const MAX_BODY_BYTES: usize = 16 << 20;
/// Entries of one page; no node has that many volumes. A longer page is an error.
pub(super) const MAX_ENTRIES: usize = 10_000;
/// How much of an error's body is read.
const MAX_ERROR_BODY_BYTES: usize = 64 << 10;
/// hyper's buffer would grow to 400 KiB.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A page of the kubelet that is requested.
#[derive(Debug)]
pub(super) struct KubeletPage<T> {
    pub(super) path: &'static str,
    /// The RBAC resource on which the service account needs `get`.
    pub(super) rbac_resource: &'static str,
    pub(super) accept: &'static str,
    pub(super) parse: fn(&[u8]) -> Result<Parsed<T>, String>,
}

/// A parsed page.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    /// Entries that could not be parsed.
    pub(super) malformed: usize,
}

/// Makes requests to one kubelet.
#[derive(Debug)]
pub(super) struct KubeletClient {
    pub(super) args: KubeletArgs,
    /// Configured, and never one that the mount table shows: users of the node can put rows into that, and would choose
    /// whom to trust.
    pub(super) directory: HostPath,
    pub(super) node_name: String,
    /// Whether there was no token at the last request.
    pub(super) is_token_missing: AtomicBool,
    /// Makes the requests.
    pub(super) clients: Clients,
    /// Reads the kubelet's own certificate, whose directory may hang.
    pub(super) host_files: BlockingWorker,
}

impl KubeletClient {
    /// Requests a page and parses the answer. Each request has a connection of its own, so that replaced tokens and
    /// certificates are used at once and nothing stays open in between.
    pub(super) async fn get<T>(&self, page: &KubeletPage<T>) -> Result<Parsed<T>, KubeletError> {
        let endpoint = &self.args.kubelet_endpoint;
        let is_tls = endpoint.scheme_str() != Some("http");
        let request = self.request(page.path, page.accept, is_tls)?;
        let mut config = kube::Config::new(endpoint.clone());
        config.accept_invalid_certs = self.args.insecure_skip_tls_verify;
        config.root_cert = Some(if is_tls { self.root_certificates().await? } else { Vec::new() });
        let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let only_name = self.args.kubelet_server_name.as_deref();
        let mut names = only_name.unwrap_or(host).to_owned();
        config.tls_server_name = Some(names.clone());
        let mut body = send(&config, request.clone(), &names, page.rbac_resource).await;
        // A certificate that the kubelet made itself has the node's name alone.
        if body.as_ref().is_err_and(KubeletError::is_other_name)
            && only_name.is_none()
            && ServerName::try_from(&*self.node_name).is_ok()
        {
            names = format!("{host} or {}", self.node_name);
            config.tls_server_name = Some(self.node_name.clone());
            body = send(&config, request, &names, page.rbac_resource).await;
        }
        (page.parse)(&body?).map_err(|error| KubeletError::decode(&error))
    }

    async fn root_certificates(&self) -> Result<Vec<Vec<u8>>, KubeletError> {
        let (args, directory) = (self.args.clone(), self.directory.clone());
        let read = self.host_files.run(move || tls::root_certificates(&args, &directory));
        read.result().await.unwrap_or_else(|lost| {
            Err(KubeletError::new("cannot look for the kubelet's own certificate", format!(": {lost}"), None))
        })
    }

    /// The token is sent over TLS only: anybody on the way could use it.
    fn request(&self, path: &str, accept: &str, is_tls: bool) -> Result<Request<Empty<Bytes>>, KubeletError> {
        let uri = format!("{}{path}", self.args.kubelet_endpoint.to_string().trim_end_matches('/'));
        let request = Request::get(uri).header(ACCEPT, accept).body(Empty::new());
        let mut request = request.map_err(|error| KubeletError::connect(&error.to_string()))?;
        if let Some(token) = is_tls.then(|| self.authorization()).transpose()?.flatten() {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }

    /// The value of the header `Authorization`; `None` where there is no token: a kubelet may take requests without.
    fn authorization(&self) -> Result<Option<HeaderValue>, KubeletError> {
        let path = self.args.token_path.display();
        let read = read_token(&self.args.token_path);
        let token = read.as_ref().map(|token| token.trim()).unwrap_or_default();
        let is_missing = token.is_empty();
        if is_missing != self.is_token_missing.swap(is_missing, Ordering::Relaxed) {
            if is_missing {
                let error = read.as_ref().err().map(ToString::to_string);
                tracing::warn!(
                    event = "kubelet_token_missing", %path, error,
                    "no token for the kubelet: sending requests without one; set --token-path"
                );
            } else {
                tracing::info!(event = "kubelet_token_found", %path, "found a token for the kubelet");
            }
        }
        if is_missing {
            return Ok(None);
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value =
            value.map_err(|_| KubeletError::new(format!("the token in {path} is none"), "", None))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Sends a request on a connection of its own, and reads the response's body.
async fn send(
    config: &kube::Config,
    request: Request<Empty<Bytes>>,
    names: &str,
    rbac_resource: &str,
) -> Result<Bytes, KubeletError> {
    let connector =
        config.rustls_https_connector().map_err(|error| tls::unchecked_certificate(&error_chain(&error)))?;
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .http1_max_buf_size(READ_BUFFER_BYTES)
        .build(connector);
    let response = http.request(request).await.map_err(|error| KubeletError::of_connection(&error, names))?;
    let status = response.status();
    let max_bytes = if status == StatusCode::OK { MAX_BODY_BYTES } else { MAX_ERROR_BODY_BYTES };
    let body = Limited::new(response.into_body(), max_bytes).collect().await.map(Collected::to_bytes);
    if status != StatusCode::OK {
        return Err(KubeletError::of_status(status.as_u16(), &body.unwrap_or_default(), rbac_resource));
    }
    body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            KubeletError::decode(&format!("longer than {MAX_BODY_BYTES} bytes"))
        } else {
            KubeletError::connect(&error_chain(&*error))
        }
    })
}
