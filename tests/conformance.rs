use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use regex::Regex;

use crate::support::exporter::run;
use crate::support::families::families;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

#[test]
fn files_are_short() {
    for directory in ["src", "tests", "fuzz/fuzz_targets"] {
        for file in sources(&root().join(directory)) {
            let lines = read(&file).lines().count();
            assert!(lines <= 400, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let directories = ["src", "fuzz/fuzz_targets"].map(|directory| root().join(directory));
    for file in directories.iter().flat_map(|directory| sources(directory)) {
        let text = read(&file);
        assert!(text.starts_with("//! ") || file.ends_with("tests.rs"), "{}", file.display());
    }
}

#[test]
fn every_log_line_has_an_event() {
    let event = Regex::new(r#"^\s*event = "[a-z_]+""#).unwrap();
    let mut lines = 0;
    for file in sources(&root().join("src")) {
        for (number, text) in read(&file).split("tracing::").enumerate().skip(1) {
            let Some((_, fields)) = text.split_once("!(").filter(|(level, _)| LEVELS.contains(level)) else {
                continue;
            };
            assert!(event.is_match(fields), "log line {number} of {}", file.display());
            lines += 1;
        }
    }
    assert!(lines > 20, "{lines}");
}

/// The names in backticks in the first column of the README's table below a heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let readme = read("README.md");
    let section =
        readme.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

#[test]
fn the_readmes_metrics_are_the_programs() {
    let rows = table("Metrics");
    let documented: BTreeMap<&str, &str> =
        rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let families = families();
    assert_eq!((&documented, rows.len()), (&families, families.len()));
    let changelog = read("CHANGELOG.md");
    for name in families.keys() {
        assert!(changelog.contains(&format!("`{name}`")), "CHANGELOG.md: {name}");
    }
}

#[test]
fn the_readmes_flags_are_the_programs() {
    let rows = table("Flags");
    let documented: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let command = Args::command();
    let flags = command.get_arguments().filter(|arg| arg.get_env().is_some());
    let flags: BTreeSet<(String, String)> = flags
        .map(|arg| {
            let env = arg.get_env().unwrap().to_str().unwrap();
            (format!("--{}", arg.get_long().unwrap()), env.to_owned())
        })
        .collect();
    assert_eq!(documented, flags);
}

#[test]
fn the_program_accepts_the_manifests_arguments() {
    let manifest = read("manifests/base/daemonset.yaml");
    let args: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .map(|item| item.trim_matches(['"', '\'']))
        .filter(|item| item.starts_with("--"))
        .collect();
    assert!(!args.is_empty());
    // Where the manifest mounts the node, this machine has its own root.
    let rootfs = "--rootfs=/rootfs";
    assert!(args.contains(&rootfs) && manifest.contains("mountPath: /rootfs\n"));
    let args: Vec<&str> =
        args.into_iter().map(|arg| if arg == rootfs { "--rootfs=/" } else { arg }).collect();
    let output = run(&[&args[..], &["metrics"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
