use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use serde_json::{Value, json};

use crate::cli::{printed, stderr, stdout};
use crate::support::cluster::{Cluster, with};
use crate::support::document::{commands, read};
use crate::support::exporter::{command, run};
use crate::support::fixture::{Fixture, POD, answering};
use crate::support::kubelet::{Fault, Kubelet, SUMMARY};

const CSI: [&str; 3] = ["--fixture", "fixtures/nodes/csi", "df"];

fn csi(args: &[&str]) -> Output {
    run(&[&CSI, args].concat())
}

#[test]
fn documents_show_what_it_prints_and_every_column_and_key() {
    let table = printed(&CSI);
    for document in ["README.md", "docs/terminal.md"] {
        let is_shown =
            |command: &String| command.ends_with("disk-usage-exporter --fixture fixtures/nodes/csi df");
        assert!(commands(document).iter().any(is_shown), "{document}");
        assert!(read(document).contains(&format!("```text\n{table}```\n")), "{document}");
    }
    let document = read("docs/terminal.md");
    let error = stderr(&csi(&["-o", "none"]));
    let (_, columns) = error.lines().next().unwrap().split_once("a comma list of ").unwrap();
    assert_eq!(columns.split(", ").count(), 22);
    let volumes: Value = serde_json::from_str(&stdout(&csi(&["-o", "json"]))).unwrap();
    let volumes = volumes.as_array().unwrap().iter();
    let keys = volumes.flat_map(|volume| volume.as_object().unwrap().keys().map(String::as_str));
    for name in columns.split(", ").chain(keys).chain(["errors", "instance"]) {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn options_choose_columns_and_units() {
    assert_eq!(
        printed(&[&CSI[..], &["--bytes", "-o", "pv,size,used,requested,type,readonly,fstype"]].concat()),
        "\
VOLUME                 SIZE         USED  REQUESTED  TYPE                 READONLY  FSTYPE
local-1           190770176     52444160  209715200  local-volume         no        ext4
pvc-csi-fs     270553174016  20328435712   67108864  hostpath.csi.k8s.io  no        ext4
pvc-csi-block      67108864            -   67108864  hostpath.csi.k8s.io  -         devtmpfs
"
    );
    assert_eq!(
        printed(&[&CSI[..], &["-i"]].concat()),
        "\
NAMESPACE  CLAIM        INODES-USED%  INODES-USED    INODES  INODES-AVAILABLE  PODS         VOLUME
shop       csi-fs               3.1%       531417  16777216          16245799  web-0,web-1  pvc-csi-fs
shop       local-claim          0.0%           13     51200             51187  pg-0         local-1
shop       csi-block               -            -         -                 -  web-0        pvc-csi-block
"
    );
}

#[test]
fn exit_code_tells_whether_a_volume_is_over_the_threshold() {
    let cases: [(&[&str], i32, &str, &str); 4] = [
        (&["--over=25"], 3, "VOLUME\nlocal-1\n", ""),
        (&["--over", "29.8%"], 0, "", "no volumes to show\n"),
        (&["--over=3", "-i"], 3, "VOLUME\npvc-csi-fs\n", ""),
        (&["--over=0", "--namespace=none"], 0, "", "no volumes to show\n"),
    ];
    for (args, code, shown, notices) in cases {
        let output = csi(&[&["-o", "volume"], args].concat());
        assert_eq!((stdout(&output), stderr(&output)), (shown.into(), notices.into()), "{args:?}");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn failed_volumes_are_logged_and_counted_beside_those_over_the_threshold() {
    let mut well = answering();
    well["statvfs"]["read_only"] = json!(true);
    let fixture =
        Fixture::of(&[("well", well), ("stale", json!({"error": "ESTALE"})), ("hung", json!("hang"))]);
    let args = [&fixture.flag(), "--stat-timeout=100ms", "df", "-o=volume,used%,readonly,error", "--over=50"];
    let output = run(&args);
    let table = "VOLUME  USED%  READONLY  ERROR\nwell    66.6%  yes       -\n";
    assert_eq!((stdout(&output).as_str(), output.status.code()), (table, Some(3)));
    assert!(stderr(&output).contains("event=\"volume_failed\" pv_name=\"stale\""), "{output:?}");
    let notice = "2 volumes could not be measured and may be over the threshold\n";
    assert!(stderr(&output).contains(notice), "{output:?}");
}

#[test]
fn names_cannot_command_the_terminal() {
    let evil = "\x1b[2J\u{9b}1A\u{202e}\x07\x7f";
    let (mounted, failing) = (format!("evil{evil}"), format!("failing{evil}"));
    let fixture = Fixture::of(&[(&mounted, answering()), (&failing, json!({"error": "EIO"}))]);
    fixture.set_objects(&json!({"items": [
        {"kind": "Pod", "metadata": {"name": format!("pod{evil}"), "namespace": evil, "uid": POD}, "spec": {}},
        {"kind": "PersistentVolume", "metadata": {"name": mounted},
         "spec": {"storageClassName": evil, "claimRef": {"namespace": evil, "name": format!("claim{evil}")}}},
    ]}));
    let columns = "-o=namespace,claim,pods,volume,type,instance,storage-class,device,mountpoint,error";
    for output in [columns, "-o=json"] {
        let output = run(&[&fixture.flag(), "df", output]);
        let printed = stdout(&output) + &stderr(&output);
        let is_harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(printed.chars().all(is_harmless), "{printed:?}");
        assert!(stdout(&output).contains("claim") && stdout(&output).contains("pod"), "{printed}");
    }
}

#[test]
fn kubelet_and_cluster_are_waited_for() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Late(Duration::from_millis(500)), 1);
    assert_eq!(
        printed(&["--stat-timeout=10ms", &kubelet.endpoint(), "df"]),
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
fn only_a_terminal_that_allows_it_has_colours() {
    let fixture = Fixture::of(&[("failing", json!({"error": "EIO"}))]);
    let flag = fixture.flag();
    let args = [&flag, "--log-level=fatal", "df", "-o=volume,used%"];
    let plain = "VOLUME   USED%\nfailing     io\n";
    let coloured = "VOLUME   USED%\nfailing     \x1b[31mio\x1b[0m\n";
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("TERM", "xterm")], coloured),
        (&[("NO_COLOR", ""), ("TERM", "xterm")], coloured),
        (&[("NO_COLOR", "0"), ("TERM", "xterm")], plain),
        (&[("TERM", "dumb")], plain),
    ];
    for (env, expected) in cases {
        assert_eq!(on_terminal(env, &args, "io\x1b", 1), expected, "{env:?}");
    }
    assert_eq!(printed(&args), plain);
}

#[test]
fn watch_clears_a_terminal() {
    let args = [&CSI[..], &["-o=volume", "--watch=10ms", "--over=25"]].concat();
    let shown = on_terminal(&[], &args, "local-1", 3);
    assert!(shown.replace('\r', "").starts_with(&"\x1b[H\x1b[2JVOLUME\nlocal-1\n".repeat(2)), "{shown:?}");
}

#[test]
fn reader_that_has_read_enough_ends_it() {
    let watch = [&CSI[..], &["-o=volume", "--watch=10ms"]].concat();
    let tables: &[&str] = &["VOLUME", "local-1", "pvc-csi-fs", "pvc-csi-block", "VOLUME", "local-1"];
    for (args, expected) in [(&watch[..], tables), (&CSI, &[])] {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // What is no terminal is not cleared.
        let lines: Vec<String> = lines.take(expected.len()).map(Result::unwrap).collect();
        assert_eq!(lines, expected);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &stderr(&output)[..]), (Some(0), ""));
    }
}
