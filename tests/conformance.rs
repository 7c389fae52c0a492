use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use regex::Regex;

use crate::support::document::{read, root, table};
use crate::support::families::families;

/// Every Rust file below a directory, with its text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => vec![(path.clone(), read(&path))],
        _ => vec![],
    });
    files.collect()
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for directory in ["src", "tests", "fuzz/fuzz_targets"] {
        for (file, text) in sources(Path::new(directory)) {
            let lines = text.lines().count();
            assert!(lines <= 400, "{} has {lines} lines", file.display());
            let is_exempt = directory == "tests" || file.ends_with("tests.rs");
            assert!(is_exempt || text.starts_with("//! "), "{}", file.display());
        }
    }
}

#[test]
fn every_log_line_has_an_event() {
    let line = Regex::new(r"tracing::(?:error|warn|info|debug|trace)!\(").unwrap();
    let event = Regex::new(r#"^\s*event = "[a-z_]+""#).unwrap();
    let mut lines = 0;
    for (file, text) in sources(Path::new("src")) {
        for (number, fields) in line.split(&text).enumerate().skip(1) {
            assert!(event.is_match(fields), "log line {number} of {}", file.display());
            lines += 1;
        }
    }
    assert!(lines > 20, "{lines}");
}

/// The first two columns of a table of the README.
fn columns(heading: &str) -> Vec<[String; 2]> {
    let code = |cell: &String| cell.trim_matches('`').to_owned();
    table("README.md", heading).iter().map(|row| [code(&row[0]), code(&row[1])]).collect()
}

#[test]
fn readme_and_changelog_have_the_programs_metrics() {
    let rows = columns("## Metrics");
    let documented: BTreeMap<&str, &str> = rows.iter().map(|[name, kind]| (&**name, &**kind)).collect();
    let families = families();
    assert_eq!((&documented, rows.len()), (&families, families.len()));
    let changelog = read("CHANGELOG.md");
    for name in families.keys() {
        assert!(changelog.contains(&format!("`{name}`")), "CHANGELOG.md: {name}");
    }
}

#[test]
fn readme_has_the_programs_flags() {
    let command = Args::command();
    let flags = command.get_arguments().filter_map(|arg| {
        let env = arg.get_env()?.to_str().unwrap();
        Some([format!("--{}", arg.get_long().unwrap()), env.to_owned()])
    });
    assert_eq!(BTreeSet::from_iter(columns("## Flags")), flags.collect());
}
