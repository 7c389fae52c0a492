//! The server over TLS, with certificates and credentials.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::{Server, answer};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// The server, listening on the loopback interface.
pub(crate) struct ApiServer {
    server: Arc<Server>,
    pub(crate) address: SocketAddr,
    runtime: Handle,
    listening: Mutex<Option<JoinHandle<()>>>,
    tls: TlsAcceptor,
    pub(crate) authority: Authority,
    directory: TempDir,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let server = Self {
            server: Server::new(),
            address: listener.local_addr().unwrap(),
            runtime: runtime.handle().clone(),
            listening: Mutex::default(),
            tls: acceptor(&authority),
            authority,
            directory: tempfile::tempdir().unwrap(),
        };
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        server.spawn(serve(Arc::clone(&server.server), server.tls.clone(), listener));
        server
    }

    /// Closes its connections, and refuses new ones.
    pub(crate) fn stop(&self) {
        if let Some(listening) = self.listening.lock().unwrap().take() {
            listening.abort();
            let _ = self.runtime.block_on(listening);
        }
    }

    /// Accepts connections in the kernel only, so that no response comes, not even to a TLS handshake.
    pub(crate) fn mute(&self) {
        let listener = self.bind_again();
        self.spawn(async move {
            let _listener = listener;
            std::future::pending::<()>().await;
        });
    }

    /// Serves at the same address again.
    pub(crate) fn resume(&self) {
        let listener = self.bind_again();
        self.spawn(serve(Arc::clone(&self.server), self.tls.clone(), listener));
    }

    fn bind_again(&self) -> TcpListener {
        self.stop();
        self.runtime.block_on(TcpListener::bind(self.address)).unwrap()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        *self.listening.lock().unwrap() = Some(self.runtime.spawn(task));
    }

    /// Writes a file in the test's own directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `--kubeconfig` and its value, with these credentials of its user.
    pub(crate) fn kubeconfig(&self, user: &Value) -> String {
        let authority = self.write("ca.crt", &self.authority.pem());
        let cluster =
            json!({"server": format!("https://{}", self.address), "certificate-authority": authority});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        format!("--kubeconfig={}", self.write("kubeconfig", &config.to_string()).display())
    }

    /// The user of a kubeconfig that has a client certificate.
    pub(crate) fn user_with_certificate(&self) -> Value {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([]).unwrap().signed_by(&key, &self.authority).unwrap();
        json!({"client-certificate": self.write("client.crt", &certificate.pem()),
            "client-key": self.write("client.key", &key.serialize_pem())})
    }

    /// Writes a service account as it is mounted in a pod.
    pub(crate) fn write_service_account(&self, directory: &Path, token: &str) {
        std::fs::create_dir_all(directory).unwrap();
        let files = [("token", token), ("ca.crt", &self.authority.pem()), ("namespace", "monitoring")];
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
}

impl std::ops::Deref for ApiServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// The server's side of TLS, for clients with and without a certificate.
fn acceptor(authority: &Authority) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, authority);
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.unwrap().der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(server: Arc<Server>, tls: TlsAcceptor, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (server, tls) = (Arc::clone(&server), tls.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            server.lock().handshakes += 1;
            let has_certificate = stream.get_ref().1.peer_certificates().is_some();
            let service = hyper::service::service_fn(|request| {
                answer::answer(Arc::clone(&server), request, has_certificate)
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
