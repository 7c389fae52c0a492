use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::http;
use crate::support::kubelet::{
    Certificate, ERRORS, Fault, Kubelet, SUMMARY, claims, recorded_summary, summary,
};
use crate::support::skip;

const RECORDED: &str = include_str!("../fixtures/kubelet/volume-stats.prom");
const RECORDED_CLAIMS: [&str; 3] = ["csi-block", "csi-fs", "local-claim"];
const LAST: &str = "kubelet_volume_stats_last_scrape_timestamp_seconds";
const STALE: &str = "disk_usage_exporter_stale_kubelet_volumes";
const SUCCESS: &str = "disk_usage_exporter_source_success";

/// The series of volumes: name and labels, to value.
fn volume_stats(exposition: &Exposition) -> BTreeMap<String, f64> {
    let samples = exposition.samples.iter().filter(|(name, ..)| is_volume_stat(name));
    samples.map(|(name, labels, value)| (format!("{name}{labels:?}"), *value)).collect()
}

fn is_volume_stat(text: &str) -> bool {
    text.contains("kubelet_volume_stats_") && !text.contains("scrape")
}

fn start(kubelet: &Kubelet, args: &[&str]) -> Exporter {
    Exporter::start(&[&[kubelet.endpoint().as_str()], args].concat())
}

fn assert_ready(exporter: &Exporter, status: u16, text: &str) {
    let response = exporter.get("/ready");
    assert_eq!((response.status, response.text().as_str()), (status, text));
}

#[test]
fn kubelet_source_exposes_what_the_kubelet_exposes_and_reads_nothing_else() {
    let partial = include_str!("../fixtures/kubelet/partial-summary.json");
    let cases = [
        ("kubelet", recorded_summary(&[]), RECORDED),
        ("pod", recorded_summary(&[]), include_str!("../fixtures/kubelet/volume-stats-by-pod.prom")),
        ("kubelet", summary(partial), include_str!("../fixtures/kubelet/partial-volume-stats.prom")),
    ];
    for (labels, summary, golden) in cases {
        let kubelet = Kubelet::start();
        kubelet.set_summary(&summary);
        let labels = format!("--kubelet-volume-stats-labels={labels}");
        let exporter = start(&kubelet, &["--kubernetes=auto", "--node-name=node-7", &labels]);
        let text = exporter.get("/metrics").text();
        let scrape = Exposition::parse(&text);
        assert_eq!(volume_stats(&scrape), volume_stats(&Exposition::parse(golden)));
        let page = exporter.get("/").text();
        assert!(page.contains("Volumes of node-7") && page.contains("as the kubelet reports it"), "{page}");
        for claim in claims(&scrape) {
            assert!(page.contains(&format!("</span>{claim}</bdi>")), "{claim}: {page}");
        }
        let heads = |text: &str| {
            let lines = text.lines().filter(|line| line.starts_with('#') && is_volume_stat(line));
            let mut heads: Vec<_> = lines.map(|line| line.replace("[ALPHA] ", "")).collect();
            heads.sort();
            heads
        };
        assert_eq!(heads(&text), heads(golden));
        assert_eq!(scrape.label(SUCCESS, "source"), ["kubelet"]);
        let is_about_mounts =
            |name: &&String| name.contains("mount") || name.contains("disk_usage_exporter_volumes");
        assert_eq!(scrape.families.iter().filter(is_about_mounts).collect::<Vec<_>>(), [""; 0]);
        // The old volumes without a claim do not count.
        assert_eq!(scrape.value(STALE, &[]), Some(0.0));
        assert!(kubelet.requests().iter().all(|(path, _)| path == SUMMARY));
    }
}

