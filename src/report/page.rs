//! The web page, from `templates/page.html`. It is complete without its script, and asks nothing of other servers.

use askama::Template;
use bytes::Bytes;

use super::escape::Visible;
use super::notices::notices;
use super::page_row::Fullness;
use super::row::{Row, rows, sort_by_percent};
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

#[derive(Template)]
#[template(path = "page.html")]
struct PageTemplate<'a> {
    node: Visible<'a>,
    fixture: Option<Visible<'a>>,
    /// How many volumes are in each state that needs attention.
    failures: Vec<(usize, &'static str)>,
    notices: Vec<String>,
    rows: Vec<Row<'a>>,
    version: &'static str,
    measured_at: String,
}

impl Page {
    /// The page's HTML.
    pub fn write(&self, snapshot: &Snapshot, gzip: bool) -> Vec<Bytes> {
        let page = self.template(snapshot);
        compression::encode(gzip, |out| page.write_into(out))
    }

    fn template<'a>(&'a self, snapshot: &'a Snapshot) -> PageTemplate<'a> {
        let Self { node, fixture } = self;
        let node = if fixture.is_some() { "a recorded node" } else { node.as_deref().unwrap_or("this node") };
        let mut rows = rows(snapshot);
        sort_by_percent(&mut rows, |row| Some(Fullness::of(row)?.percent));
        let states = [
            (VolumeState::Hung, "hung"),
            (VolumeState::Failed, "failed"),
            (VolumeState::Skipped, "not asked in time"),
        ];
        let count = |state| snapshot.volumes.iter().filter(|measured| measured.state() == state).count();
        let failures = states.into_iter().map(|(state, words)| (count(state), words));
        PageTemplate {
            node: Visible::new(node),
            fixture: fixture.as_deref().map(Visible::new),
            failures: failures.filter(|(count, _)| *count > 0).collect(),
            notices: notices(snapshot),
            rows,
            version: env!("CARGO_PKG_VERSION"),
            measured_at: format!("{:.0}", jiff::Timestamp::now()),
        }
    }
}

#[cfg(test)]
mod tests;
