//! Logs when a volume starts to fail and when it recovers, once each.

use std::collections::BTreeMap;
use std::io;

use crate::snapshot::{MeasuredVolume, Snapshot};
use crate::volume::{PodMount, ProbeError, Reason};

/// Volumes named in the log after one collection: if a server fails, all its volumes do.
const MAX_LOGGED_CHANGES: usize = 20;

/// The volumes that failed in the last snapshot.
#[derive(Debug, Default)]
pub(super) struct TransitionLog {
    has_recorded: bool,
    failing: BTreeMap<String, Vec<Reason>>,
}

/// A difference between two snapshots.
enum Change<'a> {
    Failing(&'a MeasuredVolume),
    Recovered(&'a str),
    Gone(String),
}

impl TransitionLog {
    /// Logs how this snapshot differs from the last one.
    pub(super) fn record(&mut self, snapshot: &Snapshot) {
        if !std::mem::replace(&mut self.has_recorded, true) {
            let volumes = snapshot.volumes.len();
            let measured = snapshot.volumes.iter().filter(|volume| volume.measurement().is_some()).count();
            let (claims, pending, excluded) = (snapshot.claims.len(), snapshot.pending, snapshot.excluded);
            let mounts = snapshot.table.as_ref().map(|table| table.rows);
            let next = if pending > 0 { ": waiting for Kubernetes metadata of the others" } else { "" };
            tracing::info!(
                event = "first_collection",
                mounts,
                volumes,
                measured,
                pending,
                excluded,
                claims,
                "completed the first collection{next}"
            );
        }
        let changes = self.diff(snapshot);
        for change in changes.iter().take(MAX_LOGGED_CHANGES) {
            match change {
                Change::Failing(volume) => warn(volume),
                Change::Recovered(pv_name) => tracing::info!(
                    event = "volume_recovered",
                    pv_name,
                    "every mount of the volume can be measured again"
                ),
                Change::Gone(pv_name) => tracing::info!(
                    event = "failing_volume_unmounted",
                    pv_name,
                    "the failing volume is no longer mounted, or is excluded"
                ),
            }
        }
        if let Some(more @ 1..) = changes.len().checked_sub(MAX_LOGGED_CHANGES) {
            tracing::warn!(
                event = "volume_changes_omitted",
                more,
                "more volumes started or stopped failing: pv_disk_usage_error names them"
            );
        }
    }

    fn diff<'a>(&mut self, snapshot: &'a Snapshot) -> Vec<Change<'a>> {
        let mut before = std::mem::take(&mut self.failing);
        let mut changes = Vec::new();
        for volume in &snapshot.volumes {
            let name = &volume.volume.pv_name;
            let reasons = volume.errors().into_iter().map(|error| error.reason);
            // A file system without capacity does not fail.
            let reasons: Vec<Reason> = reasons.filter(|reason| *reason != Reason::NoFigures).collect();
            if before.remove(name).unwrap_or_default() != reasons {
                let is_failing = !reasons.is_empty();
                changes.push(if is_failing { Change::Failing(volume) } else { Change::Recovered(name) });
            }
            if !reasons.is_empty() {
                self.failing.insert(name.clone(), reasons);
            }
        }
        changes.extend(before.into_keys().map(Change::Gone));
        changes
    }
}

fn warn(volume: &MeasuredVolume) {
    let pv_name = &volume.volume.pv_name;
    for (PodMount { mount, .. }, result) in volume.mounts() {
        if let Err(ProbeError { reason, errno }) = result {
            let error = errno.map(|errno| io::Error::from_raw_os_error(errno).to_string());
            // As text, so that the log's formatter escapes it.
            let mountpoint = &*mount.mountpoint.to_string_lossy();
            let reason = reason.as_str();
            tracing::warn!(
                event = "volume_failed",
                pv_name,
                reason,
                error,
                mountpoint,
                "cannot measure a mount of the volume"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::samples::{mount, volume};
    use crate::volume::{Measurement, ProbeResult};
    use std::sync::Arc;

    fn snapshot(volumes: &[(&str, ProbeResult)]) -> Snapshot {
        let status = |(name, result): &(&str, ProbeResult)| {
            MeasuredVolume::new(Arc::new(volume(vec![Arc::new(mount(name, "nfs", "uid"))])), [*result])
        };
        Snapshot { volumes: volumes.iter().map(status).collect(), ..Snapshot::default() }
    }

    #[test]
    fn a_failure_is_told_when_it_begins_changes_and_ends() {
        let good: ProbeResult = Ok(Measurement::Block { size: 1 });
        let bad = |reason: Reason| -> ProbeResult { Err(reason.into()) };
        let mut changes = TransitionLog::default();
        let mut update = |volumes: &[(&str, ProbeResult)]| {
            let snapshot = snapshot(volumes);
            let words = |change| match change {
                Change::Failing(volume) => format!("{} failing", volume.volume.pv_name),
                Change::Recovered(pv_name) => format!("{pv_name} recovered"),
                Change::Gone(pv_name) => format!("{pv_name} gone"),
            };
            changes.diff(&snapshot).into_iter().map(words).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(update(&[("a", good)]), "");
        assert_eq!(update(&[("a", bad(Reason::Io)), ("b", good)]), "a failing");
        assert_eq!(update(&[("a", bad(Reason::Io))]), "");
        assert_eq!(update(&[("a", bad(Reason::Stale))]), "a failing");
        assert_eq!(update(&[("a", good)]), "a recovered");
        assert_eq!(update(&[("a", bad(Reason::Io))]), "a failing");
        assert_eq!(update(&[]), "a gone");
        assert_eq!(update(&[("a", bad(Reason::NoFigures))]), "");
        assert_eq!(update(&[]), "");
    }
}