#[test]
fn scrapes_share_a_request_and_its_answer_in_which_volumes_grow_stale() {
    let kubelet = Kubelet::start();
    let measured_ago = |seconds| Timestamp::now() - Duration::from_secs(seconds);
    let old = [("aging", measured_ago(598), json!(1)), ("old", measured_ago(610), json!(1))];
    kubelet.set_summary(&recorded_summary(&old));
    // How old figures may be is a setting.
    let output = run(&["metrics", &kubelet.endpoint(), "--kubelet-max-age=1h"]);
    let scrape = Exposition::parse(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((claims(&scrape).len(), scrape.value(STALE, &[])), (5, Some(0.0)));
    kubelet.fault(SUMMARY, Fault::Late(Duration::from_millis(300)), 1);
    let exporter = start(&kubelet, &["--scrape-interval=1h"]);
    std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..8).map(|_| scope.spawn(|| exporter.scrape())).collect();
        for scrape in scrapes {
            assert_eq!(claims(&scrape.join().unwrap())[..2], ["aging", "csi-block"]);
        }
    });
    kubelet.set_summary(&json!({"pods": []}));
    let later = exporter.scrape_until("ten minutes", |scrape| scrape.value(STALE, &[]) == Some(2.0));
    assert_eq!((claims(&later).as_slice(), kubelet.count(SUMMARY)), (&RECORDED_CLAIMS[..], 2));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - later.value(LAST, &[]).unwrap()).abs() < 60.0);
    assert_eq!(exporter.scrape().value(LAST, &[]), later.value(LAST, &[]));
}

#[test]
fn exporter_is_ready_once_the_kubelet_has_answered_and_shows_later_failures() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Raw(String::new()), usize::MAX);
    let exporter = start(&kubelet, &["--scrape-interval=1ns"]);
    kubelet.wait_for(SUMMARY, 1);
    assert_ready(&exporter, 503, "no source of figures has answered yet; the log tells why\n");
    assert_eq!(exporter.get("/health").status, 200);
    let status = |scrape: &Exposition| {
        let errors = scrape.value(ERRORS, &[]).unwrap();
        (claims(scrape).len(), scrape.value(SUCCESS, &[("source", "kubelet")]), errors)
    };
    let unanswered = exporter.scrape();
    let (_, _, errors) = status(&unanswered);
    assert!(errors >= 1.0 && status(&unanswered) == (0, Some(0.0), errors), "{:?}", status(&unanswered));
    assert_eq!(unanswered.value(LAST, &[]), None);
    // Without another scrape.
    kubelet.clear_faults();
    exporter.wait_until_ready();
    exporter.wait_for_log("kubelet_recovered");
    let before = exporter.scrape();
    let (_, _, errors) = status(&before);
    assert!(errors >= 1.0 && status(&before) == (3, Some(1.0), errors), "{:?}", status(&before));
    kubelet.fault(SUMMARY, Fault::Raw(String::new()), usize::MAX);
    let failed = exporter.scrape();
    // The last answer has expired: three intervals are over.
    assert_eq!(status(&failed), (0, Some(0.0), errors + 1.0));
    assert_eq!(failed.value(LAST, &[]), before.value(LAST, &[]));
    assert_eq!(failed.value(STALE, &[]), None);
    assert_eq!(failed.value("disk_usage_exporter_panics_total", &[]), Some(0.0));
    assert_ready(&exporter, 200, "ok\n");
    // An entry that cannot be parsed is an error, and loses only itself.
    kubelet.set_summary(&recorded_summary(&[("bad", Timestamp::now(), json!("much"))]));
    kubelet.clear_faults();
    exporter.scrape_until("an entry", |scrape| status(scrape) == (3, Some(1.0), errors + 2.0));
    exporter.wait_for_log("kubelet_entries_skipped");
}

#[test]
fn kubelets_own_certificate_is_found_in_its_configured_directory_alone() {
    let table = "--mount-table=DIR/mountinfo";
    // Users of a node can add a row to its table that looks like a kubelet's: they must not choose whom to trust.
    let cases: [(_, &[&str], _); 3] = [
        ("var/lib/kubelet", &[], 3),
        ("k", &["--kubelet-root=/k"], 3),
        ("opt/k", &[table, "--sources=mounts,kubelet"], 0),
    ];
    for (kubelet_root, args, trusted) in cases {
        let kubelet = Kubelet::start_with(Certificate::OwnMade);
        let directory = kubelet.directory().display().to_string();
        kubelet.write(&format!("rootfs/{kubelet_root}/pki/kubelet.crt"), &kubelet.pki.kubelet_crt());
        let pod = "pods/00000000-0000-0000-0000-000000000000/volumes/kubernetes.io~nfs/pv";
        let row = format!("36 1 8:1 / {directory}/rootfs/{kubelet_root}/{pod} rw - nfs s:/e rw\n");
        kubelet.write("mountinfo", &row);
        let args: Vec<_> = args.iter().map(|arg| arg.replace("DIR", &directory)).collect();
        let fixed = [kubelet.endpoint(), format!("--rootfs={directory}/rootfs"), "--node-name=node-1".into()];
        let args = [&fixed[..], &args].concat();
        let scrape = Exporter::start(&args.iter().map(String::as_str).collect::<Vec<_>>()).scrape();
        assert_eq!(claims(&scrape).len(), trusted, "{kubelet_root}");
        assert_eq!(scrape.value(ERRORS, &[]) == Some(0.0), trusted > 0, "{kubelet_root}");
    }
}

