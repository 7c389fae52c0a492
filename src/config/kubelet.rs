//! Which sources there are, and how the kubelet is asked.

#![allow(clippy::doc_markdown, reason = "these comments are the help that users read")]

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, ValueEnum};
use hyper::Uri;
use hyper::http::uri::Authority;

use super::duration;
use super::values::{flag, server_name};
use crate::volume::KubeletSeriesOptions;

const DEFAULT_TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How long the kubelet may take to expose a new claim: it measures every minute or two, and its answer is cached here.
const EXPOSURE_DELAY: Duration = Duration::from_mins(2);
/// Flags of which any makes the kubelet the source.
const REQUEST_FLAGS: [&str; 7] = [
    "kubelet_endpoint",
    "kubelet_ca_file",
    "kubelet_server_name",
    "insecure_skip_tls_verify",
    "token_path",
    "scrape_interval",
    "kubelet_max_age",
];

/// Which sources there are, and how the kubelet is asked.
#[derive(Debug, Clone, Args)]
pub struct KubeletArgs {
    /// Where figures come from, a comma list of mounts and kubelet [default: mounts, or kubelet if one of the flags about asking it is given].
    #[arg(long, env = "DISK_USAGE_EXPORTER_SOURCES", value_name = "LIST", value_delimiter = ',')]
    pub sources: Option<Vec<Source>>,

    /// Claims with series of the kubelet's names, kubelet_volume_stats_*: auto (all with the kubelet as a source, else off), all, missing (only what the kubelet does not expose itself), off.
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_VOLUME_STATS", value_name = "MODE", value_enum, default_value_t = KubeletVolumeStats::Auto)]
    pub kubelet_volume_stats: KubeletVolumeStats,

    /// Labels of these series: kubelet (namespace and persistentvolumeclaim, one series a claim), or pod (pod besides, one a claim and pod).
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_VOLUME_STATS_LABELS", value_name = "MODE", value_enum, default_value_t = KubeletVolumeStatsLabels::Kubelet)]
    pub kubelet_volume_stats_labels: KubeletVolumeStatsLabels,

    /// The kubelet of this node.
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_ENDPOINT", value_name = "URL", default_value = "https://127.0.0.1:10250", value_parser = endpoint)]
    pub kubelet_endpoint: Uri,

    /// Certificates that sign the kubelet's, as PEM [default: the service account's ca.crt, and the kubelet's own where its directory is mounted].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_CA_FILE", value_name = "FILE")]
    pub kubelet_ca_file: Option<PathBuf>,

    /// The name that the kubelet's certificate must have [default: the endpoint's host or the node's name].
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_SERVER_NAME", value_name = "NAME", value_parser = server_name)]
    pub kubelet_server_name: Option<String>,

    /// Take any certificate of the kubelet's: an impostor would receive the token.
    #[arg(long, env = "DISK_USAGE_EXPORTER_INSECURE_SKIP_TLS_VERIFY", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = flag, action = ArgAction::Set)]
    pub insecure_skip_tls_verify: bool,

    /// File of the token for the kubelet, read at each request.
    #[arg(long, env = "DISK_USAGE_EXPORTER_TOKEN_PATH", value_name = "FILE", default_value = DEFAULT_TOKEN_PATH)]
    pub token_path: PathBuf,

    /// How long an answer of the kubelet is used before it is asked again.
    #[arg(long, env = "DISK_USAGE_EXPORTER_SCRAPE_INTERVAL", value_name = "DURATION", default_value = "30s", value_parser = duration::parse_positive)]
    pub scrape_interval: Duration,

    /// How old figures that the kubelet measured may be; older ones are not shown.
    #[arg(long, env = "DISK_USAGE_EXPORTER_KUBELET_MAX_AGE", value_name = "DURATION", default_value = "10m", value_parser = duration::parse_positive)]
    pub kubelet_max_age: Duration,
}

/// A source of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    Mounts,
    Kubelet,
}

/// Which claims have `kubelet_volume_stats_*` series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KubeletVolumeStats {
    Auto,
    All,
    Missing,
    Off,
}

/// The labels of those series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KubeletVolumeStatsLabels {
    Kubelet,
    Pod,
}

/// Which sources there are, and which series are made of them.
#[derive(Debug, Clone, Copy)]
pub struct Sources {
    /// The mount table and the kernel.
    pub mounts: bool,
    /// The kubelet's `/stats/summary`.
    pub kubelet: bool,
    /// The `kubelet_volume_stats_*` series, if there are any.
    pub kubelet_series: Option<KubeletSeriesOptions>,
}

impl KubeletArgs {
    /// Decides the sources where none are given.
    pub(super) fn set_default_sources(&mut self, matches: &ArgMatches) {
        let is_given =
            |flag: &&str| matches.value_source(flag).is_some_and(|from| from != ValueSource::DefaultValue);
        let default = if REQUEST_FLAGS.iter().any(is_given) { Source::Kubelet } else { Source::Mounts };
        self.sources.get_or_insert(vec![default]);
    }

