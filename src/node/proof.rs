//! The proof that figures are of the mount that is meant, and not of whatever else its path led to.
//!
//! A mount that is looked at first may be gone when it is measured, and then the disk below answers, without an error.
//! So the path is looked at after it was measured. The kernel's id of the mount does not suffice: it gives the id of a
//! mount that is gone to the next one at once, so that a volume unmounted, measured and mounted again would pass. Since
//! Linux 6.8 it also tells an id that is never given again: one that was seen before and is still there after the
//! measurement was there all the time.

use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags};

use super::statvfs::{Target, failure};
use crate::volume::{Failure, Reason};

/// `STATX_MNT_ID_UNIQUE`, which takes the place of `STATX_MNT_ID` in the answer.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// How often a path is measured whose mount changes meanwhile: once to see what is there, once to measure that.
const ATTEMPTS: usize = 3;

/// Measures a path by `ask`, and proves that the answer is of this mount.
pub(super) fn proven<T>(target: &Target, ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..ATTEMPTS {
        let answer = ask()?;
        let found = look(target)?;
        if is_as_before(target, &found)? {
            return Ok(answer);
        }
    }
    Err(Reason::NotMounted.into())
}

/// Looks at the path, which must be a mount. Asks neither servers nor for automounts.
pub(super) fn look(target: &Target) -> Result<Statx, Failure> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let wanted = StatxFlags::TYPE | StatxFlags::MNT_ID | MNT_ID_UNIQUE;
    let found = rustix::fs::statx(CWD, &target.path, flags, wanted).map_err(failure)?;
    // Kernels before 5.8 do not tell: there the table alone must do.
    let tells = found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    if tells && !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Reason::NotMounted.into());
    }
    Ok(found)
}

/// Whether the mount that was found is the one that was there before the path was measured.
fn is_as_before(target: &Target, found: &Statx) -> Result<bool, Failure> {
    let told = StatxFlags::from_bits_retain(found.stx_mask);
    if told.contains(MNT_ID_UNIQUE) {
        let before = target.unique_id.swap(found.stx_mnt_id, Ordering::Relaxed);
        return Ok(before == found.stx_mnt_id);
    }
    let comparable = target.own_table && told.contains(StatxFlags::MNT_ID);
    match target.id {
        Some(id) if comparable && id != found.stx_mnt_id => Err(Reason::NotMounted.into()),
        _ => Ok(true),
    }
}
