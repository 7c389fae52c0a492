//! Where metadata comes from, by the settings and by what is there.

use std::time::{Duration, Instant};

use super::error::AppError;
use crate::cluster::{self, Access, ApiSettings, ApiStatus, MetadataHandle, ObjectsFile, Selections};
use crate::config::{Config, KubernetesArgs, KubernetesMode};
use crate::runtime::{BlockingWorker, Clients};

/// The API server that metadata comes from.
pub(super) struct ApiConnection {
    pub(super) status: ApiStatus,
    /// `--kubernetes=required`.
    is_required: bool,
}

impl ApiConnection {
    /// Waits for a first answer of a server that is required, within a time that began at `started`. Where nothing is
    /// mounted, nothing is requested and nothing is missing.
    ///
    /// # Errors
    ///
    /// If the server could not be reached by then.
    pub(super) async fn wait_if_required(&self, started: Instant, within: Duration) -> Result<(), AppError> {
        if !self.is_required {
            return Ok(());
        }
        match self.status.wait_until_reached(within.saturating_sub(started.elapsed())).await {
            Err(Some(failure)) => Err(AppError::Unreachable { within, failure }),
            Err(None) | Ok(()) => Ok(()),
        }
    }
}

/// Opens the file of objects that was named, or else finds the API server, which is returned too.
pub(super) fn open_metadata(
    config: &Config,
    clients: &Clients,
    host_files: &BlockingWorker,
) -> Result<(MetadataHandle, Option<ApiConnection>), AppError> {
    let KubernetesArgs { pv_labels, pvc_labels, .. } = config.kubernetes.clone();
    let selections = Selections { pv_labels, pvc_labels };
    if let Some(path) = &config.objects {
        let file = ObjectsFile::open(path, selections, host_files)?;
        return Ok((MetadataHandle::objects(file), None));
    }
    let Some(access) = access(config)? else {
        return Ok((MetadataHandle::none(), None));
    };
    let KubernetesArgs { node_name, label_refresh, .. } = &config.kubernetes;
    let node_name = node_name.clone().or_else(|| host_name(&access));
    tracing::info!(credentials = %access, node_name, "labels come from the Kubernetes API");
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
