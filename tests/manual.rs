use std::process::Output;

use crate::cli::{printed, stdout};
use crate::support::tool::{is_there, pipe};

/// What a program prints that takes its input without complaint.
fn accepted(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    stdout(output)
}

#[test]
fn bash_completes_the_command_line() {
    let script = printed(&["completions", "bash"]);
    if !is_there("bash", &["--version"]) {
        return;
    }
    for (line, before, last, completed) in [
        ("com", "disk-usage-exporter", "com", "completions"),
        ("df --ov", "df", "--ov", "--over"),
        ("df --fix", "df", "--fix", "--fixture"),
        ("completions z", "completions", "z", "zsh"),
    ] {
        let run = format!(
            "{script}\nCOMP_WORDS=(disk-usage-exporter {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _disk__usage__exporter disk-usage-exporter '{last}' {before}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        assert_eq!(accepted(&pipe("bash", &["--norc"], &run)), format!("{completed}\n"), "{line}");
    }
}

#[test]
fn other_shells_accept_their_scripts() {
    for (shell, first) in [("zsh", "#compdef disk-usage-exporter"), ("fish", "complete -c")] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(first) && script.contains("over"), "{script}");
        if is_there(shell, &["--version"]) {
            accepted(&pipe(shell, &["-n"], &script));
        }
    }
}

#[test]
fn man_shows_every_flag() {
    let page = printed(&["man"]);
    assert!(page.contains(".SH \"OPTIONS OF DF\"") && page.contains("\\-\\-label\\-refresh"), "{page}");
    if !is_there("groff", &["--version"]) {
        return;
    }
    let shown = accepted(&pipe("groff", &["-man", "-Tutf8", "-ww", "-P-cbou"], &page));
    for line in
        ["COMMANDS", "OPTIONS", "OPTIONS OF DF", "       --node-name <NAME>", "       --watch[=<DURATION>]"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
}
