//! Snapshots for people: one line a volume, the fullest first.

mod column;
mod notes;
mod row;
#[cfg(test)]
mod tests;
mod text;

pub use column::{Columns, Output};

use crate::snapshot::Snapshot;
use row::Row;

/// What is shown of a snapshot.
#[derive(Clone, Default)]
pub struct Settings {
    /// In which form.
    pub output: Output,
    /// Bytes as they are, instead of in units.
    pub exact: bool,
    /// Inodes instead of bytes.
    pub inodes: bool,
    /// This namespace's volumes only.
    pub namespace: Option<String>,
    /// Only volumes of which at least so many percent are in use.
    pub over: Option<f64>,
}

/// What is shown of one snapshot.
pub struct Report<'a> {
    settings: &'a Settings,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl<'a> Report<'a> {
    /// Chooses and sorts.
    #[must_use]
    pub fn new(snapshot: &Snapshot, settings: &'a Settings) -> Self {
        let mut rows = row::all(snapshot);
        rows.retain(|row| settings.namespace.is_none() || row.namespace == settings.namespace);
        let failed = rows.iter().filter(|row| row.has_failed()).count();
        if let Some(least) = settings.over {
            rows.retain(|row| row.percent(settings.inodes).is_some_and(|percent| percent >= least));
        }
        rows.sort_by(|a, b| a.cmp(b, settings.inodes));
        let uncompared = if settings.over.is_some() { failed } else { 0 };
        let notes = notes::notes(snapshot, rows.is_empty(), uncompared);
        Self { settings, rows, notes }
    }

    /// Whether a volume is as full as was asked about.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.settings.over.is_some() && !self.rows.is_empty()
    }

    /// What cannot be seen from the volumes that are shown.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The volumes; nothing in it commands a terminal but the colours, if there may be any.
    #[must_use]
    pub fn text(&self, has_colours: bool) -> String {
        let Settings { output, exact, inodes, .. } = self.settings;
        match output {
            Output::Json => {
                let json = serde_json::to_string_pretty(&self.rows).unwrap_or_default();
                text::escaped_json(&json) + "\n"
            }
            Output::Table(_) if self.rows.is_empty() => String::new(),
            Output::Table(columns) if *inodes => self.table(&columns.of_inodes(), *exact, has_colours),
            Output::Table(columns) => self.table(columns, *exact, has_colours),
        }
    }

    fn table(&self, columns: &Columns, is_exact: bool, has_colours: bool) -> String {
        let cells = self.rows.iter().map(|row| columns.cells(row, is_exact));
        let lines: Vec<_> = std::iter::once(columns.header()).chain(cells).collect();
        text::aligned(&columns.aligns(), &lines, has_colours)
    }
}
