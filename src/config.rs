//! Settings: the command line and the environment, checked.

mod args;
mod duration;
mod kubelet;
mod kubernetes;
mod log;
mod manual;
mod node;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use crate::node::NodeSettings;
use crate::volume::Exclusions;

pub use args::{Args, Command, ServingArgs};
pub use kubelet::{KubeletArgs, Sources};
pub use kubernetes::{KubernetesArgs, KubernetesMode};
pub use log::LogConfig;
pub use manual::{completions, man};

/// Everything that can be set.
#[derive(Debug)]
pub struct Config {
    /// What to do.
    pub command: Option<Command>,
    /// Where to listen.
    pub serving: ServingArgs,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where the node is read.
    pub node: NodeSettings,
    /// The directory of a recorded node, to show instead of this machine.
    pub fixture: Option<PathBuf>,
    /// A file of Kubernetes objects: the one that was named, or that of the recorded node.
    pub objects: Option<PathBuf>,
    /// Which volumes are not measured.
    pub exclusions: Exclusions,
    /// How long one scrape waits for mounts that do not answer.
    pub stat_timeout: Duration,
    /// Which sources there are.
    pub sources: Sources,
    /// How the kubelet is asked.
    pub kubelet: KubeletArgs,
    /// Where metadata comes from.
    pub kubernetes: KubernetesArgs,
}

impl TryFrom<Args> for Config {
    /// What is wrong, and what to do.
    type Error = String;

    fn try_from(args: Args) -> Result<Self, String> {
        let is_df = matches!(args.command, Some(Command::Df { .. }));
        let sources = args.kubelet.check(is_df, args.command.is_none())?;
        check_combinations(&args, sources)?;
        let Args { command, serving, log, node, kubelet, kubernetes } = args;
        let (stat_timeout, fixture, exclusions) =
            (node.stat_timeout, node.fixture.clone(), node.exclusions());
        let (node, recorded_objects) = node.settings();
        Ok(Self {
            log: log.check(command.is_some(), is_df),
            command,
            serving,
            stat_timeout,
            node,
            fixture,
            exclusions,
            objects: recorded_objects.or_else(|| kubernetes.objects.clone()),
            sources,
            kubelet,
            kubernetes,
        })
    }
}

/// Refuses flags of which one would be ignored.
fn check_combinations(args: &Args, sources: Sources) -> Result<(), String> {
    let Args { node, kubernetes, .. } = args;
    let exclusions = node.exclusions();
    let is_required = kubernetes.kubernetes == KubernetesMode::Required;
    let (fixture, objects) = (node.fixture.is_some(), kubernetes.objects.is_some());
    let about_mounts = [
        ("fixture", fixture),
        ("mount-table", node.mount_table.is_some()),
        ("volume-regex", node.volume_regex.is_some()),
        ("fs-types-exclude", !exclusions.fs_types.is_empty()),
        ("storage-classes-exclude", !exclusions.storage_classes.is_empty()),
        ("objects", objects),
        ("kubernetes=required", is_required),
    ];
    if let Some((flag, _)) = about_mounts.iter().find(|(_, is_given)| *is_given && !sources.mounts) {
        return Err(format!(
            "'--{flag}' is about mounts, and the kubelet is the only source; leave it out, or give --sources=mounts,kubelet \
             (flags about asking the kubelet alone, such as --kubelet-endpoint, mean --sources=kubelet)"
        ));
    }
    let exclusive = [
        ("volume-regex", node.volume_regex.is_some(), "kubelet-root", node.kubelet_root.is_some()),
        ("fixture", fixture, "rootfs", node.rootfs.is_some()),
        ("fixture", fixture, "mount-table", node.mount_table.is_some()),
        ("fixture", fixture, "objects", objects),
        ("fixture", fixture, "kubernetes=required", is_required),
        ("fixture", fixture, "sources=mounts,kubelet", sources.kubelet),
        ("fixture", fixture, "kubelet-volume-stats=missing", sources.needs_exposed_claims()),
        ("objects", objects, "kubernetes=required", is_required),
    ];
    match exclusive.iter().find(|(_, is_given, _, is_other_given)| *is_given && *is_other_given) {
        Some((kept, _, ignored, _)) => Err(format!(
            "'--{ignored}' cannot be used with '--{kept}', which takes its place; leave one of them out"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
