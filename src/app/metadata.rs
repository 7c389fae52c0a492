//! Where metadata comes from, by the settings and by what is there.

use super::error::AppError;
use crate::cluster::{self, Access, ApiSettings, ApiStatus, MetadataHandle, ObjectsFile, Selections};
use crate::config::{Config, KubernetesArgs, KubernetesMode};
use crate::runtime::{BlockingWorker, Clients};

/// The source, and the API server if it is that.
pub(super) struct OpenedMetadata {
    pub(super) metadata: MetadataHandle,
    pub(super) api: Option<ApiStatus>,
}

/// Opens the file of objects that was named, or else finds the API server.
pub(super) fn open_metadata(
    config: &Config,
    clients: &Clients,
    host_files: &BlockingWorker,
) -> Result<OpenedMetadata, AppError> {
    let KubernetesArgs { pv_labels, pvc_labels, .. } = config.kubernetes.clone();
    let selections = Selections { pv_labels, pvc_labels };
    if let Some(path) = &config.node.objects {
        let file = ObjectsFile::open(path, selections, host_files)?;
        return Ok(OpenedMetadata { metadata: MetadataHandle::objects(file), api: None });
    }
    let Some(access) = access(config)? else {
        return Ok(OpenedMetadata { metadata: MetadataHandle::none(), api: None });
    };
    let KubernetesArgs { node_name, label_refresh, .. } = &config.kubernetes;
    let node_name = node_name.clone().or_else(|| host_name(&access));
    tracing::info!(credentials = %access, node_name, "labels come from the Kubernetes API");
    let settings = ApiSettings { node_name, label_refresh: *label_refresh, selections };
    let (metadata, status, work) = cluster::follow(settings, || cluster::connect(access));
    clients.spawn(work);
    Ok(OpenedMetadata { metadata, api: Some(status) })
}

/// Whom to ask. What was asked for has to be usable; what was only found may fail.
fn access(config: &Config) -> Result<Option<Access>, AppError> {
    let KubernetesArgs { kubernetes: mode, kubeconfig, .. } = &config.kubernetes;
    if *mode == KubernetesMode::Off || config.node.fixture.is_some() {
        return Ok(None);
    }
    let required = *mode == KubernetesMode::Required;
    let Some(access) = Access::find(kubeconfig.as_deref()) else {
        return if required { Err(AppError::NoCluster) } else { Ok(None) };
    };
    match access.load() {
        Ok(_) => Ok(Some(access)),
        Err(error) if required || kubeconfig.is_some() => Err(AppError::Access(error)),
        Err(error) => {
            tracing::warn!(%error, "going on without the Kubernetes API; --kubernetes=off says that this is meant");
            Ok(None)
        }
    }
}

/// This machine's name, which is the node's by default; in a pod it would be the pod's.
fn host_name(access: &Access) -> Option<String> {
    if *access == Access::InCluster {
        tracing::warn!(
            "whose pods to look up is not known; set NODE_NAME from spec.nodeName, as manifests/ does"
        );
        return None;
    }
    Some(machine_name())
}

pub(super) fn machine_name() -> String {
    // uname(2) fails with EFAULT only.
    nix::sys::utsname::uname()
        .map(|name| name.nodename().to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}
