//! The table of volumes.

use std::borrow::Cow;
use std::io::{self, Write};

use super::notices::{failure_in_words, state_in_words};
use super::row::{Fullness, Row};
use super::text::{Count, Escaped};
use crate::human::{FULL, NEARLY_FULL, Percent, Size};
use crate::snapshot::MeasuredVolume;
use crate::volume::{Measurement, Pod, PodMount, ProbeResult, VolumeMode, VolumeMount};

pub(super) fn write(rows: &[Row<'_>], out: &mut impl Write) -> io::Result<()> {
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
    let fullness = row.fullness();
    let class = match fullness {
        _ if row.figures.is_none() => "failed",
        Some(Fullness { percent: FULL.., .. }) => "full",
        Some(Fullness { percent: NEARLY_FULL.., .. }) => "nearly",
        _ => "well",
    };
    writeln!(out, "<tr class=\"{class}\">")?;
    write_level(row, fullness, out)?;
    write_names(row, out)?;
    write_figures(row, out)?;
    match row.mounted {
        Some(status) => write_mounts(status, out),
        None => writeln!(out, "<td class=\"mounts\">as the kubelet reports it"),
    }
}

/// The bar, and its figure. Widths are attributes: style in the markup is not allowed.
fn write_level(row: &Row<'_>, fullness: Option<Fullness>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<td class=\"level\">")?;
    let Some(Fullness { percent, of_inodes }) = fullness else {
        let state = row.mounted.map(MeasuredVolume::state).filter(|_| row.figures.is_none());
        let words =
            state.map_or(if row.figures.is_some() { "size only" } else { "no figures" }, state_in_words);
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
    let pv_name = row.mounted.map(|status| status.volume.pv_name.as_str());
    out.write_all(b"<th scope=\"row\">")?;
    match row.claim {
        Some(claim) => {
            let (namespace, name) = (Escaped(&claim.namespace), Escaped(&claim.name));
            write!(out, "<bdi><span>{namespace}/</span>{name}</bdi>")?;
        }
        None => write!(out, "<bdi>{}</bdi>", Escaped(pv_name.unwrap_or_default()))?,
    }
    if row.mounted.and_then(MeasuredVolume::read_only) == Some(true) {
        out.write_all(b" <em>read-only</em>")?;
    }
    if row.abnormal {
        out.write_all(b" <em class=\"bad\">its driver reports a problem</em>")?;
    }
    if let (Some(_), Some(pv_name)) = (row.claim, pv_name) {
        write!(out, "\n<small><bdi>{}</bdi></small>", Escaped(pv_name))?;
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
            write!(out, "<bdi>{}/{}</bdi>", Escaped(namespace), Escaped(name))?;
        } else {
            write!(out, "<bdi>{}</bdi>", Escaped(name))?;
        }
    }
    if row.pods.is_empty() { Ok(()) } else { out.write_all(b"</small>") }
}

/// What failed and why, each reason once.
fn write_failures(row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(status) = row.mounted else { return Ok(()) };
    for failure in status.errors() {
        let has_reason = |result: ProbeResult| result.is_err_and(|other| other.reason == failure.reason);
        let failed = status.mounts().filter(|(_, result)| has_reason(*result)).count();
        let all = status.volume.mounts.len();
        let words = Escaped(&failure_in_words(failure)).to_string();
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
    cell("size", row.figures.map(size))
}

fn size(figures: Measurement) -> u128 {
    match figures {
        Measurement::Filesystem(usage) => usage.total,
        Measurement::Block { size } => size,
    }
}

fn write_mounts(status: &MeasuredVolume, out: &mut impl Write) -> io::Result<()> {
    let volume = &*status.volume;
    let mut fstypes: Vec<_> = volume.mounts.iter().map(|of| fstype(&of.mount)).collect();
    fstypes.sort_unstable();
    fstypes.dedup();
    let fstypes = fstypes.join(", ");
    let source = volume.source();
    let plugin = volume.mounts.first().map(|of| of.mount.plugin.as_str());
    let kind = source.as_ref().map(|source| source.kind.as_str()).or(plugin).unwrap_or_default();
    let (fstypes, kind) = (Escaped(&fstypes), Escaped(kind));
    writeln!(out, "<td class=\"mounts\"><details><summary>{fstypes} <small>{kind}</small></summary>\n<ul>")?;
    for (PodMount { mount, pod }, result) in status.mounts() {
        write_mount(mount, pod.as_deref(), result, out)?;
    }
    writeln!(out, "</ul></details>")
}

fn write_mount(
    mount: &VolumeMount,
    pod: Option<&Pod>,
    answer: ProbeResult,
    out: &mut impl Write,
) -> io::Result<()> {
    let (path, device) = (mount.mountpoint.to_string_lossy(), mount.device.to_string_lossy());
    let access = if mount.read_only || mount.superblock_read_only { "read-only" } else { "read-write" };
    write!(out, "<li><code>{}</code> of <code>{}</code>, {access}", Escaped(&path), Escaped(&device))?;
    match (pod, &mount.pod_uid) {
        (Some(pod), _) => write!(out, ", pod <bdi>{}/{}</bdi>", Escaped(&pod.namespace), Escaped(&pod.name))?,
        (None, Some(uid)) => write!(out, ", pod {}", Escaped(uid))?,
        (None, None) => {}
    }
    match answer {
        Ok(_) => writeln!(out),
        Err(failure) => writeln!(out, ": {}", Escaped(&failure_in_words(failure))),
    }
}

fn fstype(mount: &VolumeMount) -> Cow<'_, str> {
    match mount.mode {
        VolumeMode::Filesystem => mount.fstype.to_string_lossy(),
        VolumeMode::Block => "block device".into(),
    }
}
