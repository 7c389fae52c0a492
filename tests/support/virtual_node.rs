//! The program's cache of Kubernetes objects, with a fake API server in this process and a paused clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use disk_usage_exporter::cluster::{ApiSettings, ApiStatus, MetadataHandle, Selections, follow};
use disk_usage_exporter::volume::{Lookup, VolumeMetadata, VolumeMode, VolumeMount};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::apiserver::{CLAIMS, Fault, PODS, PVS, Recorded, Server};
use super::objects::{NODE, bound, pod};

/// The refresh interval of labels, without jitter.
pub(crate) const REFRESH: Duration = Duration::from_hours(1);
/// The longest refresh interval with jitter.
pub(crate) const MAX_REFRESH: Duration = Duration::from_secs(4356);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// Volumes and the uids of pods that mount them.
type Mounts<'a> = [(&'a str, &'a str)];

pub(crate) struct VirtualNode {
    pub(crate) server: Arc<Server>,
    pub(crate) handle: MetadataHandle,
    pub(crate) status: ApiStatus,
    work: JoinHandle<()>,
}

impl VirtualNode {
    pub(crate) fn start(server: &Arc<Server>, mounts: &Mounts<'_>) -> Self {
        Self::start_as(Some(NODE), server, mounts)
    }

    /// The same, for a node of this name.
    pub(crate) fn start_as(node_name: Option<&str>, server: &Arc<Server>, mounts: &Mounts<'_>) -> Self {
        let selections = Selections::default();
        let settings =
            ApiSettings { node_name: node_name.map(Into::into), label_refresh: REFRESH, selections };
        let api = Arc::clone(server);
        let (handle, status, work) = follow(settings, move || api.client());
        let mut node = Self { server: Arc::clone(server), handle, status, work: tokio::spawn(work) };
        node.mount(mounts);
        node
    }

    /// A node with these volumes, mounted by the pod `app`, after their first lookups.
    pub(crate) async fn with_volumes(pv_names: &[&str]) -> Self {
        let server = Server::new();
        server.put(pv_names.iter().flat_map(|name| bound(name, "first")));
        server.put([pod("app", pv_names)]);
        let node = Self::start(&server, &mounted_by_app(pv_names));
        pass(3 * SECOND).await;
        node
    }

    pub(crate) fn mount(&mut self, mounts: &Mounts<'_>) {
        let mounts: Vec<_> = mounts.iter().map(|(name, uid)| Arc::new(mount(name, uid))).collect();
        self.handle.update(&mounts);
    }

    /// What is known of a volume that this pod mounts.
    pub(crate) fn volume(&self, name: &str, pod_uid: &str) -> Option<VolumeMetadata> {
        self.handle.metadata().volume(&mount(name, pod_uid)).cloned()
    }

    /// The label `tier` of a volume and of its claim, as that pod's mount shows them: `-` for none, `?` if nothing is known.
    pub(crate) fn tiers(&self, name: &str, pod_uid: &str) -> String {
        let Some(volume) = self.volume(name, pod_uid) else { return "?".into() };
        let pv = volume.pv.found().map(|pv| &pv.labels);
        let claim = volume.claim.as_ref().and_then(Lookup::found).map(|claim| &claim.labels);
        [pv, claim]
            .map(|labels| labels.and_then(|labels| labels.get("tier")).map_or("-", |tier| tier))
            .join(" ")
    }

    /// Requests for single objects so far.
    pub(crate) fn gets(&self) -> Vec<Recorded> {
        self.server.requests().into_iter().filter(|request| request.verb == "get").collect()
    }

    /// The series of requests: resource, verb and code.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.handle.register_metrics(&mut registry);
        prometheus_text::encode(&mut text, &registry).unwrap();
        let series = text.lines().filter(|line| line.contains("kubernetes_requests_total{"));
        let labels = |line: &str| line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(" ");
        series.map(|line| (labels(line), line.rsplit_once(' ').unwrap().1.parse().unwrap())).collect()
    }

    /// The requests of a resource that are counted with this code.
    pub(crate) fn count(&self, resource: &str, code: &str) -> u64 {
        let verb = if resource == PODS { "watch" } else { "get" };
        self.counts().get(&[resource, verb, code].join(" ")).copied().unwrap_or_default()
    }

    pub(crate) fn success(&self, resource: &str) -> Option<bool> {
        let metadata = self.handle.metadata();
        metadata.sources.iter().find(|source| source.name == resource).map(|source| source.success)
    }
}

impl Drop for VirtualNode {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// Lets time pass, in which everything happens that can.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) fn mounted_by_app<'a>(pv_names: &[&'a str]) -> Vec<(&'a str, &'static str)> {
    pv_names.iter().map(|name| (*name, "app")).collect()
}

pub(crate) fn mount(name: &str, pod_uid: &str) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        plugin: "nfs".into(),
        pod_uid: Some(pod_uid.into()),
        csi: None,
        mode: VolumeMode::Filesystem,
        mountpoint: format!("/var/lib/kubelet/pods/{pod_uid}/volumes/kubernetes.io~nfs/{name}").into(),
        id: Some(1),
        device_number: Some((0, 50)),
        device: format!("nas:/{name}").into(),
        root: Some("/".into()),
        fstype: "nfs4".into(),
        read_only: Some(false),
        is_read_only_here: false,
        superblock_read_only: Some(false),
    }
}

/// Everything goes wrong in this way from now on, and open watches end.
pub(crate) fn fail_all(server: &Server, fault: &Fault) {
    for resource in [PODS, PVS, CLAIMS] {
        server.fault(resource, fault.clone(), usize::MAX);
    }
    server.end_watches();
}

/// An object as the server has it, of this uid and version.
pub(crate) fn of_version(mut object: Value, uid: &str, version: u64) -> Value {
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object
}
