//! The API server and the credentials: the pod's service account, or a kubeconfig.

use std::env;
use std::fmt;
use std::io;
use std::path::PathBuf;

use kube::config::{Kubeconfig, KubeconfigError};

use crate::error_text::error_chain;

/// A larger file is no kubeconfig: clusters and users have a few KiB each.
const MAX_KUBECONFIG_BYTES: u64 = 16 << 20;

/// Where the credentials are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Those of the pod's service account.
    InCluster,
    /// Those of the current context of these files, which count as one.
    Kubeconfig(Vec<PathBuf>),
}

impl Access {
    /// The named kubeconfig (loading it tells whether it exists), else the service account, else `~/.kube/config`, if any.
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

    /// Reads the credentials.
    pub fn load(&self) -> Result<kube::Config, AccessError> {
        let Self::Kubeconfig(paths) = self else { return Ok(kube::Config::incluster()?) };
        // Without the lines of the file that a parser quotes: they may be secret.
        let unusable = |error: KubeconfigError| {
            let text = error_chain(&error).lines().next().unwrap_or_default().to_owned();
            AccessError::Kubeconfig(list(paths), text)
        };
        let mut files = paths.iter().filter(|path| path.exists()).peekable();
        if files.peek().is_none() {
            return Err(AccessError::NoFile(list(paths)));
        }
        let size = |path: &&PathBuf| path.metadata().map_or(0, |file| file.len());
        if files.clone().map(|path| size(&path)).any(|size| size > MAX_KUBECONFIG_BYTES) {
            let text = format!("larger than {MAX_KUBECONFIG_BYTES} bytes");
            return Err(AccessError::Kubeconfig(list(paths), text));
        }
        let merge = |merged: Kubeconfig, path| merged.merge(Kubeconfig::read_from(path)?);
        let kubeconfig = files.try_fold(Kubeconfig::default(), merge).map_err(unusable)?;
        let config = kube::Config::try_from(kubeconfig).map_err(unusable)?;
        match &config.proxy_url {
            // Its user and password stay out.
            Some(proxy) => Err(AccessError::Proxy(proxy.host().unwrap_or_default().to_owned())),
            None => Ok(config),
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

/// Credentials that cannot be used.
#[expect(missing_docs, reason = "each message says it")]
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("the pod's service account cannot be used: {}; is automountServiceAccountToken on?", error_chain(.0))]
    InCluster(#[from] kube::config::InClusterError),
    #[error("the kubeconfig {0} cannot be used: {1}; check it by `kubectl --kubeconfig`")]
    Kubeconfig(String, String),
    #[error("no kubeconfig at {0}; give the path of one by --kubeconfig, or --kubernetes=off")]
    NoFile(String),
    #[error(
        "the API server is behind the proxy {0}, which this program cannot use; unset proxy-url and HTTPS_PROXY"
    )]
    Proxy(String),
    #[error("{}", error_chain(.0))]
    Credentials(#[from] kube::Error),
    #[error("the credentials cannot be read: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    #[error("cannot use the token in {0}: {1}")]
    Token(String, #[source] io::Error),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
