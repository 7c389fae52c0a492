//! A snapshot as series: every family with its label sets and values, whatever format they are written in.

use std::iter::Peekable;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry;

use super::catalogue::{self as c, Family};
use super::info_metrics;
use super::label_cache::LabelCache;
use super::labels::LabelSet;
use crate::snapshot::{ClaimStats, MeasuredVolume, MountTableStatus, Snapshot, VolumeState};
use crate::volume::{Measurement, Usage};

/// A sample's value. Counts keep all their digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Count(u128),
    Float(f64),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Count(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Count(value.into())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Count(value as u128)
    }
}

impl From<SystemTime> for Value {
    /// Seconds since 1970.
    fn from(value: SystemTime) -> Self {
        value.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().into()
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self::Float(value.as_secs_f64())
    }
}

/// A snapshot as series, ready to be encoded in any format.
#[derive(Debug)]
pub struct Series {
    snapshot: Snapshot,
    labels: Arc<LabelCache>,
    /// Of volumes, in their order.
    errors: Vec<LabelSet>,
    /// Of claims, in their order.
    claims: Vec<LabelSet>,
    /// Of this program.
    own: Vec<(Family, Vec<(LabelSet, Value)>)>,
    /// What the exposition ends with.
    pub(super) registry: Arc<Registry>,
}

/// A family's value of a volume; `None` where it is not known.
type VolumeValueFn = fn(&MeasuredVolume) -> Option<Value>;

/// The families that carry a volume's labels.
const VOLUME_FAMILIES: [(Family, VolumeValueFn); 10] = [
    (c::BYTES_TOTAL, total),
    (c::BYTES_USED, |v| Some(Value::Count(usage(v)?.used))),
    (c::BYTES_AVAILABLE, |v| Some(Value::Count(usage(v)?.available))),
    (c::PERCENT_USED, |v| usage(v)?.percent_used().map(Value::Float)),
    (c::INODES, |v| Some(usage(v)?.inodes?.total.into())),
    (c::INODES_USED, |v| Some(usage(v)?.inodes?.used().into())),
    (c::INODES_AVAILABLE, |v| Some(usage(v)?.inodes?.free.into())),
    (c::INODES_PERCENT_USED, |v| usage(v)?.inodes?.percent_used().map(Value::Float)),
    (c::READONLY, |v| v.read_only().map(Value::from)),
    (c::UP, |v| Some(v.measurement().is_some().into())),
];

/// A family's value of a claim; `None` where it is not known.
type ClaimValueFn = fn(&ClaimStats) -> Option<Value>;

/// The families that the kubelet has too.
const KUBELET_FAMILIES: [(Family, ClaimValueFn); 7] = [
    (c::KUBELET_CAPACITY_BYTES, |claim| claim.stats.capacity.map(Value::Count)),
    (c::KUBELET_AVAILABLE_BYTES, |claim| claim.stats.available.map(Value::Count)),
    (c::KUBELET_USED_BYTES, |claim| claim.stats.used.map(Value::Count)),
    (c::KUBELET_INODES, |claim| claim.stats.inodes.map(Value::from)),
    (c::KUBELET_INODES_FREE, |claim| claim.stats.inodes_free.map(Value::from)),
    (c::KUBELET_INODES_USED, |claim| claim.stats.inodes_used.map(Value::from)),
    (c::KUBELET_ABNORMAL, |claim| claim.abnormal.map(Value::from)),
];

fn total(status: &MeasuredVolume) -> Option<Value> {
    Some(Value::Count(match status.measurement()? {
        Measurement::Filesystem(usage) => usage.total,
        Measurement::Block { size } => size,
    }))
}

fn usage(status: &MeasuredVolume) -> Option<Usage> {
    match status.measurement()? {
        Measurement::Filesystem(usage) => Some(usage),
        Measurement::Block { .. } => None,
    }
}

impl AsRef<Snapshot> for Series {
    fn as_ref(&self) -> &Snapshot {
        &self.snapshot
    }
}

type Samples<'a> = Box<dyn Iterator<Item = (&'a LabelSet, Value)> + 'a>;

impl Series {
    /// Makes the series of a snapshot; `labels` are those of its volumes.
    pub(super) fn new(snapshot: Snapshot, labels: Arc<LabelCache>, registry: Arc<Registry>) -> Self {
        let errors = labels.volumes().flat_map(|(at, _)| {
            let status = &snapshot.volumes[at];
            status.errors().into_iter().map(|error| info_metrics::error_labels(&status.volume, error.reason))
        });
        let errors = errors.collect();
        let own = of_exporter(&snapshot);
        let claims = snapshot.claims.iter().map(info_metrics::kubelet_labels).collect();
        Self { snapshot, labels, errors, claims, own, registry }
    }

