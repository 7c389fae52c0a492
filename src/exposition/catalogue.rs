//! The families that are made from a snapshot, all of them gauges: full name, samples and help. The registry's follow them.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::info_metrics::error_labels;
use super::labels::LabelSet;
use super::series::Series;
use crate::snapshot::{ClaimStats, MeasuredVolume, MountTableStatus};
use crate::volume::{Inodes, ProbeError, Usage};
use Value::{Count, Float};

/// A family of gauges.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The samples' name.
    pub name: &'static str,
    pub(super) samples: for<'a> fn(&'a Series) -> Samples<'a>,
    /// Unit and source of the figure.
    pub help: &'static str,
}

/// Samples of one family. Those whose value is not known are left out.
type Samples<'a> = Box<dyn Iterator<Item = Sample<'a>> + 'a>;
type Sample<'a> = (Cow<'a, LabelSet>, Value);

/// A sample's value. Counts keep all their digits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Count(u128),
    Float(f64),
}

impl<T: Into<u128>> From<T> for Value {
    fn from(count: T) -> Self {
        Count(count.into())
    }
}

impl Family {
    /// The unit, where the family's name ends in it.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let is_unit = |unit: &&str| self.name.strip_suffix(*unit).is_some_and(|rest| rest.ends_with('_'));
        ["seconds", "bytes"].into_iter().find(is_unit)
    }
}

const fn family(name: &'static str, samples: fn(&Series) -> Samples<'_>, help: &'static str) -> Family {
    Family { name, samples, help }
}

