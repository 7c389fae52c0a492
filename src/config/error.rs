//! Settings that cannot be used together.

/// Settings that cannot be used together.
#[expect(missing_docs, reason = "each message says it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("'--{0}' cannot be used with '--{1}', which takes its place; leave one of them out")]
    Conflict(&'static str, &'static str),
    #[error(
        "'--{0}' is about mounts, and the kubelet is the only source; leave it out, or give --sources=mounts,kubelet (flags about asking the kubelet alone, such as --kubelet-endpoint, mean --sources=kubelet)"
    )]
    NeedsMounts(&'static str),
    #[error(
        "'--kubelet-volume-stats=off' cannot be used with the kubelet as a source, of which it leaves nothing; give all or missing, or --sources=mounts"
    )]
    KubeletSourceUnused,
    #[error(
        "'--kubelet-volume-stats-labels=pod' is about series that --kubelet-volume-stats leaves out; give --kubelet-volume-stats=all or missing, or leave it out"
    )]
    PodLabelsWithoutSeries,
}
