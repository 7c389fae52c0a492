use std::fs::File;
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::exporter::{Exporter, command, run};
use crate::support::exposition::Exposition;
use crate::support::fixture::{Fixture, answering};
use crate::support::kubelet::Kubelet;
use crate::support::tool::{is_there, pipe};

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command prints that succeeds and logs nothing.
pub(crate) fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!((output.status.code(), &stderr(&output)[..]), (Some(0), ""), "{args:?}");
    stdout(&output)
}

#[test]
fn version_is_that_of_the_package_and_settings_come_from_the_environment_too() {
    assert_eq!(printed(&["--version"]), concat!("disk-usage-exporter ", env!("CARGO_PKG_VERSION"), "\n"));
    let fixture = Fixture::of(&[("pv", answering())]);
    let output = command(&["metrics"]).env("DISK_USAGE_EXPORTER_FIXTURE", fixture.path()).output().unwrap();
    assert_eq!(Exposition::parse(&stdout(&output)).label("pv_disk_usage_up", "pv_name"), ["pv"]);
    let output = command(&["metrics"]).env("DISK_USAGE_EXPORTER_LISTEN_PORT", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'many' for '--listen-port"), "{}", stderr(&output));
}

#[test]
fn bad_setting_ends_the_program_with_2_and_says_what_to_do() {
    let fixture = Fixture::new();
    let directory = fixture.path();
    let file = |name: &str, text: &str| {
        std::fs::write(directory.join(name), text).unwrap();
        directory.join(name).to_str().unwrap().to_owned()
    };
    let no_objects = file("none.json", r#"{"kind":"ConfigMap"}"#);
    let cut = file("cut.json", r#"{"kind":"List","items":["#);
    file("statvfs.json", "{");
    let missing = directory.join("missing").to_str().unwrap().to_owned();
    // Not waited for, either.
    nix::unistd::mkfifo(&directory.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = directory.join("pipe").to_str().unwrap().to_owned();
    let block = |text| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let certificates =
        [("empty.crt", String::new()), ("broken.crt", block("!")), ("other.crt", block("AAAA"))];
    let [empty, broken, other] = certificates.map(|(name, text)| file(name, &text));
    let endpoint = &*Kubelet::start().endpoint();
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--unknown"], &["--unknown"]),
        (&[endpoint, "--kubelet-ca-file", &missing], &["--kubelet-ca-file", "No such file", "as PEM"]),
        (&[endpoint, "--kubelet-ca-file", &empty], &[&empty, "no certificate in it", "as PEM"]),
        (&[endpoint, "--kubelet-ca-file", &broken], &["--kubelet-ca-file", &broken, "as PEM"]),
        (&[endpoint, "--kubelet-ca-file", &other], &["no certificate in it that can be used", "as PEM"]),
        (&["--objects", &no_objects], &["--objects", "none.json has no PersistentVolume", "kubectl get"]),
        (&["--objects", &cut], &["--objects", "cut.json is not JSON", "kubectl get pv,pvc,pods"]),
        (&["--objects", &missing], &["--objects", "missing", "No such file"]),
        (&["--objects", &pipe], &["not a file"]),
        (&["--mount-table", &missing], &["missing", "No such file", "give --mount-table"]),
        (&["--mount-table", &pipe], &["not a file"]),
        (&["--fixture", directory.to_str().unwrap()], &["--fixture", "statvfs.json", "give a directory"]),
    ];
    for (args, parts) in cases {
        for command in [&[][..], &["metrics"]] {
            let output = run(&[args, command].concat());
            let error = stderr(&output);
            assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]), "{args:?}: {error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
        }
    }
}

#[test]
fn chosen_labels_become_metric_labels_and_a_broken_object_is_logged() {
    let fixture = Fixture::of(&[("pv", answering())]);
    fixture.set_objects(&json!({"items": [
        {"kind": "PersistentVolume", "metadata": {"name": "broken", "namespace": null}, "spec": "text"},
        {"kind": "PersistentVolume", "metadata": {"name": "pv", "labels": {"tier": "gold", "zone": "a"}},
         "spec": {"claimRef": {"namespace": "n", "name": "c"}}},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n",
         "labels": {"app": "web", "app.kubernetes.io/name": "x"}}, "spec": {}},
    ]}));
    let cases: [(&[&str], [&str; 3]); 3] = [
        (
            &[],
            [
                " pv_tier pv_zone",
                " pvc_app pvc_app_kubernetes_io_name",
                " volume_app volume_app_kubernetes_io_name",
            ],
        ),
        (
            &["--pv-labels=zone", "--pvc-labels=app.*"],
            [" pv_zone", " pvc_app_kubernetes_io_name", " volume_app_kubernetes_io_name"],
        ),
        (&["--pv-labels=", "--pvc-labels="], [""; 3]),
    ];
    for (args, [pv, pvc, volume]) in cases {
        let output = run(&[&["metrics", "--log-level=info", &fixture.flag()], args].concat());
        let exposition = Exposition::parse(&stdout(&output));
        let labels = exposition.all("pv_disk_usage_up", &[])[0].0.iter().map(|(name, _)| name.as_str());
        let expected =
            format!("pv_name{pv} pvc_name pvc_namespace{pvc} volume_name volume_label_source{volume}");
        assert_eq!(labels.collect::<Vec<_>>().join(" "), expected, "{args:?}");
        let log = stderr(&output);
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let warnings = lines.iter().filter(|line| line["level"] == "WARN");
        let objects: Vec<_> = warnings.map(|line| (&line["kind"], &line["name"])).collect();
        assert_eq!(objects, [(&json!("PersistentVolume"), &json!("broken"))]);
        for line in &lines {
            let keys = ["timestamp", "level", "message", "event"];
            assert!(keys.iter().all(|key| line[key].is_string()), "{line}");
        }
    }
}

