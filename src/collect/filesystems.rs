//! Which volumes share a file system, so that a full one is one alert.

use std::collections::{BTreeMap, HashMap};

use crate::snapshot::MeasuredVolume;
use crate::volume::{Measurement, Usage, VolumeMode};

/// What share of its size the figures of one file system may differ by: it is written to between two probes.
const TOLERANCE: u128 = 1000;

type DeviceNumber = (u32, u32);

/// The volumes of a device, in groups that share a file system: directories with quotas have their device's number, but
/// figures of their own.
#[derive(Debug, Default)]
pub(super) struct Filesystems {
    members: HashMap<String, Member>,
    /// Groups made so far.
    made: u64,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    device: DeviceNumber,
    group: u64,
    /// Its last figures, if any, were not its group's.
    is_apart: bool,
}

/// The groups of each device, with the figures of the first of their volumes that was measured.
type Groups = BTreeMap<(DeviceNumber, u64), Option<Usage>>;

impl Filesystems {
    /// Counts the volumes of each file system. A volume that cannot be measured stays where it was, and so does one that has
    /// other figures only once; a new one belongs to the volumes that have its figures.
    pub(super) fn count(&mut self, volumes: &mut [MeasuredVolume]) {
        let before = std::mem::take(&mut self.members);
        let (mut groups, mut others) = (Groups::new(), Vec::new());
        for volume in volumes.iter() {
            let (name, Some(device)) = (&volume.volume.pv_name, device(volume)) else { continue };
            let usage = volume.measurement().and_then(Measurement::usage);
            let Some(known) = before.get(name).filter(|known| known.device == device) else {
                others.push((name, device, usage));
                continue;
            };
            let of_group = groups.entry((device, known.group)).or_default();
            let is_apart = usage.map(|usage| !is_alike(*of_group.get_or_insert(usage), usage));
            if known.is_apart && is_apart == Some(true) {
                others.push((name, device, usage));
            } else {
                let is_apart = is_apart.unwrap_or(known.is_apart);
                self.members.insert(name.clone(), Member { is_apart, ..*known });
            }
        }
        for (name, device, usage) in others {
            let group = self.find_group(&mut groups, device, usage);
            self.members.insert(name.clone(), Member { device, group, is_apart: usage.is_none() });
        }
        let mut counts: HashMap<u64, usize> = HashMap::new();
        self.members.values().for_each(|member| *counts.entry(member.group).or_default() += 1);
        for volume in volumes {
            let member = self.members.get(&volume.volume.pv_name);
            volume.filesystem_volumes = member.map(|member| counts[&member.group]);
        }
    }

    /// The group that has these figures, else a new one. Where they are not known, the device's only one.
    fn find_group(&mut self, groups: &mut Groups, device: DeviceNumber, usage: Option<Usage>) -> u64 {
        let of_device = || (device, 0)..=(device, u64::MAX);
        let is_only = groups.range(of_device()).count() == 1;
        let is_meant =
            |of_group: &Option<Usage>| of_group.zip(usage).map_or(is_only, |(a, b)| is_alike(a, b));
        if let Some(((_, group), of_group)) = groups.range_mut(of_device()).find(|(_, of)| is_meant(of)) {
            *of_group = of_group.or(usage);
            return *group;
        }
        self.made += 1;
        groups.insert((device, self.made), usage);
        self.made
    }
}

/// The device number of a file system; `None` where the mount table has none.
fn device(volume: &MeasuredVolume) -> Option<DeviceNumber> {
    let mount = &volume.volume.mounts[0].mount;
    mount.device_number.filter(|_| mount.mode == VolumeMode::Filesystem)
}