/// All families, in the order of the exposition.
#[rustfmt::skip] // Two lines each.
pub const FAMILIES: &[Family] = &[
    family("pv_disk_usage_bytes_total", |s| of_volumes(s, |v| Some(Count(v.measurement()?.size()))),
        "Size of the volume in bytes: f_blocks times f_frsize of statvfs; of a block volume the size of its device."),
    family("pv_disk_usage_bytes_used", |s| of_volumes(s, |v| usage(v)?.used.map(Count)),
        "Bytes in use on the volume: f_blocks less f_bfree of statvfs, times f_frsize; above the size where a quota is exceeded."),
    family("pv_disk_usage_bytes_available", |s| of_volumes(s, |v| usage(v)?.available.map(Count)),
        "Bytes that pods may still write to the volume: f_bavail times f_frsize of statvfs."),
    family("pv_disk_usage_percent_used", |s| of_volumes(s, |v| usage(v)?.percent_used().map(Float)),
        "Bytes in use in percent of bytes in use and available, as df prints it."),
    family("pv_disk_usage_inodes", |s| of_volumes(s, |v| Some(usage(v)?.inodes?.total.into())),
        "Inodes of the volume: f_files of statvfs."),
    family("pv_disk_usage_inodes_used", |s| of_volumes(s, |v| Some(usage(v)?.inodes?.used().into())),
        "Inodes in use on the volume: f_files less f_ffree of statvfs."),
    family("pv_disk_usage_inodes_available", |s| of_volumes(s, |v| Some(usage(v)?.inodes?.free.into())),
        "Free inodes of the volume: f_ffree of statvfs."),
    family("pv_disk_usage_inodes_percent_used", |s| of_volumes(s, |v| usage(v)?.inodes?.percent_used().map(Float)),
        "Inodes in use in percent of all inodes."),
    family("pv_disk_usage_readonly", |s| of_volumes(s, |v| v.read_only().map(Value::from)),
        "1 if every mount of the volume is read-only for pods now, by itself or by its file system; else 0."),
    family("pv_disk_usage_filesystem_readonly", |s| of_volumes(s, |v| v.filesystem_read_only().map(Value::from)),
        "1 if the volume's file system itself is read-only, by its superblock, whoever mounts it; else 0. A read-only mount of a file system that others may write to is 0."),
    family("pv_disk_usage_up", |s| of_volumes(s, |v| Some(v.measurement().is_some().into())),
        "1 if the volume was measured in this scrape, 0 if none of its mounts could be."),
    family("pv_disk_usage_error", errors,
        "1 for each reason for which a mount of the volume could not be measured in this scrape."),
    family("pv_disk_usage_mount_info", |s| Box::new(s.volumes().flat_map(|(labels, _)| &labels.mounts).map(one)),
        "1 for each mount of the volume, from the mount table; root is the directory of its file system that is mounted."),
    family("pv_disk_usage_volume_info", |s| Box::new(s.volumes().map(|(labels, _)| one(&labels.info))),
        "1 for each volume, with what its PersistentVolume, or else vol_data.json, says of it."),
    family("pv_disk_usage_filesystem_volumes", filesystem_volumes,
        "Volumes of this node on the volume's file system, itself included: those of its device number, without directories that have figures of their own by a quota; filesystem is the server of a network file system, else the device number."),
    family("pv_disk_usage_claim_requested_bytes", requested_bytes,
        "Bytes that the volume's PersistentVolumeClaim requests."),
    family("kubelet_volume_stats_capacity_bytes", |s| of_claims(s, |c| Some(Count(c.stats?.size()))),
        "Capacity in bytes of the volume"),
    family("kubelet_volume_stats_available_bytes", |s| of_claims(s, |c| c.stats?.usage()?.available.map(Count)),
        "Number of available bytes in the volume"),
    family("kubelet_volume_stats_used_bytes", |s| of_claims(s, |c| c.stats?.usage()?.used.map(Count)),
        "Number of used bytes in the volume"),
    family("kubelet_volume_stats_inodes", |s| of_claims(s, |c| Some(inodes_or_zero(c)?.total.into())),
        "Maximum number of inodes in the volume"),
    family("kubelet_volume_stats_inodes_free", |s| of_claims(s, |c| Some(inodes_or_zero(c)?.free.into())),
        "Number of free inodes in the volume"),
    family("kubelet_volume_stats_inodes_used", |s| of_claims(s, |c| Some(inodes_or_zero(c)?.used().into())),
        "Number of used inodes in the volume"),
    family("kubelet_volume_stats_health_status_abnormal", |s| of_claims(s, |c| c.abnormal.map(Value::from)),
        "Abnormal volume health status. The count is either 1 or 0. 1 indicates the volume is unhealthy, 0 indicates volume is healthy"),
    family("kubelet_volume_stats_last_scrape_timestamp_seconds", |s| single(s, |s| Some(seconds(s.snapshot.kubelet?.answered?.duration_since(SystemTime::UNIX_EPOCH).ok()?))),
        "When the kubelet's /stats/summary was read the last time, in seconds since 1970-01-01 UTC."),
    family("pv_disk_usage_timing_collect_seconds", |s| single(s, |s| Some(seconds(s.snapshot.collect_time))),
        "Seconds that this collection took: reading the mount table, measuring and joining."),
    family("pv_disk_usage_timing_total_seconds", |s| single(s, |s| Some(seconds(s.snapshot.previous_total_time?))),
        "Seconds that the last finished scrape before this one took, from the request to the written answer."),
    family("disk_usage_exporter_source_success", sources,
        "1 if the source could be read the last time, else 0."),
    family("disk_usage_exporter_volumes", volumes_by_state,
        "Volumes by state; each is in one. hung: a mount did not answer in time; skipped: not asked before the deadline; pending: not exposed until the Kubernetes API has answered, or 10 s; unsupported: a file system without capacity, as an object store; excluded: not measured, because of --fs-types-exclude, --storage-classes-exclude or --namespaces-exclude."),
    family("disk_usage_exporter_ambiguous_volumes", |s| single(s, |s| readable_table(s).map(|_| count(s.snapshot.ambiguous))),
        "Names of which a mount is left out because it cannot be told which of several volumes it is of."),
    family("disk_usage_exporter_dropped_labels", |s| single(s, |s| readable_table(s).map(|_| count(s.labels.dropped().map(|(_, n)| n).sum()))),
        "Labels of volumes left out because they are too many or too large; the log names the volumes."),
    family("disk_usage_exporter_mounts", |s| single(s, |s| Some(count(readable_table(s)?.rows))),
        "Rows of the mount table at its last reading."),
    family("disk_usage_exporter_malformed_mount_lines", |s| single(s, |s| Some(count(readable_table(s)?.malformed))),
        "Lines of the mount table's last reading that could not be understood."),
    family("disk_usage_exporter_mount_propagation", |s| single(s, |s| s.snapshot.table.as_ref()?.propagation.map(Value::from)),
        "1 if mounts made on the host appear in this container, by the mount table; 0 if not: new volumes are missed."),
    family("disk_usage_exporter_unpropagated_mounts", |s| single(s, |s| Some(count(s.snapshot.table.as_ref()?.unpropagated?))),
        "Mounts of volumes in the mount table of the host's first process that are not in the one that is read here."),
    family("disk_usage_exporter_refused_kubelet_roots", |s| single(s, |s| Some(count(readable_table(s)?.refused_kubelet_roots?))),
        "Directories of the mount table that look like a kubelet's and are left out, for others than root may write to them or above them; the log names them."),
    family("disk_usage_exporter_host_files_busy_seconds", |s| single(s, |s| Some(seconds(s.snapshot.host_files_busy_time))),
        "Seconds since the thread that reads files of the node began what it does now; 0 while it is idle."),
    family("disk_usage_exporter_stale_kubelet_volumes", |s| single(s, |s| Some(count(s.snapshot.kubelet?.stale?))),
        "Volumes of claims in the kubelet's /stats/summary whose figures are not exposed, for the kubelet measured them longer ago than --kubelet-max-age, or at a time that is still to come."),
    family("disk_usage_exporter_metadata_age_seconds", |s| single(s, |s| Some(seconds(s.snapshot.metadata_age?))),
        "Seconds since the oldest metadata in use was current."),
    family("disk_usage_exporter_build_info", build,
        "1, with the version and source revision of this program."),
];

