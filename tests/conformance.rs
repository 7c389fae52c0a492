use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use disk_usage_exporter::config::Args;
use disk_usage_exporter::exposition::FAMILIES;

use crate::support::exporter::run;

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

/// The parts of the crate that a file names, outside its tests.
fn imports(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
    let mut found = BTreeSet::new();
    for line in code {
        // Grouped or renamed imports of parts would hide from this reading.
        assert!(!line.contains("crate::{") && !line.contains("use crate as"), "{line}");
        for part in line.split("crate::").skip(1) {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
            found.insert(&part[..end]);
        }
    }
    found.remove("REVISION");
    found
}

/// What each part may know.
const MAY_IMPORT: [(&str, &[&str]); 24] = [
    ("volume", &[]),
    ("snapshot", &["volume"]),
    ("aside", &[]),
    ("node", &["volume", "snapshot", "aside"]),
    ("remote", &[]),
    ("runtime", &[]),
    ("cluster", &["volume", "remote", "runtime"]),
    ("kubelet", &["volume", "aside", "remote"]),
    ("collect", &["volume", "snapshot", "node", "cluster", "kubelet"]),
    ("packed", &[]),
    ("exposition", &["volume", "snapshot", "packed"]),
    ("human", &[]),
    ("df", &["volume", "snapshot", "human"]),
    ("page", &["volume", "snapshot", "packed", "human"]),
    ("server", &["collect", "exposition", "page", "health"]),
    ("process", &["snapshot"]),
    ("panics", &[]),
    ("config", &["volume", "df"]),
    ("logging", &["config"]),
    ("health", &[]),
    ("shutdown", &[]),
    ("fuzzing", &["node", "cluster", "collect", "kubelet", "server"]),
    ("main", &["config", "app", "logging", "panics"]),
    ("lib", &[]),
];

#[test]
fn data_flows_one_way() {
    let src = root().join("src");
    let mut parts = BTreeSet::new();
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let part = first.strip_suffix(".rs").unwrap_or(first);
        parts.insert(part.to_owned());
        if part == "app" || file.ends_with("tests.rs") {
            continue;
        }
        let text = read(&file).replace("disk_usage_exporter::", "crate::");
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(name, _)| *name == part).unwrap_or_else(|| panic!("who is {part}?"));
        for import in imports(&text).into_iter().filter(|import| *import != part) {
            assert!(allowed.contains(&import), "{} imports {import}", relative.display());
        }
    }
    let known: BTreeSet<String> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    parts.remove("app");
    assert_eq!(parts, known);
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
fn the_readmes_metrics_are_the_catalogues() {
    let rows = table("Metrics");
    let documented: Vec<(&str, &str)> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let catalogue: Vec<(&str, &str)> =
        FAMILIES.iter().map(|family| (family.name, family.kind.as_str())).collect();
    assert_eq!(documented, catalogue);
    let changelog = read("CHANGELOG.md");
    for family in FAMILIES {
        assert!(changelog.contains(&format!("`{}`", family.name)), "CHANGELOG.md: {}", family.name);
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
