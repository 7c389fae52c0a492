//! One request to the API server: its time, its limits, and what came of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, Response, StatusCode};
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;

use super::access::{Access, Session};
use super::counts::Counts;
use super::failure::{self, Failure};
use crate::remote::{self, chain};

/// How long an answer may take, or to begin if it is a stream.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Objects are smaller: etcd stores no more than 1.5 MB of one.
const LARGEST_OBJECT: usize = 8 << 20;

/// What can be asked about, by the names of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    Pods,
    PersistentVolumes,
    PersistentVolumeClaims,
}

impl Resource {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::PersistentVolumes => "persistentvolumes",
            Self::PersistentVolumeClaims => "persistentvolumeclaims",
        }
    }
}

/// What is asked, for the count of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) resource: Resource,
    pub(super) verb: &'static str,
}

/// Asks one API server.
pub(super) struct Client {
    access: Access,
    session: tokio::sync::Mutex<Option<Session>>,
    counts: Mutex<Counts>,
}

impl Client {
    pub(super) fn new(access: Access) -> Self {
        Self { access, session: tokio::sync::Mutex::default(), counts: Mutex::default() }
    }

    /// An object, whole.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        question: Question,
        request: Request<Vec<u8>>,
    ) -> Result<T, Failure> {
        let asked = async {
            let body = self.answer(question, &request).await?.into_body();
            let body = Limited::new(body, LARGEST_OBJECT).collect().await.map_err(|error| broken(&*error))?;
            serde_json::from_slice(&body.to_bytes()).map_err(Failure::decode)
        };
        let outcome = tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Failure::Timeout(PATIENCE)));
        self.count(question, outcome.as_ref().err());
        outcome
    }

    /// The beginning of a stream.
    pub(super) async fn stream(
        &self,
        question: Question,
        request: Request<Vec<u8>>,
    ) -> Result<Body, Failure> {
        let asked = tokio::time::timeout(PATIENCE, self.answer(question, &request));
        let outcome = asked.await.unwrap_or(Err(Failure::Timeout(PATIENCE))).map(Response::into_body);
        self.count(question, outcome.as_ref().err());
        outcome
    }

    /// Counts what came of a request, or of the stream after its good beginning.
    pub(super) fn count(&self, question: Question, failure: Option<&Failure>) {
        let code = failure.map_or_else(|| Some("200".into()), Failure::code);
        if let Some(code) = code {
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(question, code);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A success. Credentials that are refused are read anew, a token at once.
    async fn answer(
        &self,
        question: Question,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Body>, Failure> {
        let outcome = self.send(request).await;
        if let Err(refused) = &outcome
            && matches!(refused, Failure::Status { code: 401, .. } | Failure::Tls(_))
        {
            *self.session.lock().await = None;
            if refused.status() == Some(401) {
                self.count(question, Some(refused));
                return self.send(request).await;
            }
        }
        outcome
    }

    async fn send(&self, request: &Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
        let client = {
            let mut session = self.session.lock().await;
            match session.as_mut() {
                Some(session) => session.client(),
                None => session.insert(Session::open(&self.access).await?).client(),
            }
        };
        let response =
            client.send(request.clone().map(Body::from)).await.map_err(|error| Failure::of(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(refusal(response).await)
    }
}

/// What an answer that is no success says.
async fn refusal(response: Response<Body>) -> Failure {
    let code = response.status().as_u16();
    let retry_after = failure::retry_after(response.headers());
    let body = Limited::new(response.into_body(), LARGEST_OBJECT).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Failure::Status { code, message: message(&body), retry_after }
}

fn message(body: &Bytes) -> String {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if !status.message.is_empty() => remote::begin(&status.message),
        _ => remote::begin(&String::from_utf8_lossy(body)),
    }
}

/// Of an answer that broke off.
pub(super) fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    if error.is::<http_body_util::LengthLimitError>() {
        return Failure::Decode(format!("larger than {LARGEST_OBJECT} bytes"));
    }
    Failure::Connect(chain(error))
}
