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
use super::request_error::RequestError;
use super::slim_pod::SlimPod;

/// What is asked about, by the names of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ApiResource {
    Pods,
    PersistentVolumes,
    PersistentVolumeClaims,
}

impl ApiResource {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::PersistentVolumes => "persistentvolumes",
            Self::PersistentVolumeClaims => "persistentvolumeclaims",
        }
    }

    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Pods => "watch",
            Self::PersistentVolumes | Self::PersistentVolumeClaims => "get",
        }
    }
}

/// Requests since the start by resource and code.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestCounts(Arc<Mutex<BTreeMap<(ApiResource, String), u64>>>);

impl RequestCounts {
    /// Counts a request that was answered, or what it came to instead.
    pub(super) fn count(&self, resource: ApiResource, error: Option<&RequestError>) {
        let Some(code) = error.map_or(Some("200".into()), RequestError::code) else { return };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((resource, code)).or_default() += 1;
    }

    /// Resource, verb, code and count.
    #[must_use]
    pub(super) fn to_vec(&self) -> Vec<(&'static str, &'static str, String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |((resource, code), count): (&(ApiResource, String), &u64)| {
            (resource.as_str(), resource.verb(), code.clone(), *count)
        };
        counts.iter().map(count).collect()
    }
}

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
        match self.get(resource, &api, name, &GetParams::any()).await {
            Ok(object) if is_current(&object) => return Ok(Some(object)),
            Err(error) if error.status() != Some(404) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        match self.get(resource, &api, name, &GetParams::default()).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            answer => answer.map(Some),
        }
    }

    async fn get<T>(
        &self,
        resource: ApiResource,
        api: &Api<T>,
        name: &str,
        params: &GetParams,
    ) -> Result<T, RequestError>
    where
        T: kube::Resource + Clone + DeserializeOwned + Debug,
    {
        let answer = match timeout(RESPONSE_TIMEOUT, api.get_with(name, params)).await {
            Ok(Ok(object)) if object.name_any() != name => Err(RequestError::OtherObject(object.name_any())),
            Ok(answer) => answer.map_err(RequestError::from),
            Err(_) => Err(RequestError::Timeout(RESPONSE_TIMEOUT)),
        };
        self.counts.count(resource, answer.as_ref().err());
        answer
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
            Err(_) => Err(RequestError::Timeout(RESPONSE_TIMEOUT)),
        };
        self.counts.count(ApiResource::Pods, events.as_ref().err());
        events
    }
}
