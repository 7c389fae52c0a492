//! What is missing from a table, and cannot be seen there.

use crate::snapshot::Snapshot;

/// One line each; `uncompared` volumes have no figure that a threshold could be held against.
pub(super) fn notes(snapshot: &Snapshot, is_empty: bool, uncompared: usize) -> Vec<String> {
    let unpropagated = snapshot.table.as_ref().and_then(|table| table.unpropagated).unwrap_or_default();
    let stale = snapshot.kubelet.and_then(|kubelet| kubelet.stale).unwrap_or_default();
    let counts = [
        (uncompared, "volumes that could not be measured, and may be over"),
        (snapshot.pending, "volumes not shown yet, for the cluster has not answered about them"),
        (snapshot.ambiguous, "names not shown, for different volumes carry them"),
        (unpropagated, "volumes of the host that are not seen here; see mountPropagation"),
        (stale, "volumes not shown, for the kubelet measured them too long ago"),
    ];
    let failed = snapshot.sources.iter().filter(|source| !source.success);
    let unread = failed.map(|source| format!("{} cannot be read now", source.name));
    let missing = counts.into_iter().filter(|(count, _)| *count > 0);
    let missing = missing.map(|(count, what)| format!("{what}: {count}"));
    let nothing = is_empty.then(|| "no volumes to show".to_owned());
    nothing.into_iter().chain(unread).chain(missing).collect()
}
