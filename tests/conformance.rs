use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use regex::Regex;

use crate::support::document::{files, read, root, table};
use crate::support::families::families;

/// Every Rust file below a directory.
fn sources(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.filter(|path| path.is_dir()).flat_map(|path| sources(path.to_str().unwrap()));
    files(directory, "rs").into_iter().chain(below).collect()
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for file in ["src", "tests", "fuzz/fuzz_targets"].into_iter().flat_map(sources) {
        let text = read(&file);
        let lines = text.lines().count();
        assert!(lines <= 400, "{file} has {lines} lines");
        let is_exempt = file.starts_with("tests/") || file.ends_with("/tests.rs");
        assert!(is_exempt || text.starts_with("//! "), "{file}");
    }
}

#[test]
fn every_log_line_has_an_event() {
    let line = Regex::new(r"tracing::(?:error|warn|info|debug|trace)!\(").unwrap();
    let event = Regex::new(r#"^\s*event = "[a-z_]+""#).unwrap();
    let mut lines = 0;
    for file in sources("src") {
        for (number, fields) in line.split(&read(&file)).enumerate().skip(1) {
            assert!(event.is_match(fields), "log line {number} of {file}");
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
