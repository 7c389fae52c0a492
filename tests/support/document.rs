//! The project's documents, and what they tell their readers to type.

use std::path::{Path, PathBuf};

/// The text of a file of the project.
pub(crate) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents, as paths from the project's directory.
pub(crate) fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directories = ["", "docs", "benches", "fuzz"].map(|directory| root.join(directory));
    let entries = directories.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let documents = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let name = |path: PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let mut documents: Vec<String> = documents.map(name).collect();
    documents.sort();
    documents
}

/// The blocks of commands in a document; a line that goes on is one with the next.
pub(crate) fn blocks(path: &str) -> Vec<Vec<String>> {
    let text = read(path);
    let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    blocks.map(|block| block.replace("\\\n", "").lines().map(words).collect()).collect()
}

/// With one blank between words.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn commands(path: &str) -> Vec<String> {
    blocks(path).concat()
}
