//! Which API server to ask, and as whom: the pod's service account, or a kubeconfig.

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::util::{BoxCloneSyncService, MapErr, option_layer};
use tower::{BoxError, Layer};

use super::failure::Failure;
use super::pace::MOST_AT_A_TIME;
use crate::remote::chain;

/// Connections that are not used are closed after this; a lookup of many objects keeps its own open.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes that are read at once; by itself the buffer of a connection grows to 400 KiB for a long list.
const READ_AT_ONCE: usize = 16 << 10;
/// How long a connection may be silent before the kernel asks whether the server is still there, and asks again.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long the token of a file is used before it is read again.
const TOKEN_USE: Duration = Duration::from_secs(30);

/// Where the credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Those of the pod's service account.
    InCluster,
    /// Those of the current context of these files, which count as one.
    Kubeconfig(Vec<PathBuf>),
}

impl Access {
    /// What a pod has, or a person: `None` where there is neither. A kubeconfig that was named has to be there.
    #[must_use]
    pub fn find(kubeconfig: Option<&str>) -> Option<Self> {
        if let Some(paths) = kubeconfig {
            return Some(Self::Kubeconfig(env::split_paths(paths).collect()));
        }
        if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            return Some(Self::InCluster);
        }
        let usual = env::home_dir()?.join(".kube/config");
        usual.is_file().then(|| Self::Kubeconfig(vec![usual]))
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// If there is nothing that could be used.
    pub(super) async fn load(&self) -> Result<kube::Config, AccessError> {
        match self {
            Self::InCluster => Ok(kube::Config::incluster()?),
            Self::Kubeconfig(paths) => {
                let context = KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(read(paths)?, &context).await;
                let config = config.map_err(|error| AccessError::kubeconfig(paths, &error))?;
                match &config.proxy_url {
                    // Its user and password stay out.
                    Some(proxy) => Err(AccessError::Proxy(proxy.host().unwrap_or_default().to_owned())),
                    None => Ok(config),
                }
            }
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster => formatter.write_str("the pod's service account"),
            Self::Kubeconfig(paths) => write!(formatter, "the kubeconfig {}", list(paths)),
        }
    }
}

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The pod has no service account's token.
    #[error("the pod's service account cannot be used: {}; is automountServiceAccountToken on?", chain(.0))]
    InCluster(#[from] kube::config::InClusterError),
    /// A kubeconfig that says nothing that could be used.
    #[error("the kubeconfig {paths} cannot be used: {cause}; check it by `kubectl --kubeconfig`")]
    Kubeconfig {
        /// Where it is.
        paths: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No file has that name.
    #[error("no kubeconfig at {0}; give the path of one by --kubeconfig, or --kubernetes=off")]
    NoFile(String),
    /// What this program cannot do.
    #[error(
        "the API server is behind the proxy {0}, which this program cannot use; unset proxy-url and HTTPS_PROXY"
    )]
    Proxy(String),
    /// A certificate, key or credential plugin that fails.
    #[error("{}", chain(.0))]
    Credentials(#[from] kube::Error),
    /// The system gives not even what reading takes.
    #[error("cannot start: {0}")]
    System(#[source] io::Error),
    /// The file that the token is in.
    #[error("cannot read the token in {0}: {1}")]
    Token(String, #[source] io::Error),
}

impl AccessError {
    /// Without the lines of the file that a parser quotes: they may be secret.
    fn kubeconfig(paths: &[PathBuf], error: &KubeconfigError) -> Self {
        let cause = chain(error).lines().next().unwrap_or_default().to_owned();
        Self::Kubeconfig { paths: list(paths), cause }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The files that are there, as one.
fn read(paths: &[PathBuf]) -> Result<Kubeconfig, AccessError> {
    let unusable = |error: KubeconfigError| AccessError::kubeconfig(paths, &error);
    let there = paths.iter().filter(|path| path.exists());
    let mut merged: Option<Kubeconfig> = None;
    for path in there {
        let next = Kubeconfig::read_from(path).map_err(unusable)?;
        merged = Some(match merged {
            Some(first) => first.merge(next).map_err(unusable)?,
            None => next,
        });
    }
    merged.ok_or_else(|| AccessError::NoFile(list(paths)))
}

type Connections = BoxCloneSyncService<hyper::Request<Body>, hyper::Response<Incoming>, BoxError>;

/// Connections to one server, and what to show it.
pub(super) struct Session {
    connections: Connections,
    config: kube::Config,
    client: kube::Client,
    /// When the file with the token was read, if it is in one.
    token_read: Option<Instant>,
}

impl Session {
    /// Reads credentials; connects when it is first asked something.
    pub(super) async fn open(access: &Access) -> Result<Self, AccessError> {
        let config = access.load().await?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_AT_A_TIME)
            .http1_max_buf_size(READ_AT_ONCE)
            .build(config.rustls_https_connector_with_connector(connector)?);
        let connections = BoxCloneSyncService::new(MapErr::new(http, BoxError::from));
        let (client, token_read) = client(&config, connections.clone())?;
        Ok(Self { connections, config, client, token_read })
    }

    /// What asks, with a token that is not old.
    pub(super) fn client(&mut self) -> kube::Client {
        if self.token_read.is_some_and(|read| read.elapsed() > TOKEN_USE) {
            // A file that cannot be read right now may be just being replaced: the token may still be good.
            match client(&self.config, self.connections.clone()) {
                Ok(renewed) => (self.client, self.token_read) = renewed,
                Err(error) => tracing::debug!(%error, "the last token stays in use"),
            }
        }
        self.client.clone()
    }
}

fn client(
    config: &kube::Config,
    connections: Connections,
) -> Result<(kube::Client, Option<Instant>), AccessError> {
    let mut config = config.clone();
    // Read here: a line end after the token is no part of it.
    let file = config.auth_info.token_file.take();
    if let Some(path) = file.as_ref().filter(|_| config.auth_info.token.is_none()) {
        let token = std::fs::read_to_string(Path::new(path));
        let token = token.map_err(|error| AccessError::Token(path.clone(), error))?;
        config.auth_info.token = Some(token.trim().to_owned().into());
    }
    let service = config.extra_headers_layer()?.layer(connections);
    let service = option_layer(config.auth_layer()?).layer(service);
    let service = config.base_uri_layer().layer(service);
    Ok((kube::Client::new(service, config.default_namespace), file.map(|_| Instant::now())))
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::Credentials(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of this kubeconfig.
    fn refused(kubeconfig: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        Access::Kubeconfig(vec![path]).check().unwrap_err().to_string()
    }

    #[test]
    fn no_secret_is_said() {
        let with = |cluster: &str, users: &str| {
            format!(
                "{{kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
                 clusters: [{{name: c, cluster: {{server: 'https://server', {cluster}}}}}], users: {users}"
            )
        };
        let proxy = with("proxy-url: 'http://user:hunter2@proxy.example:3128'", "[{name: u, user: {}}]}");
        let said = refused(&proxy);
        assert!(said.contains("the proxy proxy.example,") && !said.contains("hunter2"), "{said}");
        for users in ["hunter2}", "[{name: u, user: hunter2}]}", "[{name: u, user: {token: hunter2"] {
            let said = refused(&with("", users));
            assert!(said.contains("cannot be used") && !said.contains("hunter2"), "{users}: {said}");
        }
    }
}
