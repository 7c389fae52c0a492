//! The token that is shown to the kubelet: read anew each time, since it is replaced now and then.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;

use super::failure::Failure;

/// The file that the token is in.
#[derive(Debug)]
pub(super) struct Token {
    path: PathBuf,
    /// It was said that there is none.
    missed: Mutex<bool>,
}

impl Token {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, missed: Mutex::new(false) }
    }

    /// What the header `Authorization` says; `None` where there is no token: a kubelet may take requests without.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let read = std::fs::read_to_string(&self.path);
        let token = read.as_ref().map(|token| token.trim()).unwrap_or_default();
        let is_missing = token.is_empty();
        if is_missing
            != std::mem::replace(&mut *self.missed.lock().unwrap_or_else(PoisonError::into_inner), is_missing)
        {
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
        let mut value = value.map_err(|_| Failure::Token(self.path.display().to_string()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