#[test]
fn log_can_be_text_or_off() {
    let fixture = Fixture::new();
    let flag = fixture.flag();
    assert_eq!(
        stderr(&run(&["metrics", &flag])),
        "",
        "nothing but warnings, which a terminal would mix with the output"
    );
    let text = stderr(&run(&["metrics", "--log-human", "--log-level=info", &flag]));
    assert!(text.contains("INFO watching the mount table"), "{text}");
    assert!(serde_json::from_str::<Value>(text.lines().next().unwrap()).is_err());
    assert_eq!(stderr(&run(&["metrics", "--log-level=Fatal", &flag])), "");
}

#[test]
fn output_that_cannot_be_written_fails_only_where_it_is_asked_for() {
    let fixture = Fixture::new();
    let flag = fixture.flag();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let metrics = || command(&["metrics", "--log-level=fatal", &flag]);
    let cases = [
        (command(&["metrics", "--log-level=info", &flag]).stderr(full()).stdout(Stdio::null()).status(), 0),
        (command(&["--kubelet-root=relative"]).stderr(full()).status(), 2),
        (metrics().stdout(full()).status(), 1),
        // A reader that has read enough is no error.
        (metrics().stdout(closed()).status(), 0),
    ];
    for (number, (status, expected)) in cases.into_iter().enumerate() {
        assert_eq!(status.unwrap().code(), Some(expected), "case {number}");
    }
}

/// Volumes that fail: as many as are named in the log at one time.
const FAILING: usize = 20;
/// In so many rounds, of which each logs 20 KB, volumes fail and recover: more than fits into a pipe, 64 KiB.
const ROUNDS: usize = 8;

#[test]
fn log_that_nobody_reads_delays_neither_scrapes_nor_the_end() {
    let names: Vec<String> = (0..FAILING).map(|i| format!("pv-{i}-{}", "x".repeat(200))).collect();
    let volumes: Vec<_> = names.iter().map(|name| (&name[..], json!({"error": "EIO"}))).collect();
    let fixture = Fixture::of(&volumes);
    let table = fixture.path().join("mountinfo");
    let rows = std::fs::read(&table).unwrap();
    let exporter = Exporter::start(&[&fixture.flag()]);
    let fail_and_recover = || {
        for (rows, failing) in [(&[][..], 0), (&rows, FAILING)] {
            std::fs::write(&table, rows).unwrap();
            assert_eq!(exporter.scrape_within(5.0).all("pv_disk_usage_error", &[]).len(), failing);
        }
    };
    // From here on no scrape shares the collection made at start.
    exporter.scrape();
    exporter.read_log(false);
    for _ in 0..ROUNDS {
        fail_and_recover();
        assert_eq!(exporter.get("/readyz").status, 200);
    }
    exporter.signal(Signal::SIGTERM);
    assert_eq!(exporter.wait().code(), Some(0));
}

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
