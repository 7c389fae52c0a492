//! A snapshot as series: every family with its label sets and values, whatever format they are written in.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prometheus_client::registry::Registry;

use super::catalogue::{self as c, Family};
use super::encoder::{FamilyWriter, Value};
use super::info_metrics;
use super::label_cache::LabelCache;
use super::labels::LabelSet;
use super::negotiate::Encoding;
use crate::compression;
use crate::snapshot::{ClaimStats, MeasuredVolume, MountTableStatus, Snapshot, VolumeState};
use crate::volume::{Inodes, ProbeError, Usage};

fn count(count: usize) -> Value {
    Value::Count(count as u128)
}

fn seconds(duration: Duration) -> Value {
    Value::Float(duration.as_secs_f64())
}

fn seconds_since_1970(time: SystemTime) -> Value {
    seconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// A snapshot as series, ready to be encoded in any format.
#[derive(Debug)]
pub struct Series {
    pub(super) snapshot: Snapshot,
    pub(super) labels: Arc<LabelCache>,
    /// What the exposition ends with.
    pub(super) registry: Arc<Registry>,
}

/// A family's value of a volume; `None` where it is not known.
type VolumeValueFn = fn(&MeasuredVolume) -> Option<Value>;

/// The families that carry a volume's labels.
const VOLUME_FAMILIES: [(Family, VolumeValueFn); 11] = [
    (c::BYTES_TOTAL, |v| Some(Value::Count(v.measurement()?.size()))),
    (c::BYTES_USED, |v| usage(v)?.used.map(Value::Count)),
    (c::BYTES_AVAILABLE, |v| usage(v)?.available.map(Value::Count)),
    (c::PERCENT_USED, |v| usage(v)?.percent_used().map(Value::Float)),
    (c::INODES, |v| Some(usage(v)?.inodes?.total.into())),
    (c::INODES_USED, |v| Some(usage(v)?.inodes?.used().into())),
    (c::INODES_AVAILABLE, |v| Some(usage(v)?.inodes?.free.into())),
    (c::INODES_PERCENT_USED, |v| usage(v)?.inodes?.percent_used().map(Value::Float)),
    (c::READONLY, |v| v.read_only().map(Value::from)),
    (c::FILESYSTEM_READONLY, |v| v.filesystem_read_only().map(Value::from)),
    (c::UP, |v| Some(v.measurement().is_some().into())),
];

/// A family's value of a claim; `None` where it is not known.
type ClaimValueFn = fn(&ClaimStats) -> Option<Value>;

/// The families that the kubelet has too. Unknown inode figures of a file system are 0, as the kubelet has them: readers of
/// these names skip claims without.
const KUBELET_FAMILIES: [(Family, ClaimValueFn); 7] = [
    (c::KUBELET_CAPACITY_BYTES, |claim| Some(Value::Count(claim.stats?.size()))),
    (c::KUBELET_AVAILABLE_BYTES, |claim| claim.stats?.usage()?.available.map(Value::Count)),
    (c::KUBELET_USED_BYTES, |claim| claim.stats?.usage()?.used.map(Value::Count)),
    (c::KUBELET_INODES, |claim| Some(claim.stats?.usage()?.inodes.map_or(0, |inodes| inodes.total).into())),
    (c::KUBELET_INODES_FREE, |claim| {
        Some(claim.stats?.usage()?.inodes.map_or(0, |inodes| inodes.free).into())
    }),
    (c::KUBELET_INODES_USED, |claim| Some(claim.stats?.usage()?.inodes.map_or(0, Inodes::used).into())),
    (c::KUBELET_ABNORMAL, |claim| claim.abnormal.map(Value::from)),
];

fn usage(status: &MeasuredVolume) -> Option<Usage> {
    status.measurement()?.usage()
}

impl AsRef<Snapshot> for Series {
    fn as_ref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Series {
    /// The exposition, encoded.
    pub fn encode(&self, Encoding { format, gzip }: Encoding) -> Vec<Bytes> {
        compression::encode(gzip, |out| self.write(FamilyWriter { out, format }))
    }

    fn write(&self, mut out: FamilyWriter<'_, impl Write>) -> io::Result<()> {
        let volumes = self.labels.of(&self.snapshot.volumes);
        for (family, value) in VOLUME_FAMILIES {
            let samples = volumes.clone();
            out.write(
                family,
                samples.filter_map(|(labels, volume)| Some((&labels.volume_labels, value(volume)?))),
            )?;
        }
        let errors = volumes.clone().flat_map(|(_, volume)| {
            let error_labels = |error: ProbeError| info_metrics::error_labels(&volume.volume, error.reason);
            volume.errors().into_iter().map(error_labels)
        });
        let errors: Vec<LabelSet> = errors.collect();
        let one = |labels| (labels, Value::Count(1));
        out.write(c::ERROR, errors.iter().map(one))?;
        out.write(c::MOUNT_INFO, volumes.clone().flat_map(|(labels, _)| &labels.mounts).map(one))?;
        out.write(c::VOLUME_INFO, volumes.clone().map(|(labels, _)| one(&labels.info)))?;
        let neighbors = volumes.clone().filter(|(_, volume)| volume.measurement().is_some());
        let neighbors = neighbors.filter_map(|(labels, volume)| {
            Some((labels.filesystem.as_ref()?, count(volume.filesystem_volumes?)))
        });
        out.write(c::FILESYSTEM_VOLUMES, neighbors)?;
        let requests = volumes.filter_map(|(labels, _)| labels.request.as_ref());
        out.write(c::CLAIM_REQUESTED_BYTES, requests.map(|(labels, bytes)| (labels, Value::Count(*bytes))))?;
        let claims = &self.snapshot.claims;
        let claims: Vec<_> =
            claims.iter().map(|claim| (info_metrics::kubelet_labels(claim), claim)).collect();
        for (family, value) in KUBELET_FAMILIES {
            out.write(family, claims.iter().filter_map(|(labels, claim)| Some((labels, value(claim)?))))?;
        }
        let dropped_labels = self.labels.dropped().map(|(_, dropped)| dropped).sum();
        for (family, samples) in of_exporter(&self.snapshot, dropped_labels) {
            out.write(family, samples.iter().map(|(labels, value)| (labels, *value)))?;
        }
        out.finish(&self.registry)
    }
}

type OwnFamily = (Family, Vec<(LabelSet, Value)>);

fn one(family: Family, value: Option<Value>) -> OwnFamily {
    (family, value.into_iter().map(|value| (LabelSet::default(), value)).collect())
}

fn of_exporter(snapshot: &Snapshot, dropped_labels: usize) -> Vec<OwnFamily> {
    let labelled = |name, value: &'static str| LabelSet::new([(name, value.into())]);
    let sources = snapshot.sources.iter();
    let sources = sources.map(|source| (labelled("source", source.name), source.success.into()));
    let states = [
        ("measured", VolumeState::Measured),
        ("failed", VolumeState::Failed),
        ("hung", VolumeState::Hung),
        ("skipped", VolumeState::Skipped),
        ("unsupported", VolumeState::Unsupported),
    ];
    let volumes = |state| snapshot.volumes.iter().filter(|volume| volume.state() == state).count();
    let states = states.into_iter().map(|(name, state)| (name, volumes(state)));
    let states = states.chain([("pending", snapshot.pending), ("excluded", snapshot.excluded)]);
    // Without a table nothing is known of volumes, not that there are none; but claims of the kubelet may be excluded.
    let table = snapshot.table.as_ref();
    let readable = table.filter(|table| table.readable);
    let states = states.filter(|(name, volumes)| readable.is_some() || (*name == "excluded" && *volumes > 0));
    let states = states.map(|(name, volumes)| (labelled("state", name), count(volumes)));
    let in_table = |value: fn(&MountTableStatus) -> usize| readable.map(value).map(count);
    let kubelet = snapshot.kubelet;
    let build = [("version", env!("CARGO_PKG_VERSION").into()), ("revision", crate::REVISION.into())];
    vec![
        one(c::KUBELET_LAST_SCRAPE, kubelet.and_then(|kubelet| kubelet.answered).map(seconds_since_1970)),
        one(c::TIMING_COLLECT, Some(seconds(snapshot.collect_time))),
        one(c::TIMING_TOTAL, snapshot.previous_total_time.map(seconds)),
        (c::SOURCE_SUCCESS, sources.collect()),
        (c::VOLUMES, states.collect()),
        one(c::AMBIGUOUS_VOLUMES, readable.map(|_| count(snapshot.ambiguous))),
        one(c::DROPPED_LABELS, readable.map(|_| count(dropped_labels))),
        one(c::MOUNTS, in_table(|table| table.rows)),
        one(c::MALFORMED_MOUNT_LINES, in_table(|table| table.malformed)),
        one(c::MOUNT_PROPAGATION, table.and_then(|table| table.propagation).map(Value::from)),
        one(c::UNPROPAGATED_MOUNTS, table.and_then(|table| table.unpropagated).map(count)),
        one(c::REFUSED_KUBELET_ROOTS, readable.and_then(|table| table.refused_kubelet_roots).map(count)),
        one(c::HOST_FILES_BUSY, Some(seconds(snapshot.host_files_busy_time))),
        one(c::STALE_KUBELET_VOLUMES, kubelet.and_then(|kubelet| kubelet.stale).map(count)),
        one(c::METADATA_AGE, snapshot.metadata_age.map(seconds)),
        (c::BUILD_INFO, vec![(LabelSet::new(build), Value::Count(1))]),
    ]
}
