//! Where metadata comes from, by the settings and by what is there.

use super::error::AppError;
use crate::cluster::{Access, Api, ObjectsFile, Selections, Settings, WATCH_TIME};
use crate::collect::MetadataSource;
use crate::config::{Config, KubernetesArgs, KubernetesMode};

/// The source, and the API server if it is that.
pub(super) struct Found {
    pub(super) source: MetadataSource,
    pub(super) api: Option<Api>,
}

/// Opens the file of objects that was named, or else finds the API server.
pub(super) fn find(config: &Config) -> Result<Found, AppError> {
    let KubernetesArgs { pv_labels, pvc_labels, .. } = config.kubernetes.clone();
    let selections = Selections { pv_labels, pvc_labels };
    if let Some(path) = &config.node.objects {
        let objects = ObjectsFile::open(path, selections)?;
        return Ok(Found { source: MetadataSource::Objects(objects), api: None });
    }
    let Some(access) = access(config)? else {
        return Ok(Found { source: MetadataSource::default(), api: None });
    };
    let KubernetesArgs { node_name, label_refresh, .. } = &config.kubernetes;
    let node_name = node_name.clone().or_else(|| host_name(&access));
    tracing::info!(credentials = %access, node_name, "labels come from the Kubernetes API");
    let api = Api::start(Settings {
        access,
        node_name,
        label_refresh: *label_refresh,
        watch_time: WATCH_TIME,
        selections,
    })?;
    Ok(Found { source: MetadataSource::Api(api.clone()), api: Some(api) })
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
    match access.check() {
        Ok(()) => Ok(Some(access)),
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
    rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()
}
