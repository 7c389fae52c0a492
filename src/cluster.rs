//! The Kubernetes side: what the objects of the cluster say about the volumes of this node.

mod access;
mod cached_volume;
mod client;
mod convert;
mod lookup;
mod objects_file;
mod pod_index;
mod pods;
mod request_error;
mod requests;
mod settings;
mod slim_pod;
mod store;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub use crate::volume::Selections;
pub use access::{Access, AccessError};
pub use client::{connect, limited};
pub use objects_file::{ObjectsError, ObjectsFile, parse_objects};
pub use request_error::RequestError;
pub use settings::ApiSettings;

use crate::runtime::restart_on_panic;
use crate::volume::{self, Metadata, VolumeMount};
use pods::PodWatcher;
use requests::{ApiClient, ApiMetrics};
use settings::ServerStatus;
use store::{MAX_EVENTS, Store, StoreChannels};

/// A collector's side of the metadata: it publishes what is mounted, and reads the latest metadata without waiting.
pub struct MetadataHandle {
    mounted: watch::Sender<Vec<Arc<VolumeMount>>>,
    metadata: watch::Receiver<Arc<Metadata>>,
    /// Of the API server, if metadata comes from there.
    metrics: Option<ApiMetrics>,
    objects_file: Option<ObjectsFile>,
}

impl MetadataHandle {
    fn new(metadata: watch::Receiver<Arc<Metadata>>, objects_file: Option<ObjectsFile>) -> Self {
        Self { mounted: watch::Sender::default(), metadata, metrics: None, objects_file }
    }

    /// No metadata: volumes are known by their mounts alone.
    #[must_use]
    pub fn none() -> Self {
        Self::new(watch::Sender::default().subscribe(), None)
    }

    /// Metadata from a file of objects.
    #[must_use]
    pub fn objects(file: ObjectsFile) -> Self {
        Self::new(file.metadata.subscribe(), Some(file))
    }

    /// Publishes what is mounted now, and returns the latest metadata.
    pub fn update(&mut self, mounts: &[Arc<VolumeMount>]) -> Arc<Metadata> {
        if !volume::are_same(&self.mounted.borrow(), mounts) {
            self.mounted.send_replace(mounts.to_vec());
        }
        if let Some(file) = &mut self.objects_file {
            file.refresh();
        }
        self.metadata()
    }

    /// The latest metadata.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.metadata.borrow())
    }

    /// Registers the metrics of requests to the API server, if that is where metadata comes from.
    pub fn register_metrics(&self, registry: &mut Registry) {
        if let Some(metrics) = &self.metrics {
            metrics.register(registry);
        }
    }
}

/// Whether the API server answers, for those who wait for it.
#[derive(Debug, Clone)]
pub struct ApiStatus {
    mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    metadata: watch::Receiver<Arc<Metadata>>,
    server: watch::Receiver<ServerStatus>,
}

impl ApiStatus {
    /// Waits until the metadata of every mount of the last collection is answered, for at most this long.
    pub async fn wait_until_answered(&self, within: Duration) {
        let mounted = self.mounted.borrow().clone();
        let is_answered = |metadata: &Arc<Metadata>| mounted.iter().all(|mount| metadata.is_answered(mount));
        let _ = timeout(within, self.metadata.clone().wait_for(is_answered)).await;
    }

    /// Waits until the server has answered something, if only with no.
    ///
    /// # Errors
    ///
    /// If it did not in this time: the last failure, where anything was asked.
    pub async fn wait_until_reached(&self, within: Duration) -> Result<(), Option<RequestError>> {
        let mut server = self.server.clone();
        match timeout(within, server.wait_for(|(is_reached, _)| *is_reached)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.server.borrow().1.clone()),
        }
    }
}

/// Follows the objects of the API server that `connect` connects to. The future does the work: it has to run as long as the
/// collector lives.
pub fn follow(
    settings: ApiSettings,
    connect: impl FnOnce() -> kube::Client + Send + 'static,
) -> (MetadataHandle, ApiStatus, impl Future<Output = ()> + Send) {
    let awaits_pods = settings.node_name.is_some();
    let first = Metadata { awaits_volumes: true, awaits_pods, ..Metadata::default() };
    let (metadata, receiver) = watch::channel(Arc::new(first));
    let (server, server_status) = watch::channel(ServerStatus::default());
    let metrics = ApiMetrics::default();
    let handle =
        MetadataHandle { metrics: Some(metrics.clone()), ..MetadataHandle::new(receiver.clone(), None) };
    let mounted = handle.mounted.subscribe();
    let status = ApiStatus { mounted: mounted.clone(), metadata: receiver, server: server_status };
    let work = async move {
        let api = ApiClient { kube: connect(), metrics };
        let (events, pod_events) = mpsc::channel(MAX_EVENTS);
        let watcher = settings.node_name.as_ref().map(|name| PodWatcher::new(api.clone(), name, events));
        let channels = StoreChannels { mounted, pod_events, metadata, server };
        let store = Store::new(api, settings, channels);
        let watch_pods = async {
            if let Some(watcher) = watcher {
                restart_on_panic(watcher).await;
            }
        };
        tokio::join!(restart_on_panic(store), watch_pods);
    };
    (handle, status, work)
}
