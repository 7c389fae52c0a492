//! Where everything comes from, by the settings and by what is there.

use std::path::Path;
use std::sync::Arc;

use super::error::AppError;
use super::metadata::{self, machine_name};
use crate::cluster::ApiStatus;
use crate::collect::CollectorInputs;
use crate::config::{Config, NodeConfig};
use crate::kubelet::Kubelet;
use crate::node::{DEFAULT_KUBELET_ROOT, Fixture, KernelProbe, MountRootProof, Node, VolumeMatcher};
use crate::runtime::{BlockingWorker, Clients};
use crate::volume::Probe;

/// The sources, and the API server if it is one of them.
pub(super) struct OpenedSources {
    pub(super) inputs: CollectorInputs,
    pub(super) api: Option<ApiStatus>,
}

/// Opens what is to be read.
pub(super) fn open_sources(config: &Config) -> Result<OpenedSources, AppError> {
    let clients = Clients::start()?;
    let host_files = BlockingWorker::start("host-files")?;
    let kubelet = config.sources.needs_kubelet().then(|| kubelet(config, &clients, &host_files));
    let kubelet = kubelet.transpose()?;
    let (mut mounts, mut api) = (None, None);
    if config.sources.mounts {
        let node = node(config, &host_files)?;
        // The kubelet tells the claims of its volumes itself: objects are for those of mounts.
        let found = metadata::open_metadata(config, &clients, &host_files)?;
        (mounts, api) = (Some((node, found.metadata)), found.api);
    }
    let root = config.node.kubelet_root.as_deref().unwrap_or(Path::new(DEFAULT_KUBELET_ROOT));
    let kubelet_directory = config.node.rootfs.join(root.strip_prefix("/").unwrap_or(root));
    let inputs = CollectorInputs { mounts, kubelet, kubelet_directory, names: config.sources.kubelet_series };
    Ok(OpenedSources { inputs, api })
}

fn node(config: &Config, host_files: &BlockingWorker) -> Result<Node, AppError> {
    let NodeConfig { rootfs, mount_table, objects: _, fixture, kubelet_root, volume_regex } = &config.node;
    let matcher = VolumeMatcher { kubelet_root: kubelet_root.clone(), volume_regex: volume_regex.clone() };
    let probe: Arc<dyn Probe> = match fixture {
        Some(fixture) => Arc::new(Fixture::load(fixture)?),
        None => Arc::new(KernelProbe::new(rootfs.clone(), MountRootProof::default())),
    };
    Ok(Node::open(rootfs.clone(), mount_table.as_deref(), matcher, probe, host_files)?)
}

fn kubelet(config: &Config, clients: &Clients, host_files: &BlockingWorker) -> Result<Kubelet, AppError> {
    let node_name = config.kubernetes.node_name.clone().unwrap_or_else(machine_name);
    let settings = config.kubelet.settings(config.sources, node_name);
    settings.tls.validate_ca_file()?;
    let endpoint = &settings.endpoint;
    if settings.tls.skip_verify && endpoint.scheme_str() == Some("https") {
        tracing::warn!(
            %endpoint,
            "the kubelet's certificate is not checked: whoever answers in its place gets the token (--insecure-skip-tls-verify)"
        );
    }
    tracing::info!(%endpoint, summary = settings.summary, metrics = settings.exposed_claims, "the kubelet is asked");
    Ok(Kubelet::new(settings, clients, host_files))
}
