use std::process::Output;

use serde_json::{Value, json};

use crate::support::exporter::{Exporter, command, run};
use crate::support::exposition::Exposition;
use crate::support::fixture::{Fixture, answering, mountpoint};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(stdout(&output), concat!("disk-usage-exporter ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(output.status.success());
}

#[test]
fn metrics_prints_one_exposition() {
    let mut fixture = Fixture::new();
    fixture.mount("pv", answering());
    let output = run(&["metrics", &fixture.flag()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let figures = Exposition::parse(&stdout(&output));
    let volume = figures.volume("pv");
    assert_eq!(volume["pv_disk_usage_bytes_total"], 4_096_000.0);
    assert_eq!(volume["pv_disk_usage_bytes_used"], 2_457_600.0);
    assert_eq!(volume["pv_disk_usage_bytes_available"], 1_228_800.0);
    assert_eq!(volume["pv_disk_usage_inodes_used"], 30.0);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let fixture = Fixture::new();
    let mut child =
        command(&["metrics", &fixture.flag()]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn settings_come_from_the_environment_too() {
    let mut fixture = Fixture::new();
    fixture.mount("pv", answering());
    let output = command(&["metrics"]).env("DISK_USAGE_EXPORTER_FIXTURE", fixture.path()).output().unwrap();
    assert_eq!(Exposition::parse(&stdout(&output)).label("pv_disk_usage_up", "pv_name"), ["pv"]);
    let output = command(&["metrics"]).env("DISK_USAGE_EXPORTER_LISTEN_PORT", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'many' for '--listen-port"), "{}", stderr(&output));
}

#[test]
fn a_bad_setting_ends_the_program_with_2_and_says_what_to_do() {
    let fixture = Fixture::new();
    let directory = fixture.path();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let no_json = file("no.json", "NAME  CAPACITY\npv 1Gi");
    let no_objects = file("none.json", r#"{"kind":"ConfigMap"}"#);
    let cut = file("cut.json", r#"{"kind":"List","items":["#);
    let missing = directory.join("missing").to_str().unwrap().to_owned();
    std::fs::write(directory.join("statvfs.json"), "{").unwrap();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--unknown"], &["--unknown"]),
        (&["--volume-regex=(?P<pod_uid>x)"], &["--volume-regex", "(?P<pod_uid>x)", "(?P<name>"]),
        (&["--objects", &no_json], &["--objects", "no.json is not JSON", "kubectl get pv,pvc,pods"]),
        (&["--objects", &no_objects], &["--objects", "none.json has no PersistentVolume", "kubectl get"]),
        (&["--objects", &cut], &["--objects", "cut.json is not JSON"]),
        (&["--objects", &missing], &["--objects", "missing", "No such file"]),
        (&["--mount-table", &missing], &["missing", "No such file", "give --mount-table"]),
        (&["--rootfs", &missing], &["--rootfs", "missing", "give the directory"]),
        (&["--fixture", directory.to_str().unwrap()], &["--fixture", "statvfs.json", "give a directory"]),
    ];
    for (args, parts) in cases {
        for command in [&[][..], &["metrics"]] {
            let output = run(&[args, command].concat());
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn an_object_that_does_not_parse_is_named_and_costs_itself() {
    let mut fixture = Fixture::new();
    fixture.mount("pv", answering());
    fixture.set_objects(&json!({"items": [
        {"kind": "PersistentVolume", "metadata": {"name": "broken", "namespace": null}, "spec": "text"},
        {"kind": "PersistentVolume", "metadata": {"name": "pv", "labels": {"tier": "gold"}}, "spec": {}},
    ]}));
    let output = run(&["metrics", &fixture.flag()]);
    assert!(output.status.success());
    assert_eq!(Exposition::parse(&stdout(&output)).label("pv_disk_usage_up", "pv_tier"), ["gold"]);
    let lines = stderr(&output);
    let warning = lines.lines().find(|line| line.contains("does not parse")).unwrap();
    let warning: Value = serde_json::from_str(warning).unwrap();
    assert_eq!(warning["level"], "WARN");
    assert_eq!((&warning["kind"], &warning["name"]), (&"PersistentVolume".into(), &"broken".into()));
}

#[test]
fn chosen_labels_alone_become_metric_labels() {
    let mut fixture = Fixture::new();
    fixture.mount("pv", answering());
    fixture.set_objects(&json!({"items": [
        {"kind": "PersistentVolume", "metadata": {"name": "pv", "labels": {"tier": "gold", "zone": "a"}},
         "spec": {"claimRef": {"namespace": "n", "name": "c"}}},
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n",
         "labels": {"app": "web", "app.kubernetes.io/name": "x"}}, "spec": {}},
    ]}));
    let labels = |args: &[&str]| {
        let output = run(&[args, &["metrics", &fixture.flag()]].concat());
        let exposition = Exposition::parse(&stdout(&output));
        let names = exposition.all("pv_disk_usage_up", &[])[0].0.iter().map(|(name, _)| name.clone());
        names.collect::<Vec<_>>().join(" ")
    };
    let fixed = "volume_name volume_label_source";
    assert_eq!(
        labels(&[]),
        format!(
            "pv_name pv_tier pv_zone pvc_name pvc_namespace pvc_app pvc_app_kubernetes_io_name {fixed} volume_app volume_app_kubernetes_io_name"
        )
    );
    assert_eq!(
        labels(&["--pv-labels=zone", "--pvc-labels=app.*"]),
        format!(
            "pv_name pv_zone pvc_name pvc_namespace pvc_app_kubernetes_io_name {fixed} volume_app_kubernetes_io_name"
        )
    );
    assert_eq!(labels(&["--pv-labels=", "--pvc-labels="]), format!("pv_name pvc_name pvc_namespace {fixed}"));
}

#[test]
fn a_regex_chooses_the_volumes() {
    let mut fixture = Fixture::new();
    fixture.mount("a", answering());
    fixture.mount("b", answering());
    let regex = r"--volume-regex=/pods/(?P<pod_uid>[^/]+)/volumes/(?P<plugin>[^/]+)/(?P<name>a)$";
    let output = run(&["metrics", &fixture.flag(), regex]);
    let exposition = Exposition::parse(&stdout(&output));
    assert_eq!(exposition.label("pv_disk_usage_up", "pv_name"), ["a"]);
    assert_eq!(exposition.label("pv_disk_usage_mount_info", "mountpoint"), [mountpoint("a")]);
    let elsewhere = run(&["metrics", &fixture.flag(), "--kubelet-root=/elsewhere"]);
    assert!(Exposition::parse(&stdout(&elsewhere)).all("pv_disk_usage_up", &[]).is_empty());
}

#[test]
fn the_log_is_json_unless_it_is_for_people() {
    let fixture = Fixture::new();
    let json = stderr(&run(&["metrics", &fixture.flag()]));
    assert!(!json.is_empty());
    for line in json.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string());
        assert!(line["event"].is_string(), "{line}");
    }
    let human = stderr(&run(&["metrics", "--log-human", &fixture.flag()]));
    assert!(human.contains("INFO watching the mount table"), "{human}");
    assert!(serde_json::from_str::<Value>(human.lines().next().unwrap()).is_err());
    assert_eq!(stderr(&run(&["metrics", "--log-level=Fatal", &fixture.flag()])), "");
}

#[test]
fn a_fixture_says_that_it_is_one() {
    let fixture = Fixture::new();
    let exporter = Exporter::start(&[&fixture.flag()]);
    exporter.wait_for_log("fixture_mode");
    assert!(exporter.get("/").text().contains("not this machine's volumes"));
}

#[test]
fn a_log_that_nobody_takes_ends_nothing() {
    let fixture = Fixture::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["metrics", &fixture.flag()]).stderr(full()).output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let status = command(&["--kubelet-root=relative"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    let status = command(&["metrics", &fixture.flag()]).stdout(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let fixture = Fixture::new();
    let pipe = fixture.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for flag in ["--objects", "--mount-table"] {
        let output = run(&["metrics", flag, pipe.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(stderr(&output).contains("not a file"), "{flag}: {}", stderr(&output));
    }
}
