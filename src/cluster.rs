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

use std::sync::{Arc, PoisonError};
use std::time::Duration;

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
use requests::{ApiClient, RequestCounts};
use settings::ServerStatus;
use store::{MAX_EVENTS, Store};

/// What a collector has of the cluster: it says what is mounted, and takes what is known by then.
pub struct MetadataHandle {
    mounted: watch::Sender<Vec<Arc<VolumeMount>>>,
    metadata: watch::Receiver<Arc<Metadata>>,
    requests: RequestCounts,
    objects_file: Option<ObjectsFile>,
}

impl MetadataHandle {
    fn new(metadata: watch::Receiver<Arc<Metadata>>, objects_file: Option<ObjectsFile>) -> Self {
        Self { mounted: watch::Sender::default(), metadata, requests: RequestCounts::default(), objects_file }
    }

    /// Volumes are known by their mounts alone.
    #[must_use]
    pub fn none() -> Self {
        Self::new(watch::Sender::default().subscribe(), None)
    }

    /// Objects come from a file.
    #[must_use]
    pub fn objects(file: ObjectsFile) -> Self {
        Self::new(file.metadata.subscribe(), Some(file))
    }

    /// Says what is mounted now, and returns what is known by now.
    pub fn update(&mut self, mounts: &[Arc<VolumeMount>]) -> Arc<Metadata> {
        if !volume::are_same(&self.mounted.borrow(), mounts) {
            self.mounted.send_replace(mounts.to_vec());
        }
        if let Some(file) = &mut self.objects_file {
            file.refresh();
        }
        self.metadata()
    }

    /// What is known by now.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.metadata.borrow())
    }

    /// Requests since the start: resource, verb, code and count.
    #[must_use]
    pub fn requests(&self) -> Vec<(&'static str, &'static str, String, u64)> {
        let counts = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((of, code), count)| (of.name, of.verb, code.clone(), *count)).collect()
    }
}

/// How it goes with the API server.
#[derive(Debug, Clone)]
pub struct ApiStatus {
    mounted: watch::Receiver<Vec<Arc<VolumeMount>>>,
    metadata: watch::Receiver<Arc<Metadata>>,
    server: watch::Receiver<ServerStatus>,
}

impl ApiStatus {
    /// Waits until everything about the mounts of the last collection is answered, or as long as that.
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

/// Objects of the API server that `connect` connects to: what a collector has of them, how it goes, and the work, which has
/// to run for as long as the collector lives.
pub fn follow(
    settings: ApiSettings,
    connect: impl FnOnce() -> kube::Client + Send + 'static,
) -> (MetadataHandle, ApiStatus, impl Future<Output = ()> + Send) {
    let awaits_pods = settings.node_name.is_some();
    let first = Metadata { awaits_volumes: true, awaits_pods, ..Metadata::default() };
    let (metadata, receiver) = watch::channel(Arc::new(first));
    let (server, server_status) = watch::channel(ServerStatus::default());
    let handle = MetadataHandle::new(receiver.clone(), None);
    let (mounted, counts) = (handle.mounted.subscribe(), Arc::clone(&handle.requests));
    let status = ApiStatus { mounted: mounted.clone(), metadata: receiver, server: server_status };
    let work = async move {
        let api = ApiClient { kube: connect(), counts };
        let (events, pod_events) = mpsc::channel(MAX_EVENTS);
        let watcher = settings.node_name.as_ref().map(|name| PodWatcher::new(api.clone(), name, events));
        let store = Store::new(api, settings, mounted, pod_events, metadata, server);
        let watch_pods = async {
            if let Some(watcher) = watcher {
                restart_on_panic(watcher).await;
            }
        };
        tokio::join!(restart_on_panic(store), watch_pods);
    };
    (handle, status, work)
}
