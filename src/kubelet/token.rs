//! The token that is shown to the kubelet: read anew each time, since it is replaced now and then.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::HeaderValue;

use super::error::KubeletError;

/// The file that the token is in.
#[derive(Debug)]
pub(super) struct Token {
    path: PathBuf,
    /// Whether it was missing at the last request.
    is_missing: AtomicBool,
}

impl Token {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, is_missing: AtomicBool::new(false) }
    }

    /// What the header `Authorization` says; `None` where there is no token: a kubelet may take requests without.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, KubeletError> {
        let read = std::fs::read_to_string(&self.path);
        let token = read.as_ref().map(|token| token.trim()).unwrap_or_default();
        let is_missing = token.is_empty();
        if is_missing != self.is_missing.swap(is_missing, Ordering::Relaxed) {
            let path = self.path.display();
            if is_missing {
                let error = read.as_ref().err().map(ToString::to_string);
                tracing::warn!(%path, error, "no token for the kubelet; going on without: --token-path names its file");
            } else {
                tracing::info!(%path, "there is a token for the kubelet now");
            }
        }
        if is_missing {
            return Ok(None);
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| KubeletError::Token(self.path.display().to_string()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