    /// The families that have series, in the catalogue's order.
    pub(super) fn families(&self) -> impl Iterator<Item = (Family, Peekable<Samples<'_>>)> {
        let of_volumes = VOLUME_FAMILIES.into_iter().map(move |(family, value)| {
            let samples = self.labels.volumes().filter_map(move |(at, labels)| {
                Some((&labels.volume_labels, value(&self.snapshot.volumes[at])?))
            });
            (family, Box::new(samples) as Samples<'_>)
        });
        let one = |labels| (labels, Value::Count(1));
        let encoded = || self.labels.volumes().map(|(_, labels)| labels);
        let requests = encoded().filter_map(|labels| labels.request.as_ref());
        let requests = requests.map(|(labels, bytes)| (labels, Value::Count(*bytes)));
        let infos: [(Family, Samples<'_>); 4] = [
            (c::ERROR, Box::new(self.errors.iter().map(one))),
            (c::MOUNT_INFO, Box::new(encoded().flat_map(|labels| &labels.mounts).map(one))),
            (c::VOLUME_INFO, Box::new(encoded().map(|labels| &labels.info).map(one))),
            (c::CLAIM_REQUESTED_BYTES, Box::new(requests)),
        ];
        let of_claims = KUBELET_FAMILIES.into_iter().map(move |(family, value)| {
            let claims = self.claims.iter().zip(&self.snapshot.claims);
            let samples = claims.filter_map(move |(labels, claim)| Some((labels, value(claim)?)));
            (family, Box::new(samples) as Samples<'_>)
        });
        let own = self.own.iter().map(|(family, samples)| {
            let samples = samples.iter().map(|(labels, value)| (labels, *value));
            (*family, Box::new(samples) as Samples<'_>)
        });
        let all = of_volumes.chain(infos).chain(of_claims).chain(own);
        all.map(|(family, samples)| (family, samples.peekable()))
            .filter_map(|(family, mut samples)| samples.peek().is_some().then_some((family, samples)))
    }
}

type OwnFamily = (Family, Vec<(LabelSet, Value)>);

fn one(family: Family, value: Option<impl Into<Value>>) -> OwnFamily {
    (family, value.into_iter().map(|value| (LabelSet::default(), value.into())).collect())
}

fn of_exporter(snapshot: &Snapshot) -> Vec<OwnFamily> {
    let labelled = |name, value: &'static str| LabelSet::new([(name, value.into())]);
    let sources = snapshot.sources.iter();
    let sources = sources.map(|source| (labelled("source", source.name), source.success.into()));
    let states = [
        ("measured", VolumeState::Measured),
        ("failed", VolumeState::Failed),
        ("hung", VolumeState::Hung),
        ("skipped", VolumeState::Skipped),
    ];
    let count = |state| snapshot.volumes.iter().filter(|volume| volume.state() == state).count();
    let states = states.into_iter().map(|(name, state)| (labelled("state", name), count(state).into()));
    let states = states.chain([(labelled("state", "pending"), snapshot.pending.into())]);
    // Without a table nothing is known of volumes, not that there are none.
    let table = snapshot.table.as_ref();
    let readable = table.filter(|table| table.readable);
    let in_table = |value: fn(&MountTableStatus) -> usize| readable.map(value);
    let kubelet = snapshot.kubelet;
    let build = [("version", env!("CARGO_PKG_VERSION").into()), ("revision", crate::REVISION.into())];
    vec![
        one(c::KUBELET_SCRAPE_ERRORS, kubelet.map(|kubelet| kubelet.errors)),
        one(c::KUBELET_LAST_SCRAPE, kubelet.and_then(|kubelet| kubelet.answered)),
        one(c::TIMING_COLLECT, Some(snapshot.collect_time)),
        one(c::TIMING_TOTAL, snapshot.previous_total_time),
        (c::SOURCE_SUCCESS, sources.collect()),
        (c::VOLUMES, states.filter(|_| readable.is_some()).collect()),
        one(c::AMBIGUOUS_VOLUMES, readable.map(|_| snapshot.ambiguous)),
        one(c::MOUNTS, in_table(|table| table.rows)),
        one(c::MOUNT_TABLE_READS, table.map(|table| table.reads)),
        one(c::MALFORMED_MOUNT_LINES, in_table(|table| table.malformed)),
        one(c::MOUNT_PROPAGATION, table.and_then(|table| table.propagation)),
        one(c::UNPROPAGATED_MOUNTS, table.and_then(|table| table.unpropagated)),
        one(c::STALE_KUBELET_VOLUMES, kubelet.and_then(|kubelet| kubelet.stale)),
        one(c::METADATA_AGE, snapshot.metadata_age),
        (c::BUILD_INFO, vec![(LabelSet::new(build), Value::Count(1))]),
    ]
}
