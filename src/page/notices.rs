//! What a person must know besides the volumes: what could not be read, and what is left out.

use std::io::{self, Write};

use super::text::Count;
use crate::snapshot::{Snapshot, VolumeState};
use crate::volume::{ProbeError, Reason};

/// How many volumes there are, by state.
pub(super) fn write_counts(snapshot: &Snapshot, rows: usize, out: &mut impl Write) -> io::Result<()> {
    let count = |state| snapshot.volumes.iter().filter(|status| status.state() == state).count();
    write!(
        out,
        "<ul class=\"counts\">\n<li><b>{rows}</b> {}\n",
        if rows == 1 { "volume" } else { "volumes" }
    )?;
    let states = [
        ("bad", count(VolumeState::Hung), "hung"),
        ("bad", count(VolumeState::Failed), "failed"),
        ("bad", count(VolumeState::Skipped), "not asked in time"),
        ("soon", snapshot.pending, "pending: not shown until the labels are known"),
    ];
    for (class, count, words) in states.into_iter().filter(|(_, count, _)| *count > 0) {
        writeln!(out, "<li class=\"{class}\"><b>{count}</b> {words}")?;
    }
    writeln!(out, "</ul>")
}

/// Everything else that is not as it should be.
pub(super) fn write(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    for source in snapshot.sources.iter().filter(|source| !source.success) {
        let what = source_in_words(source.name);
        notice(out, format_args!("<code>{}</code>: {what} could not be read the last time.", source.name))?;
    }
    if !snapshot.has_answer() {
        notice(out, format_args!("No source of figures has answered yet; the log tells why."))?;
    }
    if let Some(table) = &snapshot.table {
        if table.propagation == Some(false) {
            notice(
                out,
                format_args!("Mounts made on the host do not reach this container: see mountPropagation."),
            )?;
        }
        if let Some(unseen @ 1..) = table.unpropagated {
            let volumes = Count(unseen, "volume");
            notice(out, format_args!("{volumes} mounted on the host cannot be seen in this container."))?;
        }
        if table.malformed > 0 {
            let lines = Count(table.malformed, "line");
            notice(out, format_args!("{lines} of the mount table could not be understood."))?;
        }
    }
    if snapshot.ambiguous > 0 {
        let names = Count(snapshot.ambiguous, "name");
        notice(out, format_args!("{names} left out, because different volumes carry the same one."))?;
    }
    if let Some(stale @ 1..) = snapshot.kubelet.and_then(|kubelet| kubelet.stale) {
        let volumes = Count(stale, "volume");
        notice(out, format_args!("{volumes} left out, because the kubelet measured them too long ago."))?;
    }
    Ok(())
}

/// One of them, in words of this program's own.
fn notice(out: &mut impl Write, html: std::fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(out, "<p class=\"notice\">{html}</p>")
}

fn source_in_words(name: &str) -> &'static str {
    match name {
        "mounts" => "the mount table",
        "objects" => "the file of objects",
        "pods" => "the pods of this node, of the Kubernetes API,",
        "persistentvolumes" => "volumes of the Kubernetes API",
        "persistentvolumeclaims" => "claims of the Kubernetes API",
        "kubelet" => "the kubelet's figures",
        "kubelet_metrics" => "the kubelet's own series",
        _ => "this source",
    }
}

/// A state in a word or two.
pub(super) fn state_in_words(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Measured => "measured",
        VolumeState::Failed => "failed",
        VolumeState::Hung => "hung",
        VolumeState::Skipped => "not asked",
    }
}

/// Why a mount has no figures.
pub(super) fn failure_in_words(failure: ProbeError) -> String {
    let words = match failure.reason {
        Reason::Timeout if failure.errno.is_some() => "its server did not answer in time",
        Reason::Timeout => "was asked and did not answer in time; it may hang",
        Reason::Skipped => "the time was over before it could be asked",
        Reason::NotMounted => "the path is gone, or is not this mount",
        Reason::Stale => "the server no longer knows the file handle (ESTALE)",
        Reason::Io => "input or output error (EIO)",
        Reason::Permission => "the kernel or the server does not let root look",
        Reason::NotConnected => "its server cannot be reached, or a FUSE server has ended",
        Reason::NoFigures => "it answers with a size of 0, or the size of the device is not known",
        Reason::Other => {
            let errno = failure.errno.map(|errno| io::Error::from_raw_os_error(errno).to_string());
            return errno.unwrap_or_else(|| "another error; the log tells which".to_owned());
        }
    };
    words.to_owned()
}
