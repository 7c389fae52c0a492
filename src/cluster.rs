//! The Kubernetes side: what the objects of the cluster say about the volumes of this node.

mod access;
mod cached_volume;
mod client;
mod convert;
mod objects;
mod objects_file;
mod pod_index;
mod pods;
mod request_error;
mod requests;
mod slim_pod;
mod store;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

pub use crate::volume::Selections;
pub use access::{Access, AccessError};
pub use client::{connect, limited};
pub use objects::{ObjectsError, parse_objects};
pub use objects_file::ObjectsFile;
pub use request_error::RequestError;
pub use store::ApiSettings;

use crate::runtime::catch_panic;
use crate::volume::{self, Metadata, VolumeMount};
use pods::PodWatcher;
use requests::{ApiClient, ApiMetrics};
use store::{ServerStatus, Store};

/// Names of resized volumes that are queued.
const MAX_RESIZED: usize = 16;
/// The pause before what panicked runs again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// A collector's side of the metadata: it publishes what is mounted, and reads the latest metadata without waiting.
pub struct MetadataHandle {
    mounted: watch::Sender<Vec<Arc<VolumeMount>>>,
    metadata: watch::Receiver<Arc<Metadata>>,
    /// If metadata comes from the API server, the names of volumes that were resized, and the metrics of requests.
    api: Option<(mpsc::Sender<String>, ApiMetrics)>,
    objects_file: Option<ObjectsFile>,
}

impl MetadataHandle {
    /// No metadata: volumes are known by their mounts alone.
    pub fn none() -> Self {
        let metadata = watch::Sender::default().subscribe();
        Self { mounted: watch::Sender::default(), metadata, api: None, objects_file: None }
    }

    /// Metadata from a file of objects.
    pub fn objects(file: ObjectsFile) -> Self {
        Self { objects_file: Some(file), ..Self::none() }
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

    /// Tells that the size of a volume has changed: what its claim asks for will be read again.
    pub fn report_resize(&self, pv_name: &str) {
        if let Some((resized, _)) = &self.api {
            // Where too many were resized at once, the others are refreshed when they are due.
            let _ = resized.try_send(pv_name.to_owned());
        }
    }

    /// The latest metadata.
    pub fn metadata(&self) -> Arc<Metadata> {
        let from_api = || Arc::clone(&self.metadata.borrow());
        self.objects_file.as_ref().map_or_else(from_api, |file| Arc::clone(&file.metadata))
    }

    /// Registers the metrics of requests to the API server, if that is where metadata comes from.
    pub fn register_metrics(&self, registry: &mut Registry) {
        if let Some((_, metrics)) = &self.api {
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
    pub async fn wait_until_reached(&self, within: Duration) -> Result<(), Option<RequestError>> {
        let _ = timeout(within, self.server.clone().wait_for(Result::is_ok)).await;
        self.server.borrow().clone()
    }
}

/// Follows the objects of the API server that `connect` connects to. The future does the work: it has to run as long as the
/// collector lives.
pub fn follow(
    settings: ApiSettings,
    connect: impl FnOnce() -> kube::Client + Send + 'static,
) -> (MetadataHandle, ApiStatus, impl Future<Output = ()> + Send) {
    let (mounted, metrics) = (watch::Sender::default(), ApiMetrics::default());
    let (resized, names_of_resized) = mpsc::channel(MAX_RESIZED);
    let mut store = Store::new(settings, mounted.subscribe(), names_of_resized);
    let (metadata, server) = (store.metadata.subscribe(), store.server.subscribe());
    let status = ApiStatus { mounted: mounted.subscribe(), metadata: metadata.clone(), server };
    let api = Some((resized, metrics.clone()));
    let handle = MetadataHandle { mounted, metadata, api, objects_file: None };
    let work = async move {
        let api = ApiClient { kube: connect(), metrics };
        let new_watcher =
            |name| PodWatcher::new(api.clone(), name, store.pods.clone(), store.mounted.clone());
        let mut watcher = store.settings.node_name.clone().map(new_watcher);
        // A panic is logged and counted by the panic hook. Both then start again, with what the store knew.
        let mut run = async || {
            tokio::select! {
                () = store.run(&api) => {}
                Some(()) = OptionFuture::from(watcher.as_mut().map(PodWatcher::run)) => {}
            }
        };
        while catch_panic(run()).await.is_err() {
            sleep(RESTART_DELAY).await;
        }
    };
    (handle, status, work)
}
