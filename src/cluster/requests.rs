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
    /// current, is asked for once more without a version: that answer is the truth.
    pub(super) async fn look_up<T>(
        &self,
        resource: ApiResource,
        api: Api<T>,
        name: &str,
        is_current: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, RequestError>
    where
        T: kube::Resource + Clone + DeserializeOwned + Debug,
    {
        let get = async |params: GetParams| {
            let answer = match timeout(RESPONSE_TIMEOUT, api.get_with(name, &params)).await {
                Ok(Ok(object)) if object.name_any() != name => {
                    Err(RequestError::new(RequestErrorKind::Decode, "it is of another object"))
                }
                Ok(answer) => answer.map_err(RequestError::from),
                Err(_) => Err(no_response()),
            };
            self.count(resource, answer.as_ref().err());
            match answer {
                Err(error) if error.kind == RequestErrorKind::Status(404) => Ok(None),
                answer => answer.map(Some),
            }
        };
        match get(GetParams::any()).await? {
            Some(object) if is_current(&object) => Ok(Some(object)),
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
        let events = match timeout(RESPONSE_TIMEOUT, self.kube.request_events(request)).await {
            Ok(events) => events.map_err(RequestError::from),
            Err(_) => Err(no_response()),
        };
        self.count(PODS, events.as_ref().err());
        events
    }

    /// Counts a request that was answered, or what it came to instead.
    pub(super) fn count(&self, resource: ApiResource, error: Option<&RequestError>) {
        let Some(code) = error.map_or(Some("200".into()), RequestError::code) else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((resource, code)).or_default() += 1;
    }
}

fn no_response() -> RequestError {
    RequestError::new(RequestErrorKind::Timeout, "no answer within 5s")
}
