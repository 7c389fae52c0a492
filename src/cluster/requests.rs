//! Requests to the API server, each with a timeout and counted by its outcome.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use kube::api::{GetParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::client::RESPONSE_TIMEOUT;
use super::convert::resource_version;
use super::request_error::{RequestError, RequestErrorKind};
use super::slim_pod::SlimPod;

/// A resource and the verb it is read with, as RBAC names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiResource {
    pub(super) name: &'static str,
    pub(super) verb: &'static str,
}

pub(super) const PODS: ApiResource = ApiResource { name: "pods", verb: "watch" };
pub(super) const PVS: ApiResource = ApiResource { name: "persistentvolumes", verb: "get" };
pub(super) const CLAIMS: ApiResource = ApiResource { name: "persistentvolumeclaims", verb: "get" };

/// The outcome of a GET: the object with its resource version, or `None` if it does not exist.
pub(super) type Outcome<T> = Result<Option<(Option<u64>, T)>, RequestError>;

/// Requests since the start by resource and code.
pub(super) type RequestCounts = Arc<Mutex<BTreeMap<(ApiResource, String), u64>>>;

/// Requests to one API server.
#[derive(Clone)]
pub(super) struct ApiClient {
    pub(super) kube: kube::Client,
    pub(super) counts: RequestCounts,
}

impl ApiClient {
    /// Gets an object from the server's cache. If it is missing there, not current, or older than the known version, it is read
    /// once more without a resource version: that answer is the truth.
    pub(super) async fn look_up<T>(
        &self,
        resource: ApiResource,
        api: Api<T>,
        name: &str,
        known: Option<u64>,
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
            answer => answer.map(|object| Some((resource_version(object.meta()), object))),
        };
        match get(GetParams::any()).await? {
            Some((version, object)) if version >= known && is_current(&object) => Ok(Some((version, object))),
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

    /// Counts a request by its status, or by the error instead of one.
    pub(super) fn count(&self, resource: ApiResource, error: Option<&RequestError>) {
        let Some(code) = error.map_or(Some("200".into()), RequestError::code) else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((resource, code)).or_default() += 1;
    }
}
