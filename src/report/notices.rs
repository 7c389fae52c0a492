//! What is missing from the rows and cannot be seen there.

use crate::snapshot::Snapshot;
use crate::units::Count;

/// One sentence each, in plain text.
pub(super) fn notices(snapshot: &Snapshot) -> Vec<String> {
    let failed = snapshot.sources.iter().filter(|source| !source.success);
    let mut notices: Vec<String> =
        failed.map(|source| format!("source {} could not be read: see the log", source.name)).collect();
    if !snapshot.has_answer() {
        notices.push("no source of figures has answered yet: see the log".into());
    }
    let table = snapshot.table.clone().unwrap_or_default();
    if table.propagation == Some(false) {
        notices.push("mounts made on the host do not reach this container: see mountPropagation".into());
    }
    if table.is_kubelet_root_missing {
        notices.push("no volumes are found: no directory can be opened at --kubelet-root".into());
    }
    let counts = [
        (
            table.unpropagated.unwrap_or_default(),
            "volume",
            "mounted on the host but not visible in this container: see mountPropagation",
        ),
        (table.malformed, "line", "of the mount table could not be parsed"),
        (
            table.refused_kubelet_roots.unwrap_or_default(),
            "kubelet root",
            "ignored: others than root may write there, see --kubelet-root",
        ),
        (snapshot.pending, "volume", "hidden: waiting for Kubernetes metadata"),
        (
            snapshot.excluded,
            "volume",
            "not measured: excluded by --fs-types-exclude, --storage-classes-exclude or --namespaces-exclude",
        ),
        (snapshot.ambiguous, "PV name", "hidden: not unique on this node"),
        (
            snapshot.kubelet.and_then(|kubelet| kubelet.stale).unwrap_or_default(),
            "volume",
            "hidden: kubelet volume stats are stale",
        ),
    ];
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
    notices.extend(counts.map(|(count, noun, what)| format!("{} {what}", Count(count, noun))));
    notices
}
