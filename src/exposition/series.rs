//! A snapshot as series: every family with its label sets and values, whatever format they are written in.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::time::Duration;

use super::catalogue::{self as c, Family};
use super::labels::{self, LabelSet};
use crate::snapshot::{ProcessStatus, Snapshot, State, VolumeStatus};
use crate::volume::{Figures, Mount, Pod, Usage};

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

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self::Float(value.as_secs_f64())
    }
}

/// All that is written of a snapshot, in its order.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// The labels of every volume, shared by its families.
    volumes: Vec<LabelSet>,
    families: Vec<(Family, Vec<(Labels, Value)>)>,
}

#[derive(Debug)]
enum Labels {
    Volume(usize),
    Own(LabelSet),
}

impl Series {
    /// The families that have series.
    pub(super) fn families(
        &self,
    ) -> impl Iterator<Item = (&Family, impl Iterator<Item = (&LabelSet, Value)>)> {
        let with_series = self.families.iter().filter(|(_, series)| !series.is_empty());
        with_series.map(|(family, series)| {
            (family, series.iter().map(|(labels, value)| (self.labels(labels), *value)))
        })
    }

    fn labels<'a>(&'a self, labels: &'a Labels) -> &'a LabelSet {
        match labels {
            Labels::Volume(at) => &self.volumes[*at],
            Labels::Own(set) => set,
        }
    }

    fn add(&mut self, family: Family, series: Vec<(Labels, Value)>) {
        self.families.push((family, series));
    }

    fn add_one(&mut self, family: Family, value: Option<impl Into<Value>>) {
        let one = value.map(|value| (Labels::Own(LabelSet::default()), value.into()));
        self.add(family, one.into_iter().collect());
    }
}

/// Makes the series of a snapshot. A label set that is already there is left out, for a duplicate would make Prometheus
/// drop data; each is counted in `dropped`, which counts on from earlier snapshots.
pub(super) fn of(snapshot: &Snapshot, dropped: &mut u64) -> Series {
    let mut series = Series {
        volumes: snapshot.volumes.iter().map(labels::of_volume).collect(),
        families: Vec::with_capacity(c::FAMILIES.len()),
    };
    let is_new = are_new(series.volumes.iter(), dropped);
    let distinct: Vec<(usize, &VolumeStatus)> =
        snapshot.volumes.iter().enumerate().filter(|(at, _)| is_new[*at]).collect();
    let measured = |value: &dyn Fn(&VolumeStatus) -> Option<Value>| -> Vec<(Labels, Value)> {
        let values = distinct.iter().filter_map(|(at, status)| Some((Labels::Volume(*at), value(status)?)));
        values.collect()
    };
    let usage = |value: fn(&Usage) -> Option<Value>| {
        measured(&|status| match status.figures()? {
            Figures::Filesystem(usage) => value(&usage),
            Figures::Block { .. } => None,
        })
    };
    let total = measured(&|status| {
        Some(Value::Count(match status.figures()? {
            Figures::Filesystem(usage) => usage.total,
            Figures::Block { size } => size,
        }))
    });
    let of_volumes = [
        (c::BYTES_TOTAL, total),
        (c::BYTES_USED, usage(|u| Some(Value::Count(u.used)))),
        (c::BYTES_AVAILABLE, usage(|u| Some(Value::Count(u.available)))),
        (c::PERCENT_USED, usage(|u| u.percent_used().map(Value::Float))),
        (c::INODES, usage(|u| Some(u.inodes?.total.into()))),
        (c::INODES_USED, usage(|u| Some(u.inodes?.used().into()))),
        (c::INODES_AVAILABLE, usage(|u| Some(u.inodes?.free.into()))),
        (c::INODES_PERCENT_USED, usage(|u| u.inodes?.percent_used().map(Value::Float))),
        (c::READONLY, measured(&|status| status.read_only().map(Value::from))),
        (c::UP, measured(&|status| Some(status.figures().is_some().into()))),
    ];
    for (family, values) in of_volumes {
        series.add(family, values);
    }
    let volumes: Vec<&VolumeStatus> = distinct.iter().map(|(_, status)| *status).collect();
    add_infos(&mut series, &volumes, dropped);
    add_exporter(&mut series, snapshot, *dropped);
    add_process(&mut series, snapshot.exporter.process);
    series
}