/// Whether both can be figures of one file system.
fn is_alike(a: Usage, b: Usage) -> bool {
    let tolerance = a.total.max(b.total) / TOLERANCE;
    let figures = [(Some(a.total), Some(b.total)), (a.used, b.used), (a.available, b.available)];
    let mut known = figures.into_iter().filter_map(|(a, b)| a.zip(b));
    known.all(|(a, b)| a.abs_diff(b) <= tolerance)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::volume::samples::{mount, volume};
    use crate::volume::{ProbeResult, Reason, VolumeMount};

    const FAILED: Option<(u128, u128)> = None;

    /// Size and free bytes of volumes of one device; `None` for one that fails. Returns the counts.
    fn count(filesystems: &mut Filesystems, figures: &[Option<(u128, u128)>]) -> Vec<usize> {
        let measured = |(at, figures): (usize, &Option<(u128, u128)>)| {
            let usage = |(total, free): (u128, u128)| {
                let (used, available) = (Some(total - free), Some(free));
                Measurement::Filesystem(Usage { total, used, available, inodes: None, read_only: false })
            };
            let result: ProbeResult = figures.map(usage).ok_or(Reason::Io.into());
            MeasuredVolume::new(
                Arc::new(volume(vec![Arc::new(mount(&at.to_string(), "nfs", "uid"))])),
                [result],
            )
        };
        let mut volumes: Vec<_> = figures.iter().enumerate().map(measured).collect();
        filesystems.count(&mut volumes);
        volumes.iter().map(|volume| volume.filesystem_volumes.unwrap()).collect()
    }

    #[test]
    fn directories_with_equal_quotas_are_told_apart_by_what_is_free() {
        let mut filesystems = Filesystems::default();
        let apart = [Some((10_000, 100)), Some((10_000, 9000)), Some((10_000, 8000))];
        assert_eq!(count(&mut filesystems, &apart), [1, 1, 1]);
        // All full: they stay what they were.
        assert_eq!(count(&mut filesystems, &[Some((10_000, 0)); 3]), [1, 1, 1]);
        assert_eq!(count(&mut filesystems, &[FAILED; 3]), [1, 1, 1]);
        // Fresh ones cannot be told apart until something is written to one.
        let mut filesystems = Filesystems::default();
        let fresh = [Some((10_000, 10_000)), Some((10_000, 10_000)), Some((5000, 5000))];
        assert_eq!(count(&mut filesystems, &fresh), [2, 2, 1]);
        let written = [Some((10_000, 10_000)), Some((10_000, 9000)), Some((5000, 5000))];
        assert_eq!(count(&mut filesystems, &written), [2, 2, 1], "it may be of between the probes");
        assert_eq!(count(&mut filesystems, &written), [1, 1, 1]);
        assert_eq!(count(&mut filesystems, &fresh), [1, 1, 1]);
    }

    #[test]
    fn figures_that_move_between_two_probes_are_of_one_file_system() {
        let mut filesystems = Filesystems::default();
        for moved in 0..10 {
            let moving = [Some((1_000_000 + moved * 8, 10_000)), Some((1_000_000, 10_000 + moved * 90))];
            assert_eq!(count(&mut filesystems, &moving), [2, 2], "{moved}");
        }
        let deleted = [Some((1_000_000, 10_000)), Some((1_000_000, 500_000))];
        assert_eq!(count(&mut filesystems, &deleted), [2, 2], "between the probes");
        let both = [Some((1_000_000, 500_000)); 2];
        assert_eq!(count(&mut filesystems, &both), [2, 2]);
        assert_eq!(count(&mut filesystems, &deleted), [2, 2], "another time");
    }

    #[test]
    fn a_mount_that_fails_still_counts() {
        let mut filesystems = Filesystems::default();
        let shared = Some((10_000, 10));
        assert_eq!(count(&mut filesystems, &[shared, FAILED]), [2, 2]);
        assert_eq!(count(&mut filesystems, &[FAILED, FAILED]), [2, 2]);
        assert_eq!(count(&mut filesystems, &[FAILED, Some((10_000, 5000)), FAILED]), [3, 3, 3]);
        // One whose figures come late is told by the first.
        let quota = [Some((10_000, 5000)), Some((10_000, 5000)), Some((10_000, 10))];
        assert_eq!(count(&mut filesystems, &quota), [2, 2, 1]);
        let mut filesystems = Filesystems::default();
        let quotas = [Some((10_000, 5000)), Some((10_000, 10)), FAILED];
        assert_eq!(count(&mut filesystems, &quotas), [1, 1, 1], "with quotas it has one of its own");
    }

    #[test]
    fn a_volume_of_another_device_or_of_none_shares_nothing() {
        let of = |device_number, mode| {
            let mount = VolumeMount { mode, device_number, ..mount("pv", "nfs", "uid") };
            MeasuredVolume::new(Arc::new(volume(vec![Arc::new(mount)])), [Err(Reason::Io.into())])
        };
        let mut filesystems = Filesystems::default();
        for (number, mode, expected) in [
            (Some((8, 1)), VolumeMode::Filesystem, Some(1)),
            (Some((8, 2)), VolumeMode::Filesystem, Some(1)),
            (None, VolumeMode::Filesystem, None),
            (Some((0, 5)), VolumeMode::Block, None),
        ] {
            let mut volumes = [of(number, mode)];
            filesystems.count(&mut volumes);
            assert_eq!(volumes[0].filesystem_volumes, expected);
        }
    }
}
