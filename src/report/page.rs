//! The web page. It is complete without its script, and asks nothing of other servers.

use std::io::{self, Write};

use bytes::Bytes;

use super::escape::Html;
use super::notices::notices;
use super::page_rows::{Fullness, write_rows};
use super::row::{rows, sort_by_percent};
use crate::compression;
use crate::snapshot::{Snapshot, VolumeState};

/// How it looks: `/style.css`.
pub const STYLE: &str = include_str!("style.css");
/// What lets people filter the rows: `/filter.js`.
pub const SCRIPT: &str = include_str!("filter.js");
/// What browsers show beside its title: `/icon.svg`.
pub const ICON: &str = include_str!("icon.svg");

/// Whose volumes the page shows.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The node's name, where it is known.
    pub node: Option<String>,
    /// The recorded node that is shown, if it is not this machine.
    pub fixture: Option<String>,
}

impl Page {
    /// The page's HTML.
    pub fn write(&self, snapshot: &Snapshot, gzip: bool) -> Vec<Bytes> {
        compression::encode(gzip, |out| self.write_html(snapshot, out))
    }

    fn write_html(&self, snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
        let mut rows = rows(snapshot);
        sort_by_percent(&mut rows, |row| Some(Fullness::of(row)?.percent));
        self.write_head(out)?;
        write_counts(snapshot, rows.len(), out)?;
        for notice in notices(snapshot) {
            writeln!(out, "<p class=\"notice\">{}</p>", Html(&notice))?;
        }
        if !rows.is_empty() {
            out.write_all(FILTER)?;
            write_rows(&rows, out)?;
        }
        write_foot(out)
    }

    fn write_head(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { node, fixture } = self;
        let node = match (fixture, node) {
            (Some(_), _) => "a recorded node",
            (None, Some(node)) => node,
            (None, None) => "this node",
        };
        let node = Html(node);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>Volumes of {node}</title>\n\
             <link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\">\n\
             <link rel=\"stylesheet\" href=\"/style.css\">\n<script src=\"/filter.js\" defer></script>\n</head>\n\
             <body>\n<h1>Volumes of <bdi>{node}</bdi></h1>\n"
        )?;
        let Some(fixture) = fixture else { return Ok(()) };
        let fixture = Html(fixture);
        writeln!(
            out,
            "<p class=\"notice\">These are not this machine's volumes, but those of the recorded node \
             <code>{fixture}</code>.</p>"
        )
    }
}

/// How many volumes there are, and how many of them failed.
fn write_counts(snapshot: &Snapshot, rows: usize, out: &mut impl Write) -> io::Result<()> {
    let noun = if rows == 1 { "volume" } else { "volumes" };
    write!(out, "<ul class=\"counts\">\n<li><b>{rows}</b> {noun}\n")?;
    let states = [
        (VolumeState::Hung, "hung"),
        (VolumeState::Failed, "failed"),
        (VolumeState::Skipped, "not asked in time"),
    ];
    for (state, words) in states {
        let count = snapshot.volumes.iter().filter(|measured| measured.state() == state).count();
        if count > 0 {
            writeln!(out, "<li class=\"bad\"><b>{count}</b> {words}")?;
        }
    }
    writeln!(out, "</ul>")
}

/// The script shows it.
const FILTER: &[u8] = b"<p class=\"filter\" hidden><input type=\"search\" autocomplete=\"off\" spellcheck=\"false\" \
    aria-label=\"Filter\" placeholder=\"Filter: claim, pod, driver, hung \xe2\x80\xa6\"> <output></output></p>\n";

fn write_foot(out: &mut impl Write) -> io::Result<()> {
    let (version, now) = (env!("CARGO_PKG_VERSION"), jiff::Timestamp::now());
    write!(
        out,
        "<footer>\n<p><a href=\"/metrics\">/metrics</a> for Prometheus, \
         <a href=\"/healthz\">/healthz</a> whether the program is alive, \
         <a href=\"/readyz\">/readyz</a> whether it has measured the volumes yet\n\
         <p>disk-usage-exporter {version}, measured at <time>{now:.0}</time>. Percent are of what pods can use, as \
         <code>df</code> has it.\n</footer>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests;
