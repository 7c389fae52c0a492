//! Any bytes as a mount table.

#![no_main]

use std::collections::HashSet;
use std::path::{Component, Path};
use std::sync::OnceLock;

use disk_usage_exporter::fuzzing::{Found, discover, mountpoints};
use disk_usage_exporter::node::VolumeMatcher;
use libfuzzer_sys::fuzz_target;

/// Every way of telling volumes from other mounts.
fn recognitions() -> &'static [VolumeMatcher; 4] {
    static ALL: OnceLock<[VolumeMatcher; 4]> = OnceLock::new();
    let by_regex = |regex: &str| VolumeMatcher {
        kubelet_root: None,
        volume_regex: Some(regex::bytes::Regex::new(regex).unwrap()),
    };
    ALL.get_or_init(|| {
        [
            VolumeMatcher::default(),
            VolumeMatcher { kubelet_root: Some("/var/lib/k0s/kubelet/".into()), volume_regex: None },
            by_regex("/(?P<plugin>[^/]*)/(?P<name>[^/]*)$"),
            by_regex("(?s-u)(?P<pod_uid>[0-9a-f-]{2,36})?/?(?P<plugin>[^/]*)?(?P<name>.+)"),
        ]
    })
}

/// The rootfs, and whether the table is this process's own.
const VIEWS: [(&str, bool); 3] = [("/", true), ("/rootfs", true), ("/rootfs", false)];

fuzz_target!(|table: &[u8]| {
    // One way of reading an input, for speed; the length leads to all of them.
    let (rootfs, own) = VIEWS[table.len() % 3];
    let recognition = &recognitions()[table.len() / 3 % 4];
    check(table, Path::new(rootfs), recognition, own);
    decoding_is_one_pass(table);
});

fn check(table: &[u8], rootfs: &Path, recognition: &VolumeMatcher, own: bool) {
    let found = discover(table, rootfs, recognition, own);
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(found.rows + found.malformed, lines, "every line is one of both");
    assert_eq!(found, discover(table, rootfs, recognition, own), "the same bytes say the same");

    let mut seen = HashSet::new();
    for mount in &found.mounts {
        assert!(mount.mountpoint.is_absolute(), "{mount:?}");
        assert!(!mount.name.is_empty() || mount.mode.as_str() == "Block", "{mount:?}");
        assert!(seen.insert(&mount.mountpoint), "two volumes at one place: {mount:?}");
    }
    for path in &found.reached {
        assert!(path.starts_with(rootfs), "{}", path.display());
        assert!(!path.components().any(|part| part == Component::ParentDir), "{}", path.display());
    }
    a_bad_line_costs_itself_only(table, &found, |table| discover(table, rootfs, recognition, own));
}

/// Adds one before some line.
fn a_bad_line_costs_itself_only(table: &[u8], without: &Found, read: impl Fn(&[u8]) -> Found) {
    const BAD: &[u8] = b"1 2 0:3 / /var/lib/kubelet/pods rw\n";
    let middle = table.len() / 2;
    let at = table[..middle].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let with = read(&[&table[..at], BAD, &table[at..]].concat());
    assert_eq!(with, Found { malformed: without.malformed + 1, ..without.clone() });
}

/// What is written as the kernel writes it is read as it was, whatever the names are: those of the input's lines.
fn decoding_is_one_pass(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n').take(8) {
        let name: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'/').collect();
        if matches!(&name[..], b"" | b"." | b"..") || name.ends_with(b" (deleted)") {
            continue;
        }
        let mut row = b"1 2 0:3 / /".to_vec();
        for byte in &name {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => row.extend(format!("\\{byte:03o}").bytes()),
                _ => row.push(*byte),
            }
        }
        row.extend_from_slice(b" rw - tmpfs tmpfs rw\n");
        let [read] = &mountpoints(&row)[..] else {
            panic!("not one row: {}", row.escape_ascii());
        };
        assert_eq!(read.strip_prefix(b"/"), Some(&name[..]), "{}", row.escape_ascii());
    }
}
