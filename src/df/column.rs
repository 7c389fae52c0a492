//! The columns that can be chosen.

use std::str::FromStr;

use super::row::Row;
use super::text::{Align, Cell, Colour, escaped};
use crate::human::{FULL, NEARLY_FULL, Percent, Size};

/// How many pods are named; of the others there is the number.
const PODS: usize = 3;

/// What a column shows of a row.
#[derive(Debug, Clone, Copy)]
enum Value {
    Text(fn(&Row) -> Option<String>),
    Bytes(fn(&Row) -> Option<u128>),
    Count(fn(&Row) -> Option<u64>),
    Percent(fn(&Row) -> Option<f64>),
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    value: Value,
}

const fn column(name: &'static str, value: Value) -> Column {
    Column { name, value }
}

/// All of them, the usual ones first.
const COLUMNS: [Column; 21] = [
    column("namespace", Value::Text(|row| row.namespace.clone())),
    column("claim", Value::Text(|row| row.claim.clone())),
    column("used%", Value::Percent(|row| row.figures.used_percent)),
    column("used", Value::Bytes(|row| row.figures.used_bytes)),
    column("size", Value::Bytes(|row| row.figures.size_bytes)),
    column("available", Value::Bytes(|row| row.figures.available_bytes)),
    column("pods", Value::Text(pods)),
    column("volume", Value::Text(|row| row.volume.clone())),
    column("inodes-used%", Value::Percent(|row| row.figures.inodes_used_percent)),
    column("inodes-used", Value::Count(|row| row.figures.inodes_used)),
    column("inodes", Value::Count(|row| row.figures.inodes)),
    column("inodes-available", Value::Count(|row| row.figures.inodes_available)),
    column("requested", Value::Bytes(|row| row.requested_bytes)),
    column("type", Value::Text(|row| row.kind.clone())),
    column("instance", Value::Text(|row| row.instance.clone())),
    column("storage-class", Value::Text(|row| row.storage_class.clone())),
    column("readonly", Value::Text(|row| row.read_only.map(|is| if is { "yes" } else { "no" }.into()))),
    column("device", Value::Text(|row| row.device.clone())),
    column("fstype", Value::Text(|row| row.fstype.clone())),
    column("mountpoint", Value::Text(|row| row.mountpoint.clone())),
    column("error", Value::Text(error)),
];

/// So many of these are shown where none are chosen.
const USUAL: usize = 8;

/// What stands in for what with `--inodes`.
const OF_INODES: [(&str, &str); 4] = [
    ("used%", "inodes-used%"),
    ("used", "inodes-used"),
    ("size", "inodes"),
    ("available", "inodes-available"),
];

