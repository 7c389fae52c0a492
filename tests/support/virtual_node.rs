//! What the program knows of a cluster, from an API server that is a function, on a clock that is paused.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use disk_usage_exporter::cluster::{ApiSettings, ApiStatus, MetadataHandle, Selections, follow};
use disk_usage_exporter::volume::{Lookup, Metadata, VolumeMetadata, VolumeMode, VolumeMount};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::apiserver::{Fault, Recorded, Resource, Server, Verb, of};
use super::cluster::NODE;

/// A refresh of labels, without its jitter.
pub(crate) const REFRESH: Duration = Duration::from_hours(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// The program's part that asks, and what it is told is mounted.
pub(crate) struct VirtualNode {
    pub(crate) server: Arc<Server>,
    pub(crate) handle: MetadataHandle,
    pub(crate) status: ApiStatus,
    work: JoinHandle<()>,
}

pub(crate) fn settings(node_name: Option<&str>) -> ApiSettings {
    let selections = Selections::default();
    ApiSettings { node_name: node_name.map(Into::into), label_refresh: REFRESH, selections }
}

impl VirtualNode {
    pub(crate) fn start(server: &Arc<Server>) -> Self {
        Self::start_with(server, settings(Some(NODE)))
    }

    pub(crate) fn start_with(server: &Arc<Server>, settings: ApiSettings) -> Self {
        let asked = Arc::clone(server);
        let (handle, status, work) = follow(settings, move || asked.client());
        Self { server: Arc::clone(server), handle, status, work: tokio::spawn(work) }
    }

    /// A node with these volumes, mounted by a pod `app` each, and all that is asked about them at first.
    pub(crate) async fn with_volumes(names: &[&str]) -> Self {
        let server = Server::in_process();
        server.put_all(names.iter().flat_map(|name| bound(name, "first")));
        let rows: Vec<(&str, &str)> = names.iter().map(|name| (*name, "app")).collect();
        server.put(pod("app", &names.iter().map(|name| claim_of(name)).collect::<Vec<_>>()));
        let mut node = Self::start(&server);
        node.mount(&rows);
        pass(3 * SECOND).await;
        node
    }

    /// These volumes are mounted now, by pods of these uids.
    pub(crate) fn mount(&mut self, rows: &[(&str, &str)]) -> Arc<Metadata> {
        let mounts: Vec<_> = rows.iter().map(|(name, uid)| Arc::new(mount(name, uid))).collect();
        self.handle.update(&mounts)
    }

    /// What is known of a volume that this pod mounts.
    pub(crate) fn volume(&self, name: &str, pod_uid: &str) -> Option<VolumeMetadata> {
        self.handle.metadata().volume(&mount(name, pod_uid)).cloned()
    }

    /// The label `tier` of a volume and of its claim, `-` for none, as that pod's mount shows them.
    pub(crate) fn tiers(&self, name: &str, pod_uid: &str) -> String {
        let Some(volume) = self.volume(name, pod_uid) else { return "?".into() };
        let tier = |labels: &disk_usage_exporter::volume::Labels| {
            labels.get("tier").map_or("-", |tier| tier).to_owned()
        };
        let pv = volume.pv.found().map_or("-".into(), |pv| tier(&pv.labels));
        let claim =
            volume.claim.as_ref().and_then(Lookup::found).map_or("-".into(), |claim| tier(&claim.labels));
        format!("{pv} {claim}")
    }

    /// Requests for single objects so far.
    pub(crate) fn gets(&self) -> Vec<Recorded> {
        self.server.requests().into_iter().filter(|request| request.verb == Verb::Get).collect()
    }

    /// How many requests came to this.
    pub(crate) fn count(&self, resource: Resource, code: &str) -> u64 {
        let requests = self.requests();
        let labels = [format!("resource=\"{}\"", resource.name()), format!("code=\"{code}\"")];
        let counts = requests.iter().filter(|line| labels.iter().all(|label| line.contains(label)));
        counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// The series of requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.handle.register_metrics(&mut registry);
        prometheus_text::encode(&mut text, &registry).unwrap();
        let lines =
            text.lines().filter(|line| line.starts_with("disk_usage_exporter_kubernetes_requests_total{"));
        lines.map(ToOwned::to_owned).collect()
    }

    pub(crate) fn success(&self, resource: Resource) -> Option<bool> {
        let metadata = self.handle.metadata();
        metadata.sources.iter().find(|source| source.name == resource.name()).map(|source| source.success)
    }
}

impl Drop for VirtualNode {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// What is logged on this thread from now on, until the guard is dropped.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl CapturedLog {
    pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that contain this.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(text)).map(ToOwned::to_owned).collect()
    }
}

impl io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets time pass, in which everything happens that can.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) fn mount(name: &str, pod_uid: &str) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        plugin: "nfs".into(),
        pod_uid: (!pod_uid.is_empty()).then(|| pod_uid.into()),
        csi: None,
        mode: VolumeMode::Filesystem,
        mountpoint: format!("/var/lib/kubelet/pods/{pod_uid}/volumes/kubernetes.io~nfs/{name}").into(),
        id: Some(1),
        device_number: Some((0, 50)),
        device: "nas:/export".into(),
        root: Some("/".into()),
        fstype: "nfs4".into(),
        read_only: false,
        superblock_read_only: false,
    }
}

pub(crate) fn claim_of(name: &str) -> String {
    format!("{name}-claim")
}

/// A volume and its claim, both with a label `tier`.
pub(crate) fn bound(name: &str, tier: &str) -> [Value; 2] {
    [pv(name, &claim_of(name), tier), claim(&claim_of(name), tier)]
}

pub(crate) fn pv(name: &str, claim: &str, tier: &str) -> Value {
    json!({"kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": name, "labels": {"tier": tier}},
        "spec": {"nfs": {"server": "nas", "path": "/export"}, "claimRef": {"namespace": "shop", "name": claim}}})
}

pub(crate) fn claim(name: &str, tier: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "spec": {},
        "metadata": {"namespace": "shop", "name": name, "labels": {"tier": tier}}})
}

/// A pod, named after its uid, that uses these claims.
pub(crate) fn pod(uid: &str, claims: &[impl AsRef<str>]) -> Value {
    let volume = |claim: &str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    let volumes: Vec<Value> = claims.iter().map(|claim| volume(claim.as_ref())).collect();
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "shop", "name": uid, "uid": uid},
        "spec": {"nodeName": NODE, "volumes": volumes}})
}

/// Everything goes wrong in this way from now on, and open watches end.
pub(crate) fn fail_all(server: &Server, fault: &Fault) {
    let kinds = [
        (Verb::Watch, Resource::Pods),
        (Verb::Get, Resource::PersistentVolumes),
        (Verb::Get, Resource::PersistentVolumeClaims),
    ];
    for (verb, resource) in kinds {
        server.fault(of(verb, resource), fault.clone(), usize::MAX);
    }
    server.end_watches();
}

/// The object as the server has it, of this uid and version.
pub(crate) fn of_version(mut object: Value, uid: &str, version: u64) -> Value {
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object
}
