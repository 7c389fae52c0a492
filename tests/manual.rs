use crate::support::exporter::run;
use crate::support::tool::{is_there, pipe};

fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers after this line, by the program's own script.
fn offered(script: &str, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let run = format!(
        "{script}\nCOMP_WORDS=({line}); [[ {line:?} == *' ' ]] && COMP_WORDS+=('')\n\
         COMP_CWORD={}; _disk__usage__exporter disk-usage-exporter '{last}' {before}\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.len() - 1
    );
    let output = pipe("bash", &["--norc"], &run);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_the_command_line() {
    let script = printed(&["completions", "bash"]);
    if !is_there("bash", &["--version"]) {
        return;
    }
    assert!(pipe("bash", &["-n"], &script).status.success());
    assert_eq!(offered(&script, "disk-usage-exporter com"), ["completions"]);
    assert_eq!(offered(&script, "disk-usage-exporter df --ov"), ["--over"]);
    assert_eq!(offered(&script, "disk-usage-exporter df --fix"), ["--fixture"]);
    assert_eq!(offered(&script, "disk-usage-exporter completions z"), ["zsh"]);
}

#[test]
fn other_shells_take_their_scripts() {
    for (shell, about) in [("zsh", "#compdef disk-usage-exporter"), ("fish", "complete -c")] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(about) && script.contains("over"), "{script}");
        if is_there(shell, &["--version"]) {
            let output = pipe(shell, &["-n"], &script);
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        }
    }
}

#[test]
fn man_shows_every_flag() {
    let page = printed(&["man"]);
    assert!(page.contains(".SH \"OPTIONS OF DF\"") && page.contains("\\-\\-label\\-refresh"), "{page}");
    let groff = ["-man", "-Tutf8", "-ww", "-P-cbou"];
    if !is_there("groff", &["--version"]) {
        return;
    }
    let output = pipe("groff", &groff, &page);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    for line in
        ["COMMANDS", "OPTIONS", "OPTIONS OF DF", "       --node-name <NAME>", "       --watch[=<DURATION>]"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
}
