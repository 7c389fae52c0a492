//! The families that are made from a snapshot, all of them gauges: full name and help. The registry's follow them.

/// A family of gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The samples' name.
    pub name: &'static str,
    /// Unit and source of the figure.
    pub help: &'static str,
}

impl Family {
    /// The unit, where the family's name ends in it.
    pub fn unit(&self) -> Option<&'static str> {
        let is_unit = |unit: &&str| self.name.strip_suffix(*unit).is_some_and(|rest| rest.ends_with('_'));
        ["seconds", "bytes"].into_iter().find(is_unit)
    }
}

macro_rules! catalogue {
    ($($id:ident = $name:literal $help:literal;)*) => {
        $(pub(super) const $id: Family = Family { name: $name, help: $help };)*
        /// All families, in the order of the exposition.
        pub const FAMILIES: &[Family] = &[$($id),*];
    };
}

catalogue! {
    BYTES_TOTAL = "pv_disk_usage_bytes_total" "Size of the volume in bytes: f_blocks times f_frsize of statvfs; of a block volume the size of its device.";
    BYTES_USED = "pv_disk_usage_bytes_used" "Bytes in use on the volume: f_blocks less f_bfree of statvfs, times f_frsize; above the size where a quota is exceeded.";
    BYTES_AVAILABLE = "pv_disk_usage_bytes_available" "Bytes that pods may still write to the volume: f_bavail times f_frsize of statvfs.";
    PERCENT_USED = "pv_disk_usage_percent_used" "Bytes in use in percent of bytes in use and available, as df prints it.";
    INODES = "pv_disk_usage_inodes" "Inodes of the volume: f_files of statvfs.";
    INODES_USED = "pv_disk_usage_inodes_used" "Inodes in use on the volume: f_files less f_ffree of statvfs.";
    INODES_AVAILABLE = "pv_disk_usage_inodes_available" "Free inodes of the volume: f_ffree of statvfs.";
    INODES_PERCENT_USED = "pv_disk_usage_inodes_percent_used" "Inodes in use in percent of all inodes.";
    READONLY = "pv_disk_usage_readonly" "1 if every mount of the volume is read-only now, by statvfs or by the mount table's super options; else 0.";
    FILESYSTEM_READONLY = "pv_disk_usage_filesystem_readonly" "1 if the volume's file system itself is read-only, by its superblock, whoever mounts it; else 0. A read-only mount of a file system that others may write to is 0.";
    UP = "pv_disk_usage_up" "1 if the volume was measured in this scrape, 0 if none of its mounts could be.";
    ERROR = "pv_disk_usage_error" "1 for each reason for which a mount of the volume could not be measured in this scrape.";
    MOUNT_INFO = "pv_disk_usage_mount_info" "1 for each mount of the volume, from the mount table; root is the directory of its file system that is mounted.";
    VOLUME_INFO = "pv_disk_usage_volume_info" "1 for each volume, with what its PersistentVolume, or else vol_data.json, says of it.";
    CLAIM_REQUESTED_BYTES = "pv_disk_usage_claim_requested_bytes" "Bytes that the volume's PersistentVolumeClaim requests.";
    FILESYSTEM_VOLUMES = "pv_disk_usage_filesystem_volumes" "Volumes of this node on the volume's file system, itself included: those of its device number, without directories that have figures of their own by a quota; filesystem is the server of a network file system, else the device number.";
    KUBELET_CAPACITY_BYTES = "kubelet_volume_stats_capacity_bytes" "Capacity in bytes of the volume";
    KUBELET_AVAILABLE_BYTES = "kubelet_volume_stats_available_bytes" "Number of available bytes in the volume";
    KUBELET_USED_BYTES = "kubelet_volume_stats_used_bytes" "Number of used bytes in the volume";
    KUBELET_INODES = "kubelet_volume_stats_inodes" "Maximum number of inodes in the volume";
    KUBELET_INODES_FREE = "kubelet_volume_stats_inodes_free" "Number of free inodes in the volume";
    KUBELET_INODES_USED = "kubelet_volume_stats_inodes_used" "Number of used inodes in the volume";
    KUBELET_ABNORMAL = "kubelet_volume_stats_health_status_abnormal" "Abnormal volume health status. The count is either 1 or 0. 1 indicates the volume is unhealthy, 0 indicates volume is healthy";
    KUBELET_LAST_SCRAPE = "kubelet_volume_stats_last_scrape_timestamp_seconds" "When the kubelet's /stats/summary was read the last time, in seconds since 1970-01-01 UTC.";
    TIMING_COLLECT = "pv_disk_usage_timing_collect_seconds" "Seconds that this collection took: reading the mount table, measuring and joining.";
    TIMING_TOTAL = "pv_disk_usage_timing_total_seconds" "Seconds that the last finished scrape before this one took, from the request to the written answer.";
    SOURCE_SUCCESS = "disk_usage_exporter_source_success" "1 if the source could be read the last time, else 0.";
    VOLUMES = "disk_usage_exporter_volumes" "Volumes by state; each is in one. hung: a mount did not answer in time; skipped: not asked before the deadline; pending: not exposed until the Kubernetes API has answered, or 10 s; unsupported: a file system without capacity, as an object store; excluded: not measured, because of --fs-types-exclude, --storage-classes-exclude or --namespaces-exclude.";
    AMBIGUOUS_VOLUMES = "disk_usage_exporter_ambiguous_volumes" "Names of which a mount is left out because it cannot be told which of several volumes it is of.";
    DROPPED_LABELS = "disk_usage_exporter_dropped_labels" "Labels of volumes left out because they are too many or too large; the log names the volumes.";
    MOUNTS = "disk_usage_exporter_mounts" "Rows of the mount table at its last reading.";
    MALFORMED_MOUNT_LINES = "disk_usage_exporter_malformed_mount_lines" "Lines of the mount table's last reading that could not be understood.";
    MOUNT_PROPAGATION = "disk_usage_exporter_mount_propagation" "1 if mounts made on the host appear in this container, by the mount table; 0 if not: new volumes are missed.";
    UNPROPAGATED_MOUNTS = "disk_usage_exporter_unpropagated_mounts" "Mounts of volumes in the mount table of the host's first process that are not in the one that is read here.";
    REFUSED_KUBELET_ROOTS = "disk_usage_exporter_refused_kubelet_roots" "Directories of the mount table that look like a kubelet's and are left out, for others than root may write to them or above them; the log names them.";
    HOST_FILES_BUSY = "disk_usage_exporter_host_files_busy_seconds" "Seconds since the thread that reads files of the node began what it does now; 0 while it is idle.";
    STALE_KUBELET_VOLUMES = "disk_usage_exporter_stale_kubelet_volumes" "Volumes of claims in the kubelet's /stats/summary whose figures are not exposed, for the kubelet measured them longer ago than --kubelet-max-age, or at a time that is still to come.";
    METADATA_AGE = "disk_usage_exporter_metadata_age_seconds" "Seconds since the oldest metadata in use was current.";
    BUILD_INFO = "disk_usage_exporter_build_info" "1, with the version and source revision of this program.";
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
