//! Where metadata of volumes comes from.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;
use super::values::{kubeconfig, node_name};
use crate::volume::{LabelFilter, Selections};

/// Where metadata of volumes comes from, and which labels are used.
#[derive(Debug, Clone, Args)]
pub struct KubernetesArgs {
    /// File of `kubectl get pv,pvc,pods -A -o json` to take labels from; it is read again when it changes.
    #[arg(long, env = "DISK_USAGE_EXPORTER_OBJECTS", value_name = "FILE")]
    pub objects: Option<PathBuf>,

    /// Whether to ask the Kubernetes API for labels: auto (in a cluster, else where there is a kubeconfig), required, off.
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBERNETES", value_name = "MODE", default_value = "auto")]
    pub kubernetes: KubernetesMode,

    /// Kubeconfig to use, or several as in PATH [default: in a cluster the pod's service account, else ~/.kube/config].
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", value_parser = kubeconfig)]
    pub kubeconfig: Option<String>,

    /// Kubernetes node whose pods to look up [default: this machine's host name; in a cluster none].
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,

    /// How old labels of PersistentVolumes and PersistentVolumeClaims may get, give or take a fifth.
    #[arg(long, env = "DISK_USAGE_EXPORTER_LABEL_REFRESH", value_name = "DURATION", default_value = "1h", value_parser = duration::parse_positive)]
    pub label_refresh: Duration,

    /// Labels of PersistentVolumes that become metric labels: *, nothing, or a comma list of names, prefix*, !name and !prefix*.
    #[arg(long, env = "DISK_USAGE_EXPORTER_PV_LABELS", value_name = "LIST", default_value = "*")]
    pub pv_labels: LabelFilter,

    /// Labels of PersistentVolumeClaims that become metric labels: *, nothing, or a comma list of names, prefix*, !name and !prefix*.
    #[arg(long, env = "DISK_USAGE_EXPORTER_PVC_LABELS", value_name = "LIST", default_value = "*")]
    pub pvc_labels: LabelFilter,

    /// Labels of a claim, or else of its volume, that become volume_*: a list as above [default: those chosen above].
    #[arg(long, env = "DISK_USAGE_EXPORTER_VOLUME_LABELS", value_name = "LIST")]
    pub volume_labels: Option<LabelFilter>,
}

impl KubernetesArgs {
    /// Which labels of objects are used.
    pub fn selections(&self) -> Selections {
        let Self { pv_labels, pvc_labels, volume_labels, .. } = self.clone();
        Selections { pv_labels, pvc_labels, volume_labels }
    }
}

/// Whether the Kubernetes API is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KubernetesMode {
    /// In a cluster, else where there is a kubeconfig
    Auto,
    /// The program ends if the API server cannot be reached
    Required,
    /// Never
    Off,
}
