//! The columns of the table, which are also the keys of its JSON.

use std::borrow::Cow;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::row::Row;

pub(super) const DEFAULT_COLUMNS: &str = "namespace,claim,used%,used,size,available,pods,volume";

/// The value of a row in a column.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    List(Vec<&'a str>),
    Flag(bool),
    Bytes(u128),
    Count(u64),
    Percent(f64),
}

/// A column of the table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub(super) name: &'static str,
    json_key: &'static str,
    /// A number: aligned right, and absent if the volume could not be measured.
    pub(super) is_figure: bool,
    pub(super) value: ColumnValue,
}

type ColumnValue = for<'a> fn(&Row<'a>) -> Option<Value<'a>>;

const fn label(name: &'static str, json_key: &'static str, value: ColumnValue) -> Column {
    Column { name, json_key, is_figure: false, value }
}

const fn figure(name: &'static str, json_key: &'static str, value: ColumnValue) -> Column {
    Column { name, json_key, is_figure: true, value }
}

const COLUMNS: [Column; 22] = [
    label("namespace", "namespace", |row| text(row.namespace()?)),
    label("claim", "claim", |row| text(&row.claim?.name)),
    label("volume", "volume", |row| text(row.pv_name()?)),
    label("pods", "pods", |row| list(row.pods.iter().map(|(_, name)| *name).collect())),
    figure("used%", "used_percent", |row| row.percent_used().map(Value::Percent)),
    figure("used", "used_bytes", |row| row.usage()?.used.map(Value::Bytes)),
    figure("size", "size_bytes", |row| row.size().map(Value::Bytes)),
    figure("available", "available_bytes", |row| row.usage()?.available.map(Value::Bytes)),
    figure("inodes-used%", "inodes_used_percent", |row| row.inodes_percent_used().map(Value::Percent)),
    figure("inodes-used", "inodes_used", |row| Some(Value::Count(row.inodes()?.used()))),
    figure("inodes", "inodes", |row| Some(Value::Count(row.inodes()?.total))),
    figure("inodes-available", "inodes_available", |row| Some(Value::Count(row.inodes()?.free))),
    figure("requested", "requested_bytes", |row| {
        row.volume?.volume.claim.object()?.requested_bytes.map(Value::Bytes)
    }),
    label("error", "errors", |row| list(row.reasons())),
    label("type", "type", |row| text(row.volume?.volume.source()?.0)),
    label("instance", "instance", |row| text(row.volume?.volume.source()?.1?)),
    label("storage-class", "storage_class", |row| {
        text(row.volume?.volume.pv.as_ref()?.storage_class.as_deref()?)
    }),
    label("mode", "mode", |row| text(row.mount()?.mode.as_str())),
    label("readonly", "read_only", |row| row.volume?.read_only().map(Value::Flag)),
    label("device", "device", |row| text(row.mount()?.device.to_string_lossy())),
    label("fstype", "fstype", |row| text(row.mount()?.fstype.to_string_lossy())),
    label("mountpoint", "mountpoint", |row| text(row.mount()?.mountpoint.to_string_lossy())),
];

#[expect(clippy::unnecessary_wraps, reason = "the columns' values are optional")]
fn text<'a>(text: impl Into<Cow<'a, str>>) -> Option<Value<'a>> {
    Some(Value::Text(text.into()))
}

fn list(items: Vec<&str>) -> Option<Value<'_>> {
    (!items.is_empty()).then_some(Value::List(items))
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = COLUMNS.iter().filter_map(|column| Some((column.json_key, (column.value)(self)?)));
        serializer.collect_map(known)
    }
}

/// What is printed of each volume.
#[derive(Debug, Clone)]
pub enum Output {
    /// Everything, as an array of objects.
    Json,
    /// A table with these columns.
    Table(Vec<Column>),
}

impl Default for Output {
    fn default() -> Self {
        Self::Table(DEFAULT_COLUMNS.split(',').filter_map(find_column).collect())
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let columns = text.split(',').map(|name| {
            find_column(name).ok_or_else(|| {
                let names = COLUMNS.map(|column| column.name).join(", ");
                format!("there is no column {name:?}; give json, or a comma list of {names}")
            })
        });
        columns.collect::<Result<_, _>>().map(Self::Table)
    }
}

fn find_column(name: &str) -> Option<Column> {
    let name = if name == "pv" { "volume" } else { name };
    COLUMNS.into_iter().find(|column| column.name == name)
}

impl Column {
    /// The column that shows the same of inodes, if there is one; else this one.
    pub(super) fn of_inodes(self) -> Self {
        let name = if self.name == "size" { "inodes" } else { &format!("inodes-{}", self.name) };
        find_column(name).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(output: &Output) -> Vec<&'static str> {
        match output {
            Output::Table(columns) => columns.iter().map(|column| column.name).collect(),
            Output::Json => panic!("no table"),
        }
    }

    #[test]
    fn unknown_column_is_refused_with_all_names() {
        for text in ["", "claim,", "claim,size%", "json,claim", "Claim"] {
            let error = text.parse::<Output>().err().unwrap();
            assert!(error.contains("give json, or a comma list of namespace, claim, volume, "), "{error}");
        }
        assert!(matches!("json".parse(), Ok(Output::Json)));
        assert_eq!(names(&"pv,claim".parse().unwrap()), ["volume", "claim"]);
        assert_eq!(names(&Output::default()).join(","), DEFAULT_COLUMNS);
    }
}
