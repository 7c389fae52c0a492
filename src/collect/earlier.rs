//! Figures of an earlier attempt of the same collection, for mounts that a later one has no time for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::volume::{ProbeError, ProbeResult, Reason, VolumeMount};

/// The mounts of an earlier attempt, and one answer each.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) mounts: Vec<Arc<VolumeMount>>,
    pub(super) answers: Vec<ProbeResult>,
}

impl Earlier {
    /// Fills in for answers that did not come in time.
    pub(super) fn complete(&self, mounts: &[Arc<VolumeMount>], answers: &mut [ProbeResult]) {
        let measured = self.mounts.iter().zip(&self.answers).filter(|(_, answer)| answer.is_ok());
        let measured: HashMap<_, _> = measured.map(|(mount, answer)| (mount.identity(), answer)).collect();
        if measured.is_empty() {
            return;
        }
        for (mount, answer) in mounts.iter().zip(answers) {
            let is_late = |failure: ProbeError| {
                matches!(failure.reason, Reason::Timeout | Reason::Skipped) && failure.errno.is_none()
            };
            if answer.is_err_and(is_late)
                && let Some(figures) = measured.get(&mount.identity())
            {
                *answer = **figures;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Measurement;
    use crate::volume::samples::mount;

    #[test]
    fn fills_in_for_what_came_too_late_and_nothing_else() {
        let mounts: Vec<_> = ["a", "b", "c", "d"].map(|name| Arc::new(mount(name, "nfs", "uid"))).into();
        let good = |size| -> ProbeResult { Ok(Measurement::Block { size }) };
        let bad = |reason: Reason| -> ProbeResult { Err(reason.into()) };
        let earlier = Earlier { mounts: mounts[..3].to_vec(), answers: vec![good(1), good(2), good(3)] };
        let mut answers = [bad(Reason::Skipped), bad(Reason::NotMounted), good(4), bad(Reason::Timeout)];
        earlier.complete(&mounts, &mut answers);
        assert_eq!(answers, [good(1), bad(Reason::NotMounted), good(4), bad(Reason::Timeout)]);
    }
}
