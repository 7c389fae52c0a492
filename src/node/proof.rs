//! The proof that figures are of the mount that is meant, and not of whatever else its path led to.
//!
//! A mount that is looked at first may be gone when it is measured, and then the disk below answers, without an error.
//! The kernel's id of the mount does not suffice to tell: it is given to the next mount at once, so that a volume
//! unmounted, measured and mounted again would pass. Since Linux 6.8 there is also an id that is never given again. So
//! the path is looked at before and after. What escapes this, on older kernels or by a mount over the volume that comes
//! and goes meanwhile, changes the mount table, and is measured again when the table tells.

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags};

use super::statvfs::{Target, failure};
use crate::volume::{ProbeError, Reason};

/// `STATX_MNT_ID_UNIQUE`, which takes the place of `STATX_MNT_ID` in the answer.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// What is found at a path.
#[derive(Debug)]
pub(super) struct Found(Statx);

impl Found {
    /// Looks at the target's path, which must be a mount. Asks neither servers nor for automounts.
    pub(super) fn at(target: &Target) -> Result<Self, ProbeError> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        let wanted = StatxFlags::TYPE | StatxFlags::MNT_ID | MNT_ID_UNIQUE;
        let found = Self(rustix::fs::statx(CWD, &target.path, flags, wanted).map_err(failure)?);
        if found.is_mount() && found.may_be(target) { Ok(found) } else { Err(Reason::NotMounted.into()) }
    }

    /// Whether this is still the mount that was found before.
    pub(super) fn is(&self, before: &Self) -> bool {
        (self.told(), self.0.stx_mnt_id) == (before.told(), before.0.stx_mnt_id)
    }

    /// The number of a block device.
    pub(super) fn block_device(&self) -> Option<(u32, u32)> {
        let is_block = FileType::from_raw_mode(self.0.stx_mode.into()) == FileType::BlockDevice;
        is_block.then_some((self.0.stx_rdev_major, self.0.stx_rdev_minor))
    }

    /// Kernels before 5.8 do not tell: there the table alone must do.
    fn is_mount(&self) -> bool {
        !self.0.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
            || self.0.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    }

    /// Whether nothing speaks against it: the ids of one's own table can be compared, where it is they that are told.
    fn may_be(&self, target: &Target) -> bool {
        let comparable = target.own_table && self.told() == StatxFlags::MNT_ID;
        target.id.is_none_or(|id| !comparable || id == self.0.stx_mnt_id)
    }

    fn told(&self) -> StatxFlags {
        StatxFlags::from_bits_retain(self.0.stx_mask) & (StatxFlags::MNT_ID | MNT_ID_UNIQUE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::VolumeMode;

    fn target(path: &str, id: Option<u64>, own_table: bool) -> Target {
        Target {
            path: path.into(),
            mountpoint: path.into(),
            device: "device".into(),
            id,
            own_table,
            mode: VolumeMode::Filesystem,
        }
    }

    /// What a kernel that knows only this much would say of a mount with this id.
    fn told(mask: StatxFlags, id: u64) -> Found {
        let mut found = Found::at(&target("/proc", None, false)).unwrap();
        found.0.stx_mask = mask.bits();
        found.0.stx_mnt_id = id;
        found
    }

    #[test]
    fn a_path_must_be_a_mount() {
        let reason = |path| Found::at(&target(path, None, false)).map(drop).map_err(|failure| failure.reason);
        assert_eq!(reason("/proc"), Ok(()));
        assert_eq!(reason("/proc/self"), Err(Reason::NotMounted), "a directory in a mount");
        assert_eq!(reason("/nowhere"), Err(Reason::NotMounted));
    }

    #[test]
    fn ids_of_the_own_table_are_compared_where_the_kernel_tells_them() {
        let own = |id| target("/proc", Some(id), true);
        let before_6_8 = told(StatxFlags::MNT_ID, 7);
        assert!(before_6_8.may_be(&own(7)) && !before_6_8.may_be(&own(8)));
        assert!(before_6_8.may_be(&target("/proc", Some(8), false)), "another table has other ids");
        assert!(before_6_8.may_be(&target("/proc", None, true)), "/proc/mounts has none");
        assert!(told(MNT_ID_UNIQUE, 7).may_be(&own(8)), "another kind of id");
        assert!(told(StatxFlags::TYPE, 7).may_be(&own(8)), "a kernel before 5.8 tells none");
    }

    #[test]
    fn before_and_after_must_be_one_mount() {
        assert!(told(MNT_ID_UNIQUE, 7).is(&told(MNT_ID_UNIQUE, 7)));
        assert!(!told(MNT_ID_UNIQUE, 7).is(&told(MNT_ID_UNIQUE, 8)));
        assert!(!told(StatxFlags::MNT_ID, 7).is(&told(StatxFlags::MNT_ID, 8)));
    }

    #[test]
    fn a_kernel_that_does_not_tell_what_a_mount_is_is_believed() {
        let mut found = told(StatxFlags::TYPE, 0);
        found.0.stx_attributes = StatxAttributes::empty();
        assert!(!found.is_mount());
        found.0.stx_attributes_mask = StatxAttributes::empty();
        assert!(found.is_mount());
    }
}
