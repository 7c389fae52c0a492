//! The table that `df` prints.

use clap::Args;
use unicode_width::UnicodeWidthStr;

use super::column::{Column, DEFAULT_COLUMNS, Output, Value};
use super::escape::{escape_json, visible};
use super::notices::notices;
use super::row::{Row, rows, sort_by_percent};
use crate::snapshot::Snapshot;
use crate::units::{Count, FULL, NEARLY_FULL, Percent, Size};
use crate::volume::is_valid_object_name;

/// How many items of a list are shown; of the others the number is.
const MAX_LISTED: usize = 3;

const PLAIN: &str = "";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Which volumes the table shows, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct TableOptions {
    /// Exact bytes instead of KiB, MiB and so on.
    #[arg(short = 'b', long = "bytes")]
    pub exact: bool,

    /// Inodes instead of bytes: in the table, its order and --over.
    #[arg(short, long, conflicts_with = "exact")]
    pub inodes: bool,

    /// A comma list of columns, or json for everything; other columns are inodes-used%, inodes-used, inodes, inodes-available, requested, type, instance, storage-class, mode, readonly, device, fstype, mountpoint, error.
    #[arg(short, long, value_name = "COLUMNS", default_value = DEFAULT_COLUMNS)]
    pub output: Output,

    /// Only volumes of claims in this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: Option<String>,

    /// Only volumes of which at least so many percent are in use; exit code 3 if there is one.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub over: Option<f64>,
}

fn parse_namespace(text: &str) -> Result<String, String> {
    if is_valid_object_name(text) {
        return Ok(text.to_owned());
    }
    Err("no name of a namespace; give it as `kubectl get namespaces` prints it".into())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "give a percentage from 0 to 100, such as 80 or 99.5".into())
}

/// The rows of one snapshot, filtered and sorted.
pub struct Table<'a> {
    options: &'a TableOptions,
    rows: Vec<Row<'a>>,
    /// What cannot be seen from the rows.
    pub notices: Vec<String>,
}

struct Cell {
    text: String,
    colour: &'static str,
}

impl<'a> Table<'a> {
    /// Filters and sorts.
    pub fn new(snapshot: &'a Snapshot, options: &'a TableOptions) -> Self {
        let percent = if options.inodes { Row::inodes_percent_used } else { Row::percent_used };
        let mut rows = rows(snapshot);
        rows.retain(|row| options.namespace.is_none() || row.namespace() == options.namespace.as_deref());
        let unknown = rows.iter().filter(|row| row.is_unknown()).count();
        rows.retain(|row| {
            options.over.is_none_or(|over| percent(row).is_some_and(|percent| percent >= over))
        });
        sort_by_percent(&mut rows, percent);
        let mut notices = notices(snapshot);
        if rows.is_empty() {
            notices.insert(0, "no volumes to show".into());
        }
        if options.over.is_some() && unknown > 0 {
            let volumes = Count(unknown, "volume");
            notices.push(format!("{volumes} could not be measured and may be over the threshold"));
        }
        Self { options, rows, notices }
    }

    /// Whether a volume reaches the threshold.
    pub fn is_over(&self) -> bool {
        self.options.over.is_some() && !self.rows.is_empty()
    }

    /// The volumes. Only the colours, if there are any, are commands to a terminal.
    pub fn text(&self, has_colours: bool) -> String {
        let columns = match &self.options.output {
            Output::Json => {
                return escape_json(&serde_json::to_string_pretty(&self.rows).unwrap_or_default()) + "\n";
            }
            Output::Table(_) if self.rows.is_empty() => return String::new(),
            Output::Table(columns) if self.options.inodes => {
                columns.iter().copied().map(Column::of_inodes).collect()
            }
            Output::Table(columns) => columns.clone(),
        };
        let header = columns.iter().map(|column| Cell { text: column.name.to_uppercase(), colour: PLAIN });
        let mut lines = vec![header.collect()];
        lines.extend(self.rows.iter().map(|row| cells(&columns, row, self.options.exact)));
        align(&columns, &lines, has_colours)
    }
}

/// A row's cells. The reason of a failure takes the place of the first missing figure.
fn cells(columns: &[Column], row: &Row<'_>, is_exact: bool) -> Vec<Cell> {
    let mut reasons = if row.measurement.is_none() { row.reasons() } else { vec![] };
    let cell = |column: &Column| match (column.value)(row) {
        Some(value) => format_value(value, is_exact),
        None if column.is_figure && !reasons.is_empty() => {
            let colour = if row.is_unsupported() { PLAIN } else { RED };
            Cell { text: std::mem::take(&mut reasons).join(","), colour }
        }
        None => Cell { text: "-".into(), colour: PLAIN },
    };
    columns.iter().map(cell).collect()
}

fn format_value(value: Value<'_>, is_exact: bool) -> Cell {
    let colour = match value {
        Value::Percent(FULL..) => RED,
        Value::Percent(NEARLY_FULL..) => YELLOW,
        _ => PLAIN,
    };
    let text = match value {
        Value::Text(text) => visible(&text).into_owned(),
        Value::List(items) => {
            let shown = visible(&items[..items.len().min(MAX_LISTED)].join(",")).into_owned();
            let more = items.len().saturating_sub(MAX_LISTED);
            if more > 0 { format!("{shown},+{more}") } else { shown }
        }
        Value::Flag(flag) => if flag { "yes" } else { "no" }.into(),
        Value::Bytes(bytes) if is_exact => bytes.to_string(),
        Value::Bytes(bytes) => Size(bytes).to_string(),
        Value::Count(count) => count.to_string(),
        Value::Percent(percent) => Percent(percent).to_string(),
    };
    Cell { text, colour }
}

/// Lines with aligned columns, without trailing blanks.
fn align(columns: &[Column], lines: &[Vec<Cell>], has_colours: bool) -> String {
    let width = |at: usize| lines.iter().map(|line| line[at].text.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut blanks = 0;
        for ((Cell { text, colour }, column), width) in line.iter().zip(columns).zip(&widths) {
            let padding = width - text.width();
            let (before, after) = if column.is_figure { (padding, 0) } else { (0, padding) };
            out.extend(std::iter::repeat_n(' ', blanks + before));
            let is_coloured = has_colours && !colour.is_empty();
            out.extend(if is_coloured { [*colour, text, RESET] } else { [text.as_str(), "", ""] });
            blanks = after + 2;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests;