/// Which label sets are not there yet; counts the others.
fn are_new<'a>(sets: impl Iterator<Item = &'a LabelSet>, dropped: &mut u64) -> Vec<bool> {
    let mut seen = HashSet::new();
    let are_new: Vec<bool> = sets.map(|set| seen.insert(set)).collect();
    *dropped += (are_new.len() - seen.len()) as u64;
    are_new
}

fn add_infos(series: &mut Series, volumes: &[&VolumeStatus], dropped: &mut u64) {
    let mut add = |family, infos: Vec<(LabelSet, Value)>| {
        let is_new = are_new(infos.iter().map(|(set, _)| set), dropped);
        let distinct = infos.into_iter().zip(is_new).filter(|(_, is_new)| *is_new);
        series.add(family, distinct.map(|((set, value), _)| (Labels::Own(set), value)).collect());
    };
    let one = Value::Count(1);
    let errors = volumes.iter().flat_map(|status| {
        let reasons = status.failures().into_iter().map(|failure| failure.reason.as_str());
        reasons.map(|reason| (pv_labels(status, [("reason", Some(reason.into()))]), one))
    });
    add(c::ERROR, errors.collect());
    let mounts = volumes.iter().flat_map(|status| {
        let mounts = status.volume.mounts.iter().zip(&status.pods);
        mounts.map(|(mount, pod)| (mount_info(status, mount, pod.as_deref()), one))
    });
    add(c::MOUNT_INFO, mounts.collect());
    add(c::VOLUME_INFO, volumes.iter().map(|status| (volume_info(status), one)).collect());
    let requests = volumes.iter().filter_map(|status| {
        let requested = status.claim.as_ref()?.requested_bytes?;
        Some((pv_labels(status, claim_labels(status)), Value::Count(requested)))
    });
    add(c::CLAIM_REQUESTED_BYTES, requests.collect());
}

type Label<'a> = (&'static str, Option<Cow<'a, str>>);

/// The name of the volume and other labels; one without a value is left out.
fn pv_labels<'a>(status: &'a VolumeStatus, others: impl IntoIterator<Item = Label<'a>>) -> LabelSet {
    let pv_name = ("pv_name", Some(Cow::Borrowed(status.volume.pv_name.as_str())));
    let all = std::iter::once(pv_name).chain(others);
    LabelSet::new(all.filter_map(|(name, value)| Some((name, value?))))
}

fn claim_labels(status: &VolumeStatus) -> [Label<'_>; 2] {
    let claim = status.pv.as_ref().and_then(|pv| pv.claim.as_ref());
    let key = claim.map(|claim| &claim.key);
    [
        ("pvc_namespace", key.map(|key| Cow::Borrowed(key.namespace.as_str()))),
        ("pvc_name", key.map(|key| Cow::Borrowed(key.name.as_str()))),
    ]
}

fn mount_info<'a>(status: &'a VolumeStatus, mount: &'a Mount, pod: Option<&'a Pod>) -> LabelSet {
    let os = |text: &'a OsStr| Some(labels::lossy(text));
    let read_only = mount.read_only || mount.superblock_read_only;
    pv_labels(
        status,
        [
            ("pod_uid", mount.pod_uid.as_deref().map(Cow::Borrowed)),
            ("pod_namespace", pod.map(|pod| Cow::Borrowed(pod.namespace.as_str()))),
            ("pod_name", pod.map(|pod| Cow::Borrowed(pod.name.as_str()))),
            ("device", os(&mount.device)),
            ("root", mount.root.as_deref().and_then(os)),
            ("mountpoint", os(mount.mountpoint.as_os_str())),
            ("fstype", os(&mount.fstype)),
            ("access", Some(Cow::Borrowed(if read_only { "ro" } else { "rw" }))),
        ],
    )
}