    pub(super) fn check(&self, is_df: bool, is_served: bool) -> Result<Sources, String> {
        let sources = self.sources.as_deref().unwrap_or(&[Source::Mounts]);
        let kubelet = sources.contains(&Source::Kubelet);
        let has_series = match self.kubelet_volume_stats {
            KubeletVolumeStats::Auto => kubelet,
            KubeletVolumeStats::All | KubeletVolumeStats::Missing => true,
            KubeletVolumeStats::Off if kubelet => {
                return Err("'--kubelet-volume-stats=off' cannot be used with the kubelet as a source, of which it leaves nothing; \
                     give all or missing, or --sources=mounts".into());
            }
            KubeletVolumeStats::Off => false,
        };
        let per_pod = self.kubelet_volume_stats_labels == KubeletVolumeStatsLabels::Pod;
        if !has_series && per_pod {
            return Err("'--kubelet-volume-stats-labels=pod' is about series that --kubelet-volume-stats leaves out; \
                 give --kubelet-volume-stats=all or missing, or leave it out".into());
        }
        let kubelet_series = if is_df {
            // The table shows all claims of the kubelet, with their pods.
            kubelet.then_some(KubeletSeriesOptions { only_missing_after: None, per_pod: true })
        } else {
            // What is printed once cannot tell what is new.
            let delay = if is_served { EXPOSURE_DELAY } else { Duration::ZERO };
            let is_missing = self.kubelet_volume_stats == KubeletVolumeStats::Missing;
            let only_missing_after = is_missing.then_some(delay);
            has_series.then_some(KubeletSeriesOptions { only_missing_after, per_pod })
        };
        Ok(Sources { mounts: sources.contains(&Source::Mounts), kubelet, kubelet_series })
    }
}

impl Sources {
    /// Whether the kubelet is asked for anything.
    pub fn needs_kubelet(self) -> bool {
        self.kubelet || self.needs_exposed_claims()
    }

    /// Whether it matters which claims the kubelet exposes itself.
    pub fn needs_exposed_claims(self) -> bool {
        self.kubelet_series.is_some_and(|series| series.only_missing_after.is_some())
    }
}

/// Parses `https://HOST:PORT`, with a path in front of the kubelet's own where something else stands before it.
fn endpoint(text: &str) -> Result<Uri, String> {
    let remedy = "give https://HOST:PORT, or http://HOST:PORT for the read-only port";
    let uri: Uri = bracketed(text).parse().map_err(|error| format!("{error}; {remedy}"))?;
    let has_bad_port = |authority: &Authority| {
        authority.as_str() != authority.host() && authority.port_u16().is_none_or(|port| port == 0)
    };
    let fault = if !matches!(uri.scheme_str(), Some("http" | "https")) {
        "it begins neither with https:// nor with http://"
    } else if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        "it has a user's name, where --token-path gives a token"
    } else if uri.authority().is_some_and(has_bad_port) {
        "its port is none"
    } else if uri.query().is_some() || uri.host().is_none_or(str::is_empty) {
        "it is no address of a kubelet"
    } else {
        return Ok(uri);
    };
    Err(format!("{fault}; {remedy}"))
}

/// A manifest that puts a node's address between `https://` and a port knows of no brackets, which IPv6 needs there.
fn bracketed(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.rsplit_once(':')?;
        host.parse::<Ipv6Addr>().ok()?;
        Some(format!("{scheme}://[{host}]:{port}{path}"))
    });
    parts.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_manifests_put_them_together() {
        let parsed = |text: &str| endpoint(text).map(|uri| (uri.host().unwrap().to_owned(), uri.port_u16()));
        assert_eq!(parsed("https://127.0.0.1:10250"), Ok(("127.0.0.1".into(), Some(10250))));
        assert_eq!(parsed("http://node-1:10255/"), Ok(("node-1".into(), Some(10255))));
        assert_eq!(parsed("https://[fd00::1]:10250"), Ok(("[fd00::1]".into(), Some(10250))));
        assert_eq!(parsed("https://fd00::1:10250"), Ok(("[fd00::1]".into(), Some(10250))));
        assert_eq!(
            endpoint("https://host:1/api/v1/nodes/a/proxy/").unwrap().path(),
            "/api/v1/nodes/a/proxy/"
        );
    }

    #[test]
    fn what_is_no_address_is_said() {
        let hosts =
            ["", "127.0.0.1:10250", "ftp://x", "https://", "https://a b", "https://x?y", "https://u:p@x"];
        // The scheme's own port would be asked instead.
        let ports =
            ["https://x:", "https://x:99999", "https://x:kubelet", "https://[fd00::1]:0", "http://x:-1/y"];
        for text in hosts.into_iter().chain(ports) {
            let error = endpoint(text).unwrap_err();
            assert!(error.contains("give https://"), "{text}: {error}");
        }
    }
}
