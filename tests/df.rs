use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::pty::openpty;
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::cluster::{Cluster, with};
use crate::support::document::{commands, read};
use crate::support::exporter::{command, run};
use crate::support::fixture::{Fixture, POD, answering};
use crate::support::kubelet::{Fault, Kubelet, SUMMARY};
use crate::support::namespace::{Needs, PODS, bind, in_namespace, remount_read_only, unmount};

const CSI: [&str; 3] = ["--fixture", "fixtures/nodes/csi", "df"];

fn csi(args: &[&str]) -> Output {
    run(&[&CSI, args].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What it prints, if it says nothing besides.
fn printed(output: &Output) -> String {
    assert_eq!((output.status.code(), stderr(output)), (Some(0), String::new()));
    stdout(output)
}

#[test]
fn it_prints_what_the_documents_show() {
    let table = printed(&csi(&[]));
    for document in ["README.md", "docs/terminal.md"] {
        let is_shown =
            |command: &String| command.ends_with("disk-usage-exporter --fixture fixtures/nodes/csi df");
        assert!(commands(document).iter().any(is_shown), "{document}");
        assert!(read(document).contains(&format!("```text\n{table}```\n")), "{document}");
    }
}

#[test]
fn the_document_knows_every_column_and_key() {
    let document = read("docs/terminal.md");
    let error = stderr(&csi(&["-o", "none"]));
    let (_, columns) = error.lines().next().unwrap().split_once("a comma list of ").unwrap();
    assert_eq!(columns.split(", ").count(), 22);
    let objects: Vec<Value> = serde_json::from_str(&printed(&csi(&["-o", "json"]))).unwrap();
    let keys = objects.iter().flat_map(|object| object.as_object().unwrap().keys().map(String::as_str));
    for name in columns.split(", ").chain(keys).chain(["errors", "instance"]) {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn what_is_asked_for_is_shown() {
    assert_eq!(
        printed(&csi(&["--bytes", "-o", "pv,size,used,requested,type,readonly,fstype"])),
        "\
VOLUME                 SIZE         USED  REQUESTED  TYPE                 READONLY  FSTYPE
local-1           190770176     52444160  209715200  local-volume         no        ext4
pvc-csi-fs     270553174016  20328435712   67108864  hostpath.csi.k8s.io  no        ext4
pvc-csi-block      67108864            -   67108864  hostpath.csi.k8s.io  -         devtmpfs
"
    );
    assert_eq!(
        printed(&csi(&["-i"])),
        "\
NAMESPACE  CLAIM        INODES-USED%  INODES-USED    INODES  INODES-AVAILABLE  PODS         VOLUME
shop       csi-fs               3.1%       531417  16777216          16245799  web-0,web-1  pvc-csi-fs
shop       local-claim          0.0%           13     51200             51187  pg-0         local-1
shop       csi-block               -            -         -                 -  web-0        pvc-csi-block
"
    );
}

#[test]
fn scripts_learn_from_the_exit_code_whether_a_volume_is_over() {
    let over = |args: &[&str]| {
        let output = csi(&[&["-o", "volume"], args].concat());
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    };
    let nothing = (0, String::new(), "no volumes to show\n".to_owned());
    assert_eq!(over(&["--over=25"]), (3, "VOLUME\nlocal-1\n".into(), String::new()));
    assert_eq!(over(&["--over", "29.8%"]), nothing);
    assert_eq!(over(&["--over=3", "-i"]), (3, "VOLUME\npvc-csi-fs\n".into(), String::new()));
    assert_eq!(over(&["--over=0", "--namespace=none"]), nothing);
    assert_eq!(stdout(&csi(&["-o=json", "--over=90"])), "[]\n");
}

#[test]
fn what_failed_is_on_top_with_its_reason() {
    let mut fixture = Fixture::new();
    fixture.mount("well", answering());
    fixture.mount("stale", json!({"error": "ESTALE"}));
    fixture.mount("hung", json!("hang"));
    let args = [&fixture.flag(), "--stat-timeout=100ms", "df", "-o=volume,used%,size,error"];
    let output = run(&args);
    assert_eq!(
        stdout(&output),
        "\
VOLUME    USED%   SIZE  ERROR
hung    timeout      -  timeout
stale     stale      -  stale
well      66.6%  3.9Mi  -
"
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("WARN a mount of the volume cannot be measured"), "{output:?}");
    let over = run(&[&args[..], &["--over=50"]].concat());
    assert_eq!(over.status.code(), Some(3));
    assert!(
        stderr(&over).contains("2 volumes could not be measured and may be over the threshold\n"),
        "{over:?}"
    );
}

#[test]
fn no_name_commands_the_terminal() {
    let mut fixture = Fixture::new();
    let evil = "\x1b[2J\u{9b}1A\u{202e}\x07\x7f";
    fixture.mount(&format!("evil{evil}"), answering());
    fixture.mount(&format!("failing{evil}"), json!({"error": "EIO"}));
    fixture.set_objects(&json!({"items": [
        {"kind": "Pod", "metadata": {"name": format!("pod{evil}"), "namespace": evil, "uid": POD}, "spec": {}},
        {"kind": "PersistentVolume", "metadata": {"name": format!("evil{evil}")},
         "spec": {"storageClassName": evil, "claimRef": {"namespace": evil, "name": format!("claim{evil}")}}},
    ]}));
    let columns = "-o=namespace,claim,pods,volume,type,instance,storage-class,device,mountpoint,error";
    for output in [columns, "-o=json"] {
        let output = run(&[&fixture.flag(), "df", output]);
        let said = stdout(&output) + &stderr(&output);
        let is_harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(said.chars().all(is_harmless), "{said:?}");
        assert!(stdout(&output).contains("claim") && stdout(&output).contains("pod"), "{said}");
    }
}

#[test]
fn real_mounts_are_shown_as_they_are() {
    in_namespace(Needs::Mounts, |node| {
        let half = node.tmpfs_volume("half", "size=8m,nr_inodes=20");
        std::fs::write(half.join("file"), vec![1; 4 << 20]).unwrap();
        let empty = node.tmpfs_volume("empty", "size=1m,nr_inodes=10");
        remount_read_only(&empty);
        std::fs::create_dir(half.join("part")).unwrap();
        bind(&half.join("part"), &node.volume(PODS[1], "local-volume", "part"));
        let args = ["--rootfs=/", "df", "-o=volume,used%,used,size,available,inodes-used,readonly,fstype"];
        assert_eq!(
            printed(&run(&args)),
            "\
VOLUME  USED%   USED   SIZE  AVAILABLE  INODES-USED  READONLY  FSTYPE
half    50.0%  4.0Mi  8.0Mi      4.0Mi            3  no        tmpfs
part    50.0%  4.0Mi  8.0Mi      4.0Mi            3  no        tmpfs
empty    0.0%      0  1.0Mi      1.0Mi            1  yes       tmpfs
"
        );
        unmount(&empty);
        assert!(!printed(&run(&args)).contains("empty"));
    });
}

#[test]
fn claims_of_the_kubelet_are_waited_for() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Late(Duration::from_millis(500)), 1);
    let output = run(&["--stat-timeout=10ms", &kubelet.endpoint(), "df"]);
    assert_eq!(
        printed(&output),
        "\
NAMESPACE  CLAIM        USED%  USED   SIZE  AVAILABLE  PODS         VOLUME
shop       local-claim  29.7%  50Mi  182Mi      118Mi  pg-0         -
shop       csi-fs       20.8%  19Gi  252Gi       72Gi  web-0,web-1  -
shop       csi-block     0.0%     0   12Gi       12Gi  web-0        -
"
    );
    let output = run(&["--kubelet-endpoint=http://127.0.0.1:1", "df"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("error: no source of figures has answered"), "{output:?}");
}

#[test]
fn claims_of_the_cluster_are_waited_for() {
    let cluster = Cluster::of(&["pv-1"]);
    let output = run(&with(&cluster.args(), &["df", "-o=claim,volume"]));
    assert_eq!(stdout(&output), "CLAIM       VOLUME\npv-1-claim  pv-1\n");
}

/// What it writes to a terminal until that shows a text so often, or until it ends.
fn on_terminal(env: &[(&str, &str)], args: &[&str], text: &str, times: usize) -> String {
    let terminal = openpty(None, None).unwrap();
    let mut child =
        command(args).envs(env.iter().copied()).stdout(Stdio::from(terminal.slave)).spawn().unwrap();
    let mut screen = File::from(terminal.master);
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    // When the last writer is gone, reading fails.
    while shown.matches(text).count() < times
        && shown.len() < 1 << 16
        && let Ok(count) = screen.read(&mut buffer)
    {
        shown += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    let _ = child.kill();
    child.wait().unwrap();
    shown.replace("\r\n", "\n")
}

#[test]
fn only_a_terminal_has_colours_and_only_if_it_may() {
    let mut fixture = Fixture::new();
    fixture.mount("failing", json!({"error": "EIO"}));
    let flag = fixture.flag();
    let args = [&flag, "--log-level=fatal", "df", "-o=volume,used%"];
    let plain = "VOLUME   USED%\nfailing     io\n";
    let shown = |env: &[(&str, &str)]| on_terminal(env, &args, "io\x1b", 1);
    assert_eq!(shown(&[("TERM", "xterm")]), "VOLUME   USED%\nfailing     \x1b[31mio\x1b[0m\n");
    assert_eq!(shown(&[("NO_COLOR", ""), ("TERM", "xterm")]), shown(&[("TERM", "xterm")]));
    assert_eq!(shown(&[("NO_COLOR", "0"), ("TERM", "xterm")]), plain);
    assert_eq!(shown(&[("TERM", "dumb")]), plain);
    assert_eq!(stdout(&run(&args)), plain);
}

#[test]
fn a_terminal_that_watches_is_cleared() {
    let args = [&CSI[..], &["-o=volume", "--watch=10ms", "--over=25"]].concat();
    let shown = on_terminal(&[], &args, "local-1", 3);
    assert!(shown.replace('\r', "").starts_with(&"\x1b[H\x1b[2JVOLUME\nlocal-1\n".repeat(2)), "{shown:?}");
}

/// What it says, if it ends.
fn ended(child: Child) -> Output {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    receiver.recv_timeout(PATIENCE).expect("it does not end")
}

#[test]
fn a_reader_that_has_read_enough_ends_it() {
    let args = [&CSI[..], &["-o=volume", "--watch=10ms"]].concat();
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(6).map(Result::unwrap).collect();
    assert_eq!(lines[..2], ["VOLUME", "local-1"]);
    assert_eq!(lines[4..], ["VOLUME", "local-1"], "what is no terminal is not cleared");
    let output = ended(child);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let mut child = command(&CSI).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = ended(child);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