fn pods(row: &Row) -> Option<String> {
    let more = row.pods.len().saturating_sub(PODS);
    let first = row.pods.iter().take(PODS).cloned();
    let names: Vec<String> = first.chain((more > 0).then(|| format!("+{more}"))).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn error(row: &Row) -> Option<String> {
    (!row.errors.is_empty()).then(|| row.errors.join(","))
}

/// What is printed of each volume.
#[derive(Debug, Clone)]
pub enum Output {
    /// Everything, as an array of objects.
    Json,
    /// A table with these columns.
    Table(Columns),
}

/// Columns of a table, in the order that was asked for.
#[derive(Debug, Clone)]
pub struct Columns(Vec<Column>);

impl Default for Output {
    fn default() -> Self {
        Self::Table(Columns(COLUMNS[..USUAL].to_vec()))
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        text.split(',').map(find).collect::<Result<_, _>>().map(|columns| Self::Table(Columns(columns)))
    }
}

fn find(name: &str) -> Result<Column, String> {
    // As well known by the object's name.
    let name = if name == "pv" { "volume" } else { name };
    COLUMNS.into_iter().find(|column| column.name == name).ok_or_else(|| {
        let names = COLUMNS.map(|column| column.name).join(", ");
        format!("there is no column {name:?}; give json, or a comma list of {names}")
    })
}

impl Columns {
    /// The same of inodes where these are of bytes.
    pub(super) fn of_inodes(&self) -> Self {
        let instead = |column: &Column| {
            let (_, name) = OF_INODES.iter().find(|(bytes, _)| *bytes == column.name)?;
            find(name).ok()
        };
        Self(self.0.iter().map(|column| instead(column).unwrap_or(*column)).collect())
    }

    pub(super) fn aligns(&self) -> Vec<Align> {
        let is_text = |column: &Column| matches!(column.value, Value::Text(_));
        self.0.iter().map(|column| if is_text(column) { Align::Left } else { Align::Right }).collect()
    }

    pub(super) fn header(&self) -> Vec<Cell> {
        let cell = |column: &Column| Cell { text: column.name.to_uppercase(), colour: Colour::Plain };
        self.0.iter().map(cell).collect()
    }

    /// A row's cells. The first figure that a failure left out gives its place to the reason.
    pub(super) fn cells(&self, row: &Row, is_exact: bool) -> Vec<Cell> {
        let mut reason = error(row).filter(|_| row.has_failed());
        let cell = |column: &Column| {
            let (text, colour) = match column.value {
                Value::Text(value) => (value(row).map(|text| escaped(&text)), Colour::Plain),
                Value::Bytes(value) if is_exact => (value(row).map(|bytes| bytes.to_string()), Colour::Plain),
                Value::Bytes(value) => (value(row).map(|bytes| Size(bytes).to_string()), Colour::Plain),
                Value::Count(value) => (value(row).map(|count| count.to_string()), Colour::Plain),
                Value::Percent(value) => {
                    (value(row).map(|percent| Percent(percent).to_string()), colour(value(row)))
                }
            };
            let is_figure = !matches!(column.value, Value::Text(_));
            match text {
                None if is_figure && reason.is_some() => {
                    Cell { text: reason.take().unwrap_or_default(), colour: Colour::Red }
                }
                text => Cell { text: text.unwrap_or("-".into()), colour },
            }
        };
        self.0.iter().map(cell).collect()
    }
}

fn colour(percent: Option<f64>) -> Colour {
    match percent {
        Some(percent) if percent >= FULL => Colour::Red,
        Some(percent) if percent >= NEARLY_FULL => Colour::Yellow,
        _ => Colour::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::df::row::Shown;

    fn columns(text: &str) -> Columns {
        match text.parse() {
            Ok(Output::Table(columns)) => columns,
            _ => panic!("{text}"),
        }
    }

    fn shown(columns: &Columns, row: &Row, is_exact: bool) -> String {
        columns.cells(row, is_exact).iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_wrong_column_is_told_the_right_ones() {
        for text in ["", "claim,", "claim,size%", "json,claim", "Claim"] {
            let error = text.parse::<Output>().err().unwrap();
            assert!(error.contains("give json, or a comma list of namespace, claim, used%, "), "{error}");
        }
        assert!(matches!("json".parse(), Ok(Output::Json)));
        assert_eq!(columns("pv,claim").header()[0].text, "VOLUME");
    }

    #[test]
    fn every_column_that_has_a_twin_of_inodes_gives_way_to_it() {
        let header = columns("claim,used%,used,size,available,inodes").of_inodes().header();
        let header: Vec<&str> = header.iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!(header, ["CLAIM", "INODES-USED%", "INODES-USED", "INODES", "INODES-AVAILABLE", "INODES"]);
    }

    #[test]
    fn the_reason_takes_the_place_of_the_first_figure_that_is_missing() {
        let failed = Row {
            requested_bytes: Some(2048),
            errors: vec!["timeout", "stale"],
            claim: Some("c\x1b".into()),
            ..Row::default()
        };
        let all = columns("claim,requested,used%,used,error");
        assert_eq!(shown(&all, &failed, false), r"c\u{1b} 2.0Ki timeout,stale - timeout,stale");
        assert_eq!(shown(&all, &failed, true), r"c\u{1b} 2048 timeout,stale - timeout,stale");
        let figures = Shown { used_percent: Some(90.0), used_bytes: Some(1), ..Shown::default() };
        let partly = Row { figures, errors: vec!["stale"], ..Row::default() };
        assert_eq!(shown(&all, &partly, false), "- - 90.0% 1 stale");
        let colours = all.cells(&failed, false).iter().map(|cell| cell.colour).collect::<Vec<_>>();
        assert_eq!(colours[1..4], [Colour::Plain, Colour::Red, Colour::Plain]);
        assert_eq!(all.cells(&partly, false)[2].colour, Colour::Red);
    }

    #[test]
    fn of_many_pods_some_are_named() {
        let pods = |count: usize| (0..count).map(|n| format!("p{n}")).collect();
        let shown = |count| shown(&columns("pods"), &Row { pods: pods(count), ..Row::default() }, false);
        assert_eq!([0, 1, 3, 5].map(shown), ["-", "p0", "p0,p1,p2", "p0,p1,p2,+2"]);
    }
}
