//! The proof that figures are of the mount that is meant, and not of whatever else its path led to.
//!
//! A mount that is looked at first may be gone when it is measured, and then the disk below answers, without an error.
//! The kernel's id of the mount does not suffice to tell: it is given to the next mount at once, so that a volume
//! unmounted, measured and mounted again would pass. Since Linux 6.8 there is also an id that is never given again. So
//! the path is looked at before and after. What escapes this, on older kernels or by a mount over the volume that comes
//! and goes meanwhile, changes the mount table, and is measured again when the table tells.

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags};

use super::statvfs::{Target, failure};
use crate::volume::{Failure, Reason};

/// `STATX_MNT_ID_UNIQUE`, which takes the place of `STATX_MNT_ID` in the answer.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// What is found at a path.
#[derive(Debug)]
pub(super) struct Found(Statx);

impl Found {
    /// Looks at the target's path, which must be a mount. Asks neither servers nor for automounts.
    pub(super) fn at(target: &Target) -> Result<Self, Failure> {
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
