use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::support::apiserver::ApiServer;
use crate::support::document::{blocks, commands, documents, read, root};
use crate::support::exporter::BINARY;
use crate::support::tool::is_there;

/// The first words of commands that the test below runs, and of those that the tests of `install` and of `prometheus_rules` run.
const HERE: [&str; 4] = ["disk-usage-exporter", "target/release/disk-usage-exporter", "source", "ssh"];
const ELSEWHERE: [&str; 3] = ["kubectl", "helm", "sed"];

fn first_word(command: &str) -> &str {
    command.split(' ').next().unwrap()
}

#[test]
fn every_command_is_run_somewhere() {
    let all: BTreeSet<String> = documents().iter().flat_map(|document| commands(document)).collect();
    let is_tested = |command: &str| [&HERE[..], &ELSEWHERE].concat().contains(&first_word(command));
    let others: BTreeSet<&str> = all.iter().map(String::as_str).filter(|line| !is_tested(line)).collect();
    let table = read("tests/commands.yaml").replace("VERSION", env!("CARGO_PKG_VERSION"));
    let of_ci: Vec<[String; 3]> = serde_saphyr::from_str(&table).unwrap();
    assert_eq!(others, of_ci.iter().map(|[command, ..]| command.as_str()).collect());
    for [command, file, how] in of_ci {
        assert!(read(&file).contains(&how), "{command}: not by {file}");
    }
}

/// A home with all that a reader has: the program and the fixtures, `ssh` that runs the command on this machine, and a
/// kubeconfig for this API server.
fn reader(server: &ApiServer) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(path("target/release")).unwrap();
    symlink(BINARY, path("disk-usage-exporter")).unwrap();
    symlink(BINARY, path("target/release/disk-usage-exporter")).unwrap();
    symlink(root().join("fixtures"), path("fixtures")).unwrap();
    std::fs::write(path("ssh"), "#!/bin/sh\nshift\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(path("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    let config = server.kubeconfig(&json!({"token": "good"}));
    std::fs::create_dir(path(".kube")).unwrap();
    std::fs::copy(config.strip_prefix("--kubeconfig=").unwrap(), path(".kube/config")).unwrap();
    directory
}

/// What the lines print; a server is stopped when it listens, which counts as printing `listening`.
fn run(lines: &[String], directory: &Path) -> String {
    let mut command = Command::new("bash");
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    command.args(["-euc", &lines.join("\n")]).current_dir(directory).env("PATH", path).env("HOME", directory);
    command.env("DISK_USAGE_EXPORTER_LISTEN_PORT", "0").env_remove("KUBECONFIG");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut printed, mut log) = (String::new(), Vec::new());
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
        if line.contains("\"listening\"") {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
            printed += "listening";
        }
        log.push(line);
    }
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{lines:?}: {log:#?}");
    printed
}

#[test]
fn commands_of_the_program_print_what_the_documents_say() {
    if !is_there("man", &["--version"]) {
        return;
    }
    let server = ApiServer::start();
    let mut kinds = BTreeSet::new();
    for document in documents() {
        for block in blocks(&document).iter().filter(|block| HERE.contains(&first_word(&block[0]))) {
            let printed = run(block, reader(&server).path());
            let last = block.last().unwrap().split(' ').next_back().unwrap().to_owned();
            let expected = match &*last {
                "metrics" => "\ndisk_usage_exporter_build_info{",
                "df" => "\nshop       csi-fs ",
                "/" => "listening",
                "-" => "DISK_USAGE_EXPORTER_ROOTFS",
                other => panic!("{document}: what does {other} print?"),
            };
            assert!(printed.contains(expected), "{document}: {block:?} prints {printed}");
            kinds.insert(last);
        }
    }
    assert_eq!(kinds, ["-", "/", "df", "metrics"].map(str::to_owned).into());
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(document: &str) -> BTreeSet<String> {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.replace(|c: char| !c.is_alphanumeric() && !" -_".contains(c), "").replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let target = Path::new(&document).parent().unwrap().join(path);
            let target = if path.is_empty() { Path::new(&document) } else { &target };
            assert!(root().join(target).exists(), "{document}: {link}");
            let is_there = section.is_empty() || anchors(target.to_str().unwrap()).contains(section);
            assert!(is_there, "{document}: {link}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
