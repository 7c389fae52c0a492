//! Requests to the API server, each with its timeout and counted by what came of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use kube::api::{GetParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::client::RESPONSE_TIMEOUT;
use super::convert::Version;
use super::request_error::{RequestError, RequestErrorKind};
use super::slim_pod::SlimPod;

/// What is asked about, and how, by the names of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiResource {
    pub(super) name: &'static str,
    pub(super) verb: &'static str,
}

pub(super) const PODS: ApiResource = ApiResource { name: "pods", verb: "watch" };
pub(super) const PVS: ApiResource = ApiResource { name: "persistentvolumes", verb: "get" };
pub(super) const CLAIMS: ApiResource = ApiResource { name: "persistentvolumeclaims", verb: "get" };

/// What came of asking for an object: its version and contents, or `None` if there is none.
pub(super) type Outcome<T> = Result<Option<(Version, T)>, RequestError>;

/// Requests since the start by resource and code.
pub(super) type RequestCounts = Arc<Mutex<BTreeMap<(ApiResource, String), u64>>>;

/// Asks one API server.
#[derive(Clone)]
pub(super) struct ApiClient {
    pub(super) kube: kube::Client,
    pub(super) counts: RequestCounts,
}

impl ApiClient {
    /// The object of this name, or that there is none. What the server's cache does not have, or has in a state that is not
    /// current or older than what is known, is asked for once more without a version: that answer is the truth.
    pub(super) async fn look_up<T>(
        &self,
        resource: ApiResource,
        api: Api<T>,
        name: &str,
        known: Option<&Version>,
        is_current: impl Fn(&T) -> bool,
    ) -> Outcome<T>
    where
        T: kube::Resource + Clone + DeserializeOwned + Debug,
    {
        let get = async |params: GetParams| match self.send(resource, api.get_with(name, &params)).await {
            Ok(object) if object.name_any() != name => {
                Err(RequestError::new(RequestErrorKind::Decode, "it is of another object"))
            }
            Err(error) if error.kind == RequestErrorKind::Status(404) => Ok(None),
            answer => answer.map(|object| Some((Version::of(object.meta()), object))),
        };
        let is_older = |version: &Version| known.is_some_and(|known| version.is_before(known));
        match get(GetParams::any()).await? {
            Some((version, object)) if !is_older(&version) && is_current(&object) => {
                Ok(Some((version, object)))
            }
            _ => get(GetParams::default()).await,
        }
    }

    /// The events of pods from a version on, for so many seconds.
    pub(super) async fn watch_pods(
        &self,
        selector: &str,
        seconds: u32,
        version: &str,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<SlimPod>>> + use<>, RequestError> {
        let params = WatchParams::default().fields(selector).timeout(seconds);
        // What `Api::watch` does, for a type that is no whole object.
        let request = kube::core::Request::new("/api/v1/pods").watch(&params, version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.send(PODS, self.kube.request_events(request)).await
    }

    async fn send<T>(
        &self,
        resource: ApiResource,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RequestError> {
        let answer = timeout(RESPONSE_TIMEOUT, request).await.map_or_else(
            |_| Err(RequestError::new(RequestErrorKind::Timeout, "no answer within 5s")),
            |answer| answer.map_err(RequestError::from),
        );
        self.count(resource, answer.as_ref().err());
        answer
    }

    /// Counts a request that was answered, or what it came to instead.
    pub(super) fn count(&self, resource: ApiResource, error: Option<&RequestError>) {
        let Some(code) = error.map_or(Some("200".into()), RequestError::code) else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((resource, code)).or_default() += 1;
    }
}
