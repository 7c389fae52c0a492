//! Where everything comes from, by the settings and by what is there.

use std::path::Path;
use std::sync::Arc;

use super::error::AppError;
use super::metadata::{ApiConnection, machine_name, open_metadata};
use crate::collect::CollectorInputs;
use crate::config::Config;
use crate::kubelet::{Kubelet, validate_ca_file};
use crate::node::{DEFAULT_KUBELET_ROOT, Fixture, KernelProbe, MountRootProof, Node};
use crate::runtime::{BlockingWorker, Clients};
use crate::volume::Probe;

/// Opens what is to be read; also returns the API server, if that is read.
pub(super) fn open_sources(config: &Config) -> Result<(CollectorInputs, Option<ApiConnection>), AppError> {
    let clients = Clients::start()?;
    let host_files = BlockingWorker::start("host-files")?;
    let kubelet = config.sources.needs_kubelet().then(|| kubelet(config, &clients, &host_files));
    let kubelet = kubelet.transpose()?;
    let (mut mounts, mut api) = (None, None);
    if config.sources.mounts {
        let node = node(config, &host_files)?;
        // The kubelet tells the claims of its volumes itself: objects are for those of mounts.
        let (metadata, server) = open_metadata(config, &clients, &host_files)?;
        (mounts, api) = (Some((node, metadata)), server);
    }
    let root = config.node.matcher.kubelet_root.as_deref().unwrap_or(Path::new(DEFAULT_KUBELET_ROOT));
    let kubelet_directory = config.node.rootfs.join(root.strip_prefix("/").unwrap_or(root));
    let inputs = CollectorInputs { mounts, kubelet, kubelet_directory, names: config.sources.kubelet_series };
    Ok((inputs, api))
}

fn node(config: &Config, host_files: &BlockingWorker) -> Result<Node, AppError> {
    let probe: Arc<dyn Probe> = match &config.fixture {
        Some(fixture) => Arc::new(Fixture::load(fixture)?),
        None => Arc::new(KernelProbe::new(config.node.rootfs.clone(), MountRootProof::default())),
    };
    Ok(Node::open(config.node.clone(), probe, host_files)?)
}

fn kubelet(config: &Config, clients: &Clients, host_files: &BlockingWorker) -> Result<Kubelet, AppError> {
    let node_name = config.kubernetes.node_name.clone().unwrap_or_else(machine_name);
    let args = &config.kubelet;
    validate_ca_file(args)?;
    if args.insecure_skip_tls_verify && args.kubelet_endpoint.scheme_str() == Some("https") {
        tracing::warn!(
            endpoint = %args.kubelet_endpoint,
            "the kubelet's certificate is not checked: whoever answers in its place gets the token (--insecure-skip-tls-verify)"
        );
    }
    Ok(Kubelet::new(args.clone(), config.sources, node_name, clients, host_files))
}
