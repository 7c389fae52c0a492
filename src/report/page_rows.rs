//! The rows of the web page.

use std::borrow::Cow;
use std::io::{self, Write};

use super::escape::Html;
use super::row::Row;
use crate::snapshot::{MeasuredVolume, VolumeState};
use crate::units::{Count, FULL, NEARLY_FULL, Percent, Size};
use crate::volume::{Inodes, PodMount, ProbeError, ProbeResult, Reason, VolumeMode};

/// How full a file system is, by the scarcer of bytes and inodes.
#[derive(Clone, Copy)]
pub(super) struct Fullness {
    pub(super) percent: f64,
    /// Inodes are scarcer.
    of_inodes: Option<Inodes>,
}

impl Fullness {
    pub(super) fn of(row: &Row<'_>) -> Option<Self> {
        let bytes = row.percent_used();
        match row.inodes_percent_used() {
            Some(percent) if bytes.is_none_or(|bytes| percent > bytes) => {
                Some(Self { percent, of_inodes: row.inodes() })
            }
            _ => bytes.map(|percent| Self { percent, of_inodes: None }),
        }
    }
}

pub(super) fn write_rows(rows: &[Row<'_>], out: &mut impl Write) -> io::Result<()> {
    out.write_all(
        b"<table>\n<thead>\n<tr><th scope=\"col\">In use <th scope=\"col\">Claim and pods \
          <th scope=\"col\" class=\"figure\">Used <th scope=\"col\" class=\"figure\">Available \
          <th scope=\"col\" class=\"figure\">Size <th scope=\"col\">Type and mounts\n</thead>\n<tbody>\n",
    )?;
    for row in rows {
        write_row(row, out)?;
    }
    out.write_all(b"</tbody>\n</table>\n")
}

fn write_row(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    let fullness = Fullness::of(row);
    let class = match fullness {
        _ if row.measurement.is_none() => "failed",
        Some(Fullness { percent: FULL.., .. }) => "full",
        Some(Fullness { percent: NEARLY_FULL.., .. }) => "nearly",
        _ => "well",
    };
    writeln!(out, "<tr class=\"{class}\">")?;
    write_level(row, fullness, out)?;
    write_names(row, out)?;
    write_figures(row, out)?;
    match row.volume {
        Some(status) => write_mounts(status, out),
        None => writeln!(out, "<td class=\"mounts\">as the kubelet reports it"),
    }
}

/// The bar, and its figure. Widths are attributes: style in the markup is not allowed.
fn write_level(row: &Row<'_>, fullness: Option<Fullness>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<td class=\"level\">")?;
    let Some(Fullness { percent, of_inodes }) = fullness else {
        let state = row.volume.map(MeasuredVolume::state).filter(|_| row.measurement.is_none());
        let words =
            state.map_or(if row.measurement.is_some() { "size only" } else { "no figures" }, state_in_words);
        return writeln!(out, "<b>{words}</b>");
    };
    write!(out, "<b>{}</b>", Percent(percent))?;
    if let Some(inodes) = of_inodes {
        write!(out, " <small>of {} inodes</small>", inodes.total)?;
    }
    writeln!(
        out,
        "<svg class=\"bar\" aria-hidden=\"true\"><rect width=\"{percent:.2}%\" height=\"100%\"/></svg>"
    )
}

fn write_names(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    let pv_name = row.pv_name();
    out.write_all(b"<th scope=\"row\">")?;
    match row.claim {
        Some(claim) => {
            let (namespace, name) = (Html(&claim.namespace), Html(&claim.name));
            write!(out, "<bdi><span>{namespace}/</span>{name}</bdi>")?;
        }
        None => write!(out, "<bdi>{}</bdi>", Html(pv_name.unwrap_or_default()))?,
    }
    if row.volume.and_then(MeasuredVolume::read_only) == Some(true) {
        out.write_all(b" <em>read-only</em>")?;
    }
    if row.is_abnormal {
        out.write_all(b" <em class=\"bad\">its driver reports a problem</em>")?;
    }
    if let (Some(_), Some(pv_name)) = (row.claim, pv_name) {
        write!(out, "\n<small><bdi>{}</bdi></small>", Html(pv_name))?;
    }
    write_pods(row, out)?;
    write_failures(row, out)?;
    writeln!(out)
}

/// Of pods in the claim's namespace the name is enough.
fn write_pods(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    for (at, (namespace, name)) in row.pods.iter().enumerate() {
        out.write_all(if at == 0 { b"\n<small class=\"pods\">in " } else { b", " })?;
        if row.claim.is_none_or(|claim| claim.namespace != *namespace) {
            write!(out, "<bdi>{}/{}</bdi>", Html(namespace), Html(name))?;
        } else {
            write!(out, "<bdi>{}</bdi>", Html(name))?;
        }
    }
    if row.pods.is_empty() { Ok(()) } else { out.write_all(b"</small>") }
}

/// What failed and why, each reason once.
fn write_failures(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(status) = row.volume else { return Ok(()) };
    for failure in status.errors() {
        let has_reason = |result: ProbeResult| result.is_err_and(|other| other.reason == failure.reason);
        let failed = status.mounts().filter(|(_, result)| has_reason(*result)).count();
        let all = status.volume.mounts.len();
        let words = Html(&error_in_words(failure)).to_string();
        if all == 1 {
            write!(out, "\n<p class=\"why\">{words}")?;
        } else {
            write!(out, "\n<p class=\"why\">{failed} of {}: {words}", Count(all, "mount"))?;
        }
    }
    Ok(())
}

fn write_figures(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut cell = |class, bytes: Option<u128>| match bytes {
        Some(bytes) => writeln!(out, "<td class=\"figure {class}\">{}", Size(bytes)),
        // Nothing at all, not even a line end: such cells are hidden where there is little room.
        None => write!(out, "<td class=\"figure {class}\">"),
    };
    let usage = row.usage();
    cell("used", usage.map(|usage| usage.used))?;
    cell("available", usage.map(|usage| usage.available))?;
    cell("size", row.size())
}

fn write_mounts(measured: &MeasuredVolume, out: &mut impl Write) -> io::Result<()> {
    let volume = &*measured.volume;
    let mut fstypes: Vec<Cow<'_, str>> = Vec::new();
    for PodMount { mount, .. } in &volume.mounts {
        fstypes.push(match mount.mode {
            VolumeMode::Filesystem => mount.fstype.to_string_lossy(),
            VolumeMode::Block => "block device".into(),
        });
    }
    fstypes.sort_unstable();
    fstypes.dedup();
    let fstypes = fstypes.join(", ");
    let source = volume.source();
    let plugin = volume.mounts.first().map(|of| of.mount.plugin.as_str());
    let kind = source.as_ref().map(|source| source.kind.as_str()).or(plugin).unwrap_or_default();
    let (fstypes, kind) = (Html(&fstypes), Html(kind));
    writeln!(out, "<td class=\"mounts\"><details><summary>{fstypes} <small>{kind}</small></summary>\n<ul>")?;
    for (mount, result) in measured.mounts() {
        write_mount(mount, result, out)?;
    }
    writeln!(out, "</ul></details>")
}

fn write_mount(
    PodMount { mount, pod }: &PodMount,
    result: ProbeResult,
    out: &mut impl Write,
) -> io::Result<()> {
    let (path, device) = (mount.mountpoint.to_string_lossy(), mount.device.to_string_lossy());
    let access = if mount.is_read_only() { "read-only" } else { "read-write" };
    write!(out, "<li><code>{}</code> of <code>{}</code>, {access}", Html(&path), Html(&device))?;
    match (pod, &mount.pod_uid) {
        (Some(pod), _) => write!(out, ", pod <bdi>{}/{}</bdi>", Html(&pod.namespace), Html(&pod.name))?,
        (None, Some(uid)) => write!(out, ", pod {}", Html(uid))?,
        (None, None) => {}
    }
    match result {
        Ok(_) => writeln!(out),
        Err(error) => writeln!(out, ": {}", Html(&error_in_words(error))),
    }
}

fn state_in_words(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Measured => "measured",
        VolumeState::Failed => "failed",
        VolumeState::Hung => "hung",
        VolumeState::Skipped => "not asked",
    }
}

/// Why a mount has no figures.
fn error_in_words(error: ProbeError) -> Cow<'static, str> {
    match error.reason {
        Reason::Timeout if error.errno.is_some() => "its server did not answer in time",
        Reason::Timeout => "was asked and did not answer in time; it may hang",
        Reason::Skipped => "the time was over before it could be asked",
        Reason::NotMounted => "the path is gone, or is not this mount",
        Reason::Stale => "the server no longer knows the file handle (ESTALE)",
        Reason::Io => "input or output error (EIO)",
        Reason::Permission => "the kernel or the server does not let root look",
        Reason::NotConnected => "its server cannot be reached, or a FUSE server has ended",
        Reason::NoFigures => "it answers with a size of 0, or the size of the device is not known",
        Reason::Other => match error.errno {
            Some(errno) => return io::Error::from_raw_os_error(errno).to_string().into(),
            None => "another error; the log tells which",
        },
    }
    .into()
}
