//! Where everything comes from, by the settings and by what is there.

use std::path::Path;
use std::sync::Arc;

use super::AppError;
use super::metadata::{self, machine_name};
use crate::cluster::ApiStatus;
use crate::collect::Sources;
use crate::config::{Asking, Config, NodeConfig};
use crate::kubelet::{self, Kubelet, Trust};
use crate::node::{self, Fixture, Measure, Node};

/// The kubelet's directory, where nothing else is known.
const USUAL_KUBELET_ROOT: &str = "/var/lib/kubelet";

/// The sources, and the API server if it is one of them.
pub(super) struct Found {
    pub(super) sources: Sources,
    pub(super) api: Option<ApiStatus>,
}

/// Opens what is to be read.
pub(super) fn find(config: &Config) -> Result<Found, AppError> {
    let kubelet = config.sources.ask_kubelet().then(|| kubelet(config)).transpose()?;
    let (mut mounts, mut api) = (None, None);
    if config.sources.mounts {
        let node = node(config)?;
        // The kubelet tells the claims of its volumes itself: objects are for those of mounts.
        let found = metadata::find(config)?;
        (mounts, api) = (Some((node, found.metadata)), found.api);
    }
    let root = config.kubelet_root.as_deref().unwrap_or(Path::new(USUAL_KUBELET_ROOT));
    let kubelet_directory = config.node.rootfs.join(root.strip_prefix("/").unwrap_or(root));
    let sources = Sources { mounts, kubelet, kubelet_directory, names: config.sources.names };
    Ok(Found { sources, api })
}

fn node(config: &Config) -> Result<Node, AppError> {
    let NodeConfig { rootfs, mount_table, objects: _, fixture } = &config.node;
    let settings = node::Settings {
        rootfs: rootfs.clone(),
        mount_table: mount_table.clone(),
        recognition: node::Recognition {
            kubelet_root: config.kubelet_root.clone(),
            volume_regex: config.volume_regex.clone(),
        },
    };
    let measure: Arc<dyn Measure> = match fixture {
        Some(fixture) => Arc::new(Fixture::load(fixture)?),
        None => Arc::new(settings.kernel()),
    };
    Ok(Node::open(settings, measure)?)
}

fn kubelet(config: &Config) -> Result<Kubelet, AppError> {
    let Asking { endpoint, ca_file, server_name, skip_verify, token, interval } =
        config.sources.asking.clone();
    let node_name = config.kubernetes.node_name.clone().unwrap_or_else(machine_name);
    let trust = Trust { anybody: skip_verify, ca_file, server_name, node_name: Some(node_name) };
    trust.check()?;
    if skip_verify && endpoint.scheme_str() == Some("https") {
        tracing::warn!(
            %endpoint,
            "the kubelet's certificate is not checked: whoever answers in its place gets the token (--insecure-skip-tls-verify)"
        );
    }
    let (summary, exposed) = (config.sources.kubelet, config.sources.only_missing());
    tracing::info!(%endpoint, summary, metrics = exposed, "the kubelet is asked");
    Ok(Kubelet::start(kubelet::Settings { endpoint, trust, token, interval, summary, exposed })?)
}