fn volume_info(status: &VolumeStatus) -> LabelSet {
    let pv = status.pv.as_deref();
    let source = labels::source(status).map(Cow::into_owned);
    let (kind, instance) = source.map_or((None, None), |s| (Some(s.kind), s.instance));
    let mode = pv.and_then(|pv| pv.mode.as_deref());
    let access_modes = pv.map(|pv| pv.access_modes.join(",")).filter(|modes| !modes.is_empty());
    let others = [
        ("storage_class", pv.and_then(|pv| pv.storage_class.as_deref()).map(Cow::Borrowed)),
        ("volume_type", kind.map(Cow::Owned)),
        ("volume_instance", instance.map(Cow::Owned)),
        ("volume_mode", Some(mode.unwrap_or(status.volume.mounts[0].mode.as_str()).into())),
        ("access_modes", access_modes.map(Cow::Owned)),
    ];
    pv_labels(status, claim_labels(status).into_iter().chain(others))
}

fn add_exporter(series: &mut Series, snapshot: &Snapshot, dropped: u64) {
    series.add_one(c::TIMING_COLLECT, Some(snapshot.exporter.collect_time));
    series.add_one(c::TIMING_TOTAL, snapshot.exporter.previous_total_time);
    let labelled = |name, value: &'static str| Labels::Own(LabelSet::new([(name, value.into())]));
    let sources = snapshot.sources.iter();
    let sources = sources.map(|source| (labelled("source", source.name), source.success.into()));
    series.add(c::SOURCE_SUCCESS, sources.collect());
    let states = [
        ("measured", State::Measured),
        ("failed", State::Failed),
        ("hung", State::Hung),
        ("skipped", State::Skipped),
    ];
    let count = |state| snapshot.volumes.iter().filter(|volume| volume.state() == state).count();
    let states = states.map(|(name, state)| (labelled("state", name), count(state).into()));
    let table = &snapshot.table;
    // Without a table nothing is known of volumes, not that there are none.
    series.add(c::VOLUMES, states.into_iter().filter(|_| table.readable).collect());
    series.add_one(c::AMBIGUOUS_VOLUMES, table.readable.then_some(snapshot.ambiguous));
    series.add_one(c::MOUNTS, table.readable.then_some(table.rows));
    series.add_one(c::MOUNT_TABLE_READS, Some(table.reads));
    series.add_one(c::MALFORMED_MOUNT_LINES, table.readable.then_some(table.malformed));
    series.add_one(c::MOUNT_PROPAGATION, table.propagation);
    series.add_one(c::UNPROPAGATED_MOUNTS, table.unpropagated);
    series.add_one(c::METADATA_AGE, snapshot.metadata_age);
    series.add_one(c::DROPPED_SERIES, Some(dropped));
    let build = [("version", env!("CARGO_PKG_VERSION").into()), ("revision", crate::REVISION.into())];
    series.add(c::BUILD_INFO, vec![(Labels::Own(LabelSet::new(build)), Value::Count(1))]);
}

fn add_process(series: &mut Series, process: ProcessStatus) {
    let ProcessStatus { cpu_seconds, open_fds, max_fds, virtual_bytes, resident_bytes, threads, start_time } =
        process;
    series.add_one(c::PROCESS_CPU, cpu_seconds.map(Value::Float));
    series.add_one(c::PROCESS_OPEN_FDS, open_fds);
    series.add_one(c::PROCESS_MAX_FDS, max_fds);
    series.add_one(c::PROCESS_VIRTUAL, virtual_bytes);
    series.add_one(c::PROCESS_RESIDENT, resident_bytes);
    series.add_one(c::PROCESS_THREADS, threads);
    series.add_one(c::PROCESS_START, start_time.map(Value::Float));
}
