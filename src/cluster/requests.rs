//! Requests to the API server, each with a timeout and counted by its outcome.

use std::borrow::Cow;
use std::fmt::Debug;

use futures_util::Stream;
use kube::api::{GetParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::client::RESPONSE_TIMEOUT;
use super::convert::resource_version;
use super::request_error::RequestError;
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

type LabelPairs<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// The metrics of requests to the API server.
#[derive(Debug, Clone)]
pub(super) struct ApiMetrics {
    requests: Family<LabelPairs<3>, Counter>,
    durations: Family<LabelPairs<2>, Histogram, fn() -> Histogram>,
}

impl Default for ApiMetrics {
    fn default() -> Self {
        let histogram = || Histogram::new([0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
        Self { requests: Family::default(), durations: Family::new_with_constructor(histogram) }
    }
}

impl ApiMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "disk_usage_exporter_kubernetes_requests",
            "Requests to the Kubernetes API by what came of them: the HTTP status, or timeout, connect, tls, decode",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "disk_usage_exporter_kubernetes_request_duration",
            "Time until a request to the Kubernetes API was answered or failed; of a watch, until its head came",
            Unit::Seconds,
            self.durations.clone(),
        );
    }
}

/// Requests to one API server.
#[derive(Clone)]
pub(super) struct ApiClient {
    pub(super) kube: kube::Client,
    pub(super) metrics: ApiMetrics,
}

impl ApiClient {
    /// Gets an object from the server's cache. If it is missing there, not current, or older than the known version, it is read
    /// once more without a resource version: that answer is the truth. `read` takes from it what is used.
    pub(super) async fn look_up<K, T>(
        &self,
        resource: ApiResource,
        api: Api<K>,
        name: &str,
        known: Option<u64>,
        read: impl Fn(K) -> T,
        is_current: impl Fn(&T) -> bool,
    ) -> Outcome<T>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug,
    {
        let get = async |params: GetParams| match self.send(resource, api.get_with(name, &params)).await {
            Ok(object) if object.name_any() != name => {
                Err(RequestError::Decode("it is of another object".into()))
            }
            Err(error) if error.is_status(404) => Ok(None),
            answer => answer.map(|object| Some((resource_version(object.meta()), read(object)))),
        };
        // What is not current is dropped before the next answer comes: either may be large.
        let cached = get(GetParams::any()).await?;
        match cached.filter(|(version, object)| *version >= known && is_current(object)) {
            Some(current) => Ok(Some(current)),
            None => get(GetParams::default()).await,
        }
    }

    /// The events of a node's pods from a version on, or from the beginning, for so many seconds.
    pub(super) async fn watch_pods(
        &self,
        node_name: &str,
        seconds: u32,
        version: Option<&str>,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<SlimPod>>> + use<>, RequestError> {
        let selector = format!("spec.nodeName={node_name},status.phase!=Failed,status.phase!=Succeeded");
        let params = WatchParams::default().fields(&selector).timeout(seconds);
        // What `Api::watch` does, for a type that is no whole object.
        let request = kube::core::Request::new("/api/v1/pods").watch(&params, version.unwrap_or("0"));
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.send(PODS, self.kube.request_events(request)).await
    }

    async fn send<T>(
        &self,
        resource: ApiResource,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RequestError> {
        let start = Instant::now();
        let answer = timeout(RESPONSE_TIMEOUT, request).await.map_or_else(
            |_| Err(RequestError::Timeout("no answer within 5s")),
            |answer| answer.map_err(RequestError::from),
        );
        let error = answer.as_ref().err();
        self.count(resource, error);
        if error.is_none_or(|error| error.code().is_some()) {
            let labels = [("resource", resource.name.into()), ("verb", resource.verb.into())];
            self.metrics.durations.get_or_create(&labels).observe(start.elapsed().as_secs_f64());
        }
        answer
    }

    /// Counts a request by its status, or by the error instead of one.
    pub(super) fn count(&self, resource: ApiResource, error: Option<&RequestError>) {
        let Some(code) = error.map_or(Some("200".into()), RequestError::code) else { return };
        let labels = [("resource", resource.name.into()), ("verb", resource.verb.into()), ("code", code)];
        self.metrics.requests.get_or_create(&labels).inc();
    }
}
