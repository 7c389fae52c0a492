use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::apiserver::ApiServer;
use crate::support::document::{blocks, commands, documents, read};
use crate::support::exporter::BINARY;
use crate::support::tool::is_there;

/// Commands that `.ci` runs; the file that does, and how it says so.
const OF_CI: [(&str, &str, &str); 5] = [
    (
        "cargo run --release -- --fixture fixtures/nodes/csi --log-human",
        ".ci/run",
        "command=$(readme_command run)",
    ),
    ("cargo test", ".ci/run", "command=$(readme_command test)"),
    (
        concat!("docker build -t disk-usage-exporter:", env!("CARGO_PKG_VERSION"), " -f Containerfile ."),
        ".ci/image",
        "documented(\"docs/install.md\", \"docker build \")",
    ),
    (
        "cargo fuzz run --sanitizer none TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET -- \
         -dict=fuzz/dictionaries/TARGET -max_len=1024 -max_total_time=1260 -timeout=10 -print_final_stats=1",
        ".ci/run",
        "cargo fuzz run --sanitizer none \"$target\"",
    ),
    (".ci/run format lints documentation tests", ".ci/run", "\"$step\"\ndone"),
];

/// The words that commands begin with which the test below runs, and those that tests of other files run: `install` all of
/// `kubectl` and `helm`.
const HERE: [&str; 4] = ["disk-usage-exporter", "target/release/disk-usage-exporter", "source", "ssh"];
const ELSEWHERE: [&str; 2] = ["kubectl", "helm"];

fn first_word(command: &str) -> &str {
    command.split(' ').next().unwrap()
}

#[test]
fn every_command_is_run_by_somebody() {
    let all: BTreeSet<String> = documents().iter().flat_map(|document| commands(document)).collect();
    let tested = |command: &&String| [&HERE[..], &ELSEWHERE].concat().contains(&first_word(command));
    let others: BTreeSet<&str> = all.iter().filter(|command| !tested(command)).map(String::as_str).collect();
    assert_eq!(others, OF_CI.iter().map(|of| of.0).collect());
    for (command, file, how) in OF_CI {
        assert!(read(file).contains(how), "{command}: not by {file}");
    }
}

/// A place where the commands of the documents can be typed: the program and the fixtures are there, `ssh` ends up on this
/// machine, and the kubeconfig at home is for this API server.
fn reader(server: &ApiServer) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("target/release")).unwrap();
    for name in ["disk-usage-exporter", "target/release/disk-usage-exporter"] {
        symlink(BINARY, path.join(name)).unwrap();
    }
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"), path.join("fixtures")).unwrap();
    std::fs::write(path.join("ssh"), "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(path.join("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    let config = server.kubeconfig(&json!({"token": "good"}));
    std::fs::create_dir(path.join(".kube")).unwrap();
    std::fs::copy(config.strip_prefix("--kubeconfig=").unwrap(), path.join(".kube/config")).unwrap();
    directory
}

/// What the lines print; a server among them is stopped when it listens.
fn typed(lines: &[String], directory: &Path) -> String {
    let mut command = Command::new("bash");
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    command.args(["-euc", &lines.join("\n")]).current_dir(directory).env("PATH", path).env("HOME", directory);
    command.env("DISK_USAGE_EXPORTER_LISTEN_PORT", "0").env_remove("KUBECONFIG");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.last().is_some_and(|line| line.contains("\"listening\"")) {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        }
    }
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{lines:?}: {said:#?}");
    if said.iter().any(|line| line.contains("\"listening\"")) { "listening".into() } else { printed }
}

#[test]
fn the_programs_commands_do_what_the_documents_say() {
    if !is_there("man", &["--version"]) {
        return;
    }
    let server = ApiServer::start();
    let mut met = BTreeSet::new();
    for document in documents() {
        for block in blocks(&document) {
            if !HERE.contains(&first_word(&block[0])) {
                continue;
            }
            // Each reader is new.
            let directory = reader(&server);
            let printed = typed(&block, directory.path());
            let last = block.last().unwrap().split(' ').next_back().unwrap();
            let wanted = match last {
                "metrics" => "\ndisk_usage_exporter_build_info{",
                "df" => "\nshop       csi-fs ",
                "/" => "listening",
                "-" => "DISK_USAGE_EXPORTER_ROOTFS",
                other => panic!("{document}: what does {other} print?"),
            };
            assert!(printed.contains(wanted), "{document}: {block:?} prints {printed}");
            met.insert(last.to_owned());
        }
    }
    assert_eq!(met, ["-", "/", "df", "metrics"].map(str::to_owned).into());
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let directory = Path::new(&document).parent().unwrap();
            let target = if path.is_empty() { document.clone().into() } else { directory.join(path) };
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&target).exists(), "{document}: {link}");
            if !section.is_empty() {
                assert!(anchors(target.to_str().unwrap()).contains(section), "{document}: {link}");
            }
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
