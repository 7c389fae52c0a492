//! Figures of an earlier attempt of the same collection, for mounts that a later one has no time for.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::volume::{Answer, Failure, Figures, Mount, Reason};

/// Figures by the mount's id, mountpoint and device: an id alone is given to the next mount at once.
#[derive(Debug, Default)]
pub(super) struct Earlier(HashMap<Key, Figures>);

type Key = (Option<u64>, PathBuf, OsString);

impl Earlier {
    pub(super) fn new(mounts: &[Arc<Mount>], answers: &[Answer]) -> Self {
        let measured = mounts.iter().zip(answers);
        Self(measured.filter_map(|(mount, answer)| Some((key(mount), answer.ok()?))).collect())
    }

    /// Fills in for answers that did not come in time.
    pub(super) fn complete(&self, mounts: &[Arc<Mount>], answers: &mut [Answer]) {
        if self.0.is_empty() {
            return;
        }
        for (mount, answer) in mounts.iter().zip(answers) {
            let is_late = |failure: Failure| {
                matches!(failure.reason, Reason::Timeout | Reason::Skipped) && failure.errno.is_none()
            };
            if answer.is_err_and(is_late)
                && let Some(figures) = self.0.get(&key(mount))
            {
                *answer = Ok(*figures);
            }
        }
    }
}

fn key(mount: &Mount) -> Key {
    (mount.id, mount.mountpoint.clone(), mount.device.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::mount;

    #[test]
    fn fills_in_for_what_came_too_late_and_nothing_else() {
        let mounts: Vec<_> = ["a", "b", "c", "d"].map(|name| Arc::new(mount(name, "nfs", "uid"))).into();
        let good = |size| -> Answer { Ok(Figures::Block { size }) };
        let bad = |reason: Reason| -> Answer { Err(reason.into()) };
        let earlier = Earlier::new(&mounts[..3], &[good(1), good(2), good(3)]);
        let mut answers = [bad(Reason::Skipped), bad(Reason::NotMounted), good(4), bad(Reason::Timeout)];
        earlier.complete(&mounts, &mut answers);
        assert_eq!(answers, [good(1), bad(Reason::NotMounted), good(4), bad(Reason::Timeout)]);
    }
}
