//! Where everything comes from, by the settings and by what is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::AppError;
use crate::cluster::{self, Access, ApiSettings, ApiStatus, MetadataHandle, ObjectsFile};
use crate::collect::CollectorInputs;
use crate::config::{Config, KubernetesArgs, KubernetesMode};
use crate::host_files::HostPath;
use crate::kubelet::{Kubelet, validate_ca_file};
use crate::node::{DEFAULT_KUBELET_ROOT, Fixture, KernelProbe, MountRootProof, Node, NodeSettings};
use crate::runtime::{BlockingWorker, Clients};
use crate::volume::{Exclusions, Probe};

/// The API server that metadata comes from.
pub(super) struct ApiConnection {
    pub(super) status: ApiStatus,
    /// `--kubernetes=required`.
    is_required: bool,
}

impl ApiConnection {
    /// Waits for a first answer of a server that is required, within a time that began at `started`. Where nothing is
    /// mounted, nothing is requested and nothing is missing.
    pub(super) async fn wait_if_required(&self, started: Instant, within: Duration) -> Result<(), AppError> {
        if !self.is_required {
            return Ok(());
        }
        match self.status.wait_until_reached(within.saturating_sub(started.elapsed())).await {
            Err(Some(failure)) => Err(AppError::failure(format_args!(
                "--kubernetes=required: the API server could not be asked within {within:?}: {failure}; give \
                 --kubernetes=auto to go on without"
            ))),
            Err(None) | Ok(()) => Ok(()),
        }
    }
}

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
    let (names, exclusions) = (config.sources.kubelet_series, config.exclusions.clone());
    let inputs = CollectorInputs { mounts, kubelet, host_files, names, exclusions };
    Ok((inputs, api))
}

fn node(config: &Config, host_files: &BlockingWorker) -> Result<Node, AppError> {
    let probe: Arc<dyn Probe> = match &config.fixture {
        Some(fixture) => {
            let remedy = "give a directory like those in fixtures/nodes";
            let unusable = |error| AppError::setting(format_args!("--fixture: {error}; {remedy}"));
            Arc::new(Fixture::load(fixture).map_err(unusable)?)
        }
        None => Arc::new(KernelProbe::new(config.node.rootfs.clone(), MountRootProof::default())),
    };
    Node::open(config.node.clone(), probe, host_files).map_err(|error| {
        let remedy = "give --mount-table, or --rootfs where the node's root file system is mounted";
        AppError::setting(format_args!("{error}; {remedy}"))
    })
}

fn kubelet(config: &Config, clients: &Clients, host_files: &BlockingWorker) -> Result<Kubelet, AppError> {
    let node_name = config.kubernetes.node_name.clone().unwrap_or_else(machine_name);
    let args = &config.kubelet;
    validate_ca_file(args).map_err(AppError::setting)?;
    if args.insecure_skip_tls_verify && args.kubelet_endpoint.scheme_str() == Some("https") {
        tracing::warn!(
            event = "kubelet_tls_unverified",
            endpoint = %args.kubelet_endpoint,
            "the kubelet's certificate is not verified (--insecure-skip-tls-verify): an impostor would receive the token"
        );
    }
    let NodeSettings { rootfs, matcher, .. } = config.node.clone();
    let path = matcher.kubelet_root.unwrap_or_else(|| DEFAULT_KUBELET_ROOT.into());
    let directory = HostPath { rootfs, path };
    Ok(Kubelet::new(args.clone(), directory, config.sources, node_name, clients, host_files))
}

/// Opens the file of objects that was named, or else finds the API server, which is returned too.
fn open_metadata(
    config: &Config,
    clients: &Clients,
    host_files: &BlockingWorker,
) -> Result<(MetadataHandle, Option<ApiConnection>), AppError> {
    let selections = config.kubernetes.selections();
    if let Some(path) = &config.objects {
        let file = ObjectsFile::open(path, selections, host_files)
            .map_err(|error| AppError::setting(format_args!("--objects: {error}")))?;
        return Ok((MetadataHandle::objects(file), None));
    }
    let Some(access) = access(config)? else {
        let Exclusions { fs_types: _, storage_classes, namespaces } = &config.exclusions;
        if !storage_classes.is_empty() || !namespaces.is_empty() {
            tracing::warn!(
                event = "exclusions_unknown",
                "without the Kubernetes API or --objects, storage classes and namespaces exclude no mounted volume: they are not known"
            );
        }
        return Ok((MetadataHandle::none(), None));
    };
    let KubernetesArgs { node_name, label_refresh, .. } = &config.kubernetes;
    let node_name = node_name.clone().or_else(|| host_name(&access));
    tracing::info!(event = "kubernetes_enabled", credentials = %access, node_name, "reading labels from the Kubernetes API");
    let settings = ApiSettings { node_name, label_refresh: *label_refresh, selections };
    let (metadata, status, work) = cluster::follow(settings, || cluster::connect(access));
    clients.spawn(work);
    let is_required = config.kubernetes.kubernetes == KubernetesMode::Required;
    Ok((metadata, Some(ApiConnection { status, is_required })))
}

/// Whom to ask. What was asked for has to be usable; what was only found may fail.
fn access(config: &Config) -> Result<Option<Access>, AppError> {
    let KubernetesArgs { kubernetes: mode, kubeconfig, .. } = &config.kubernetes;
    if *mode == KubernetesMode::Off || config.fixture.is_some() {
        return Ok(None);
    }
    let required = *mode == KubernetesMode::Required;
    let Some(access) = Access::find(kubeconfig.as_deref()) else {
        let missing = "--kubernetes=required: this is no pod with a service account, and there is no kubeconfig; give one \
             by --kubeconfig, or --kubernetes=auto";
        return if required { Err(AppError::setting(missing)) } else { Ok(None) };
    };
    match access.load() {
        Ok(_) => Ok(Some(access)),
        Err(error) if required || kubeconfig.is_some() => Err(AppError::setting(error)),
        Err(error) => {
            tracing::warn!(
                event = "kubernetes_unavailable", %error,
                "running without the Kubernetes API; --kubernetes=off silences this warning"
            );
            Ok(None)
        }
    }
}

/// This machine's name, which is the node's by default; in a pod it would be the pod's.
fn host_name(access: &Access) -> Option<String> {
    if *access == Access::InCluster {
        tracing::warn!(
            event = "node_name_missing",
            "the node's name is unknown, so its pods cannot be watched: set NODE_NAME from spec.nodeName, as manifests/ does"
        );
        return None;
    }
    Some(machine_name())
}

fn machine_name() -> String {
    // uname(2) fails with EFAULT only.
    nix::sys::utsname::uname()
        .map(|name| name.nodename().to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}
