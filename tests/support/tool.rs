//! Programs from elsewhere that judge what this one prints.

use std::io::{Seek, Write};
use std::process::{Command, Output};

use super::skip;

/// Whether a program is there and answers; if not, the test is skipped.
pub(crate) fn is_there(program: &str, args: &[&str]) -> bool {
    let is_there = Command::new(program).args(args).output().is_ok_and(|output| output.status.success());
    if !is_there {
        skip(&format!("`{program} {}` does not work here", args.join(" ")));
    }
    is_there
}

/// Runs a program on this input.
pub(crate) fn pipe(program: &str, args: &[&str], input: &str) -> Output {
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    stdin.rewind().unwrap();
    Command::new(program).args(args).stdin(stdin).output().unwrap()
}

/// What a program prints that must not fail.
pub(crate) fn stdout(program: &str, args: &[&str], input: &str) -> String {
    let Output { status, stdout, stderr } = pipe(program, args, input);
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{program} {args:?}: {stdout}{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// `promtool check metrics` may say one thing: the name that the contract inherits.
pub(crate) fn assert_promtool_agrees(exposition: &str) {
    let output = pipe("promtool", &["check", "metrics"], exposition);
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let inherited = r#"pv_disk_usage_bytes_total non-counter metrics should not have "_total" suffix"#;
    let complaints: Vec<&str> = printed.lines().filter(|line| *line != inherited).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