#[test]
fn token_is_read_at_each_request_and_sent_over_tls_only() {
    let kubelet = Kubelet::start_with(Certificate::ClusterSigned);
    let token = kubelet.write("token", "first\n");
    let ca = kubelet.write("ca.crt", &kubelet.pki.cluster());
    let flags = [("token-path", &token), ("kubelet-ca-file", &ca)];
    let [token_path, ca] = flags.map(|(flag, path)| format!("--{flag}={}", path.display()));
    let exporter = start(&kubelet, &[&token_path, &ca, "--scrape-interval=1ns"]);
    let authorization = || {
        assert_eq!(claims(&exporter.scrape()), RECORDED_CLAIMS);
        kubelet.requests().pop().unwrap().1
    };
    assert_eq!(authorization().as_deref(), Some("Bearer first"));
    kubelet.write("token", "second");
    assert_eq!(authorization().as_deref(), Some("Bearer second"));
    // Without a token the requests go on: a kubelet may allow them.
    std::fs::remove_file(&token).unwrap();
    assert_eq!([authorization(), authorization()], [None, None]);
    exporter.wait_for_log("kubelet_token_missing");
    kubelet.write("token", "second");
    assert_eq!(authorization().as_deref(), Some("Bearer second"));
    exporter.wait_for_log("kubelet_token_found");
    assert_eq!(exporter.logged("kubelet_token_missing").len(), 1);
    // Bytes that no header can hold are not sent.
    kubelet.write("token", "a\u{7f}b");
    let requests = kubelet.requests();
    assert_eq!(claims(&exporter.scrape()), [""; 0]);
    let line = exporter.wait_for_log("kubelet_request_failed");
    assert!(line["error"].as_str().unwrap().contains("is none"), "{line}");
    assert_eq!(kubelet.requests(), requests);
    // In clear text it is not sent, so an impostor would not receive it.
    let plain = Kubelet::start();
    kubelet.write("token", "second");
    let exporter = start(&plain, &[&token_path, "--insecure-skip-tls-verify"]);
    assert_eq!(claims(&exporter.scrape()), RECORDED_CLAIMS);
    assert_eq!(plain.requests(), [(SUMMARY.to_owned(), None)]);
    assert!(exporter.logged("kubelet_tls_unverified").is_empty());
}

/// As in a restricted pod, with the arguments of the Go exporter's chart except for the port.
#[test]
fn unprivileged_user_reads_the_kubelet_with_the_go_exporters_arguments() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can start a program as another user");
    }
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    let token = format!("--token-path={}", kubelet.write("token", "token").display());
    let endpoint = kubelet.endpoint();
    let args =
        [&endpoint, "--scrape-interval=1m30s", &token, "--insecure-skip-tls-verify=true", "--debug=true"];
    let exporter = Exporter::start_restricted(kubelet.directory(), &args);
    assert_eq!(claims(&exporter.scrape()), RECORDED_CLAIMS);
    assert_eq!(kubelet.requests()[0].1.as_deref(), Some("Bearer token"));
    assert_eq!(exporter.wait_for_log("kubelet_tls_unverified")["level"], "WARN");
    exporter.wait_until_ready();
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    for line in ["Uid:\t1000\t1000\t1000\t1000\n", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"] {
        assert!(status.contains(line), "{status}");
    }
}

#[test]
fn hung_kubelet_does_not_delay_stopping() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Stall(String::new()), usize::MAX);
    let exporter = start(&kubelet, &["--stat-timeout=1h"]);
    kubelet.wait_for(SUMMARY, 1);
    let scrape = http::send_scrape(exporter.address);
    // A later connection that is answered proves that the earlier one was read.
    assert_eq!(exporter.get("/healthz").status, 200);
    exporter.signal(Signal::SIGTERM);
    let response = http::receive(scrape);
    assert_eq!(response.status, 200);
    let errors = Exposition::parse(&response.text()).value(ERRORS, &[]);
    assert_eq!(errors, Some(0.0), "the request's own timeout was not waited for");
    assert!(exporter.wait().success());
}