/// One sample of each volume, with its labels.
fn of_volumes(series: &Series, value: fn(&MeasuredVolume) -> Option<Value>) -> Samples<'_> {
    Box::new(
        series
            .volumes()
            .filter_map(move |(labels, volume)| Some((Cow::Borrowed(&labels.volume_labels), value(volume)?))),
    )
}

/// One sample of each claim, with the labels that the kubelet uses.
fn of_claims(series: &Series, value: fn(&ClaimStats) -> Option<Value>) -> Samples<'_> {
    let claims = series.claim_labels.iter().zip(&series.snapshot.claims);
    Box::new(claims.filter_map(move |(labels, claim)| Some((Cow::Borrowed(labels), value(claim)?))))
}

/// One sample without labels.
fn single(series: &Series, value: fn(&Series) -> Option<Value>) -> Samples<'_> {
    Box::new(value(series).into_iter().map(|value| (Cow::default(), value)))
}

/// A sample whose labels are what it tells.
fn one(labels: &LabelSet) -> Sample<'_> {
    (Cow::Borrowed(labels), Count(1))
}

fn labelled(name: &str, value: &str, figure: Value) -> Sample<'static> {
    (Cow::Owned(LabelSet::default().with(name, value)), figure)
}

fn errors(series: &Series) -> Samples<'_> {
    Box::new(series.volumes().flat_map(|(_, measured)| {
        let labels = |error: ProbeError| error_labels(&measured.volume, error.reason);
        measured.errors().into_iter().map(move |error| (Cow::Owned(labels(error)), Count(1)))
    }))
}

fn requested_bytes(series: &Series) -> Samples<'_> {
    Box::new(series.volumes().filter_map(|(labels, measured)| {
        Some((Cow::Borrowed(&labels.claim), Count(measured.volume.claim.object()?.requested_bytes?)))
    }))
}

fn filesystem_volumes(series: &Series) -> Samples<'_> {
    let measured = series.volumes().filter(|(_, volume)| volume.measurement().is_some());
    Box::new(measured.filter_map(|(labels, volume)| {
        Some((Cow::Borrowed(labels.filesystem.as_ref()?), count(volume.filesystem_volumes?)))
    }))
}

fn sources(series: &Series) -> Samples<'_> {
    let sources = series.snapshot.sources.iter();
    Box::new(sources.map(|source| labelled("source", source.name, source.success.into())))
}

fn volumes_by_state(series: &Series) -> Samples<'_> {
    // Claims that only the kubelet has may be excluded too.
    let is_known =
        |&(state, volumes): &_| readable_table(series).is_some() || (state == "excluded" && volumes > 0);
    let states = series.snapshot.volumes_by_state().into_iter().filter(is_known);
    Box::new(states.map(|(state, volumes)| labelled("state", state, count(volumes))))
}

fn build(_: &Series) -> Samples<'_> {
    let version = LabelSet::default().with("version", env!("CARGO_PKG_VERSION"));
    let labels = version.with("revision", crate::REVISION);
    Box::new(std::iter::once((Cow::Owned(labels), Count(1))))
}

fn count(count: usize) -> Value {
    Count(count as u128)
}

fn seconds(duration: Duration) -> Value {
    Float(duration.as_secs_f64())
}

fn usage(volume: &MeasuredVolume) -> Option<Usage> {
    volume.measurement()?.usage()
}

/// Unknown inodes of a file system are 0, as the kubelet has them: readers of its names skip claims without.
fn inodes_or_zero(claim: &ClaimStats) -> Option<Inodes> {
    Some(claim.stats?.usage()?.inodes.unwrap_or(Inodes { total: 0, free: 0 }))
}

/// Without a table nothing is known of volumes, not that there are none.
fn readable_table(series: &Series) -> Option<&MountTableStatus> {
    series.snapshot.table.as_ref().filter(|table| table.readable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_valid() {
        let names: HashSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", family.name);
            let is_inherited = family.name == "pv_disk_usage_bytes_total";
            assert_eq!(family.name.ends_with("_total"), is_inherited, "{}", family.name);
            // The kubelet's own have no full stop.
            let is_kubelets = family.name.starts_with("kubelet_");
            assert!(
                (is_kubelets || family.help.ends_with('.')) && !family.help.contains(['\n', '\\', '"']),
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn units_are_told_where_the_name_ends_in_one() {
        let with_unit: Vec<_> = FAMILIES.iter().filter_map(|f| Some((f.name, f.unit()?))).collect();
        assert_eq!(
            with_unit,
            [
                ("pv_disk_usage_claim_requested_bytes", "bytes"),
                ("kubelet_volume_stats_capacity_bytes", "bytes"),
                ("kubelet_volume_stats_available_bytes", "bytes"),
                ("kubelet_volume_stats_used_bytes", "bytes"),
                ("kubelet_volume_stats_last_scrape_timestamp_seconds", "seconds"),
                ("pv_disk_usage_timing_collect_seconds", "seconds"),
                ("pv_disk_usage_timing_total_seconds", "seconds"),
                ("disk_usage_exporter_host_files_busy_seconds", "seconds"),
                ("disk_usage_exporter_metadata_age_seconds", "seconds"),
            ]
        );
    }
}
