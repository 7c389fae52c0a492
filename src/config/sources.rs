//! Where figures come from, and what the kubelet is asked for.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::error::ConfigError;
use super::values::{KubeletVolumeStats, KubeletVolumeStatsLabels, Source};
use crate::volume::KubeletSeriesOptions;

const ENDPOINT: &str = "https://127.0.0.1:10250";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const INTERVAL: Duration = Duration::from_secs(30);

/// Where figures come from, and which of the kubelet's names they have.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The mount table and the kernel.
    pub mounts: bool,
    /// The kubelet's `/stats/summary`.
    pub kubelet: bool,
    /// Series of the kubelet's names.
    pub names: Option<KubeletSeriesOptions>,
    /// How the kubelet is asked, if it is.
    pub asking: Asking,
}

/// How the kubelet is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Its address.
    pub endpoint: Uri,
    /// Who signs its certificate, instead of the usual.
    pub ca_file: Option<PathBuf>,
    /// The name that its certificate must have, instead of the usual.
    pub server_name: Option<String>,
    /// Any certificate will do.
    pub skip_verify: bool,
    /// The file of the token that is shown.
    pub token: PathBuf,
    /// How long an answer is used.
    pub interval: Duration,
}

/// What was typed about them.
pub(super) struct Typed {
    pub(super) sources: Option<Vec<Source>>,
    pub(super) stats: KubeletVolumeStats,
    pub(super) labels: KubeletVolumeStatsLabels,
    pub(super) endpoint: Option<Uri>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    pub(super) skip_verify: Option<bool>,
    pub(super) token: Option<PathBuf>,
    pub(super) interval: Option<Duration>,
}

impl TryFrom<Typed> for Sources {
    type Error = ConfigError;

    fn try_from(typed: Typed) -> Result<Self, ConfigError> {
        let sources = typed.sources.as_deref().unwrap_or(if typed.asks() {
            &[Source::Kubelet]
        } else {
            &[Source::Mounts]
        });
        let kubelet = sources.contains(&Source::Kubelet);
        let is_named = match typed.stats {
            KubeletVolumeStats::Auto => kubelet,
            KubeletVolumeStats::All | KubeletVolumeStats::Missing => true,
            KubeletVolumeStats::Off if kubelet => return Err(ConfigError::KubeletForNothing),
            KubeletVolumeStats::Off => false,
        };
        if !is_named && typed.labels == KubeletVolumeStatsLabels::Pod {
            return Err(ConfigError::LabelsForNothing);
        }
        let names = KubeletSeriesOptions {
            only_missing: typed.stats == KubeletVolumeStats::Missing,
            per_pod: typed.labels == KubeletVolumeStatsLabels::Pod,
        };
        Ok(Self {
            mounts: sources.contains(&Source::Mounts),
            kubelet,
            names: is_named.then_some(names),
            asking: Asking {
                endpoint: typed.endpoint.unwrap_or(Uri::from_static(ENDPOINT)),
                ca_file: typed.ca_file,
                server_name: typed.server_name,
                skip_verify: typed.skip_verify.unwrap_or_default(),
                token: typed.token.unwrap_or(TOKEN.into()),
                interval: typed.interval.unwrap_or(INTERVAL),
            },
        })
    }
}

impl Typed {
    /// Whether anything was said about asking the kubelet: whoever does so wants it asked.
    fn asks(&self) -> bool {
        let Self { endpoint, ca_file, server_name, skip_verify, token, interval, .. } = self;
        endpoint.is_some()
            || ca_file.is_some()
            || server_name.is_some()
            || skip_verify.is_some()
            || token.is_some()
            || interval.is_some()
    }
}

impl Sources {
    /// As a table for people needs them: of the claims that the kubelet knows all, with their pods.
    pub(super) fn for_table(self) -> Self {
        let names = KubeletSeriesOptions { only_missing: false, per_pod: true };
        Self { names: self.kubelet.then_some(names), ..self }
    }

    /// Whether the kubelet is asked for anything.
    #[must_use]
    pub fn ask_kubelet(&self) -> bool {
        self.kubelet || self.only_missing()
    }

    /// Whether it matters which claims the kubelet exposes itself.
    #[must_use]
    pub fn only_missing(&self) -> bool {
        self.names.is_some_and(|names| names.only_missing)
    }
}
