//! The project's files, and what its documents tell their readers to type.

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a directory that have this extension, as paths from the project's directory.
pub(crate) fn files(directory: &str, extension: &str) -> Vec<String> {
    let paths = read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|other| other == extension));
    let name = |path: PathBuf| path.strip_prefix(root()).unwrap_or(&path).to_str().unwrap().to_owned();
    let mut files: Vec<_> = files.map(name).collect();
    files.sort();
    files
}

/// All documents, as paths from the project's directory.
pub(crate) fn documents() -> Vec<String> {
    ["", "docs", "benches", "fuzz"].iter().flat_map(|directory| files(directory, "md")).collect()
}

/// The cells of the table below a heading of a document whose first column is code.
pub(crate) fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let (_, below) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{document}: no {heading}"));
    let section = below.lines().take_while(|line| !line.starts_with("## ") && !line.starts_with("### "));
    let rows = section.filter(|line| line.starts_with("| `") || line.starts_with("| [`"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The blocks of commands in a document, with one blank between words; a continued line is one with the next.
pub(crate) fn blocks(path: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = read(path);
    let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    blocks.map(|block| block.replace("\\\n", "").lines().map(words).collect()).collect()
}

pub(crate) fn commands(path: &str) -> Vec<String> {
    blocks(path).concat()
}
