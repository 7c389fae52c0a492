use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::kubelet::{Asked, Certificate, Fault, Kubelet, METRICS, SUMMARY, Summary};

const ERRORS: &str = "kubelet_volume_stats_scrape_errors_total";
const LAST: &str = "kubelet_volume_stats_last_scrape_timestamp_seconds";
/// An entry with a volume.
/// A line that is none, long enough that many of them are read fast.
const LONG_LINE: &str = concat!("#", include_str!("../fixtures/kubelet/stats-summary.json"));
const UNCHECKED: &str = "kubelet_tls_unverified";
const FAILED: &str = "kubelet_request_failed";

fn sizes(scrape: &Exposition) -> usize {
    scrape.all("kubelet_volume_stats_capacity_bytes", &[]).len()
}

fn success(scrape: &Exposition) -> Option<f64> {
    scrape.value("disk_usage_exporter_source_success", &[("source", "kubelet")])
}

/// Asks at each scrape, but for the pause after a failure.
fn asking(kubelet: &Kubelet) -> Exporter {
    Exporter::start(&[&kubelet.endpoint(), "--scrape-interval=1ns"])
}

/// Each failure is counted and said once, shows nothing of what it broke, and is over when it is over.
#[test]
fn every_failure_is_counted_said_and_gets_over() {
    let body = |text: &str| Fault::Body(text.into());
    let raw = |text: &str| Fault::Raw(text.into());
    let cases = [
        ("unauthorized", Fault::unauthorized(), "401: Unauthorized", "does not know who asks"),
        ("forbidden", Fault::forbidden("stats"), "subresource(s)=[stats]", "`get` on `nodes/stats`"),
        ("an error", Fault::Status(503, "starting".into()), "503: starting", ""),
        ("a redirection", Fault::Status(302, String::new()), "302", ""),
        (
            "a port of TLS",
            Fault::Status(400, "Client sent an HTTP request to an HTTPS server.".into()),
            "400",
            "https://",
        ),
        ("closed", Fault::Close, "no connection", "--kubelet-endpoint"),
        ("half an answer", Fault::Half, "no connection", ""),
        (
            "a length that lies",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"pods\": []}"),
            "no connection",
            "",
        ),
        ("no HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "no connection", ""),
        (
            "an endless head",
            raw(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20))),
            "no connection",
            "",
        ),
        ("no JSON", body("<html>hello</html>"), "cannot be understood", ""),
        ("half of it", body("{\"pods\": [{\"podRef\""), "cannot be understood: EOF", ""),
        ("something else", body("{\"kind\": \"Status\"}"), "missing field `pods`", ""),
        ("an endless answer", Fault::Endless("{\"pods\": []", " "), "longer than 16777216 bytes", ""),
    ];
    for (what, fault, expected, remedy) in cases {
        let kubelet = Kubelet::start();
        let exporter = asking(&kubelet);
        let good = exporter.scrape_until("a good answer", |scrape| sizes(scrape) == 3);
        assert_eq!((good.value(ERRORS, &[]), success(&good)), (Some(0.0), Some(1.0)), "{what}");
        kubelet.fault(SUMMARY, fault, 2);
        let failed = exporter.scrape_until(what, |scrape| scrape.value(ERRORS, &[]) == Some(1.0));
        // After three intervals, which are over, what it said before is not current.
        assert_eq!((sizes(&failed), success(&failed)), (0, Some(0.0)), "{what}");
        assert!(failed.value(LAST, &[]).is_some(), "{what}: when it answered last is known");
        assert_eq!(failed.value("disk_usage_exporter_stale_kubelet_volumes", &[]), None, "{what}");
        let said = exporter.wait_for_log(FAILED);
        assert!(said["error"].as_str().unwrap().contains(expected), "{what}: {said}");
        assert!(said["remedy"].as_str().unwrap_or_default().contains(remedy), "{what}: {said}");
        exporter.scrape_until(what, |scrape| scrape.value(ERRORS, &[]) == Some(2.0));
        exporter.scrape_until(what, |scrape| sizes(scrape) == 3 && success(scrape) == Some(1.0));
        exporter.wait_for_log("kubelet_recovered");
        assert_eq!(exporter.logged(FAILED).len(), 1, "{what} is said once");
        assert!(exporter.scrape().value("disk_usage_exporter_panics_total", &[]) == Some(0.0));
    }
}

#[test]
fn an_answer_without_end_is_read_up_to_its_limit() {
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::Endless("# TYPE a gauge\n", LONG_LINE), usize::MAX);
    let exporter =
        Exporter::start(&["--sources=mounts", "--kubelet-volume-stats=missing", &kubelet.endpoint()]);
    let said = exporter.wait_for_log(FAILED);
    assert!(said["error"].as_str().unwrap().contains("longer than 16777216 bytes"), "{said}");
}

#[test]
fn silence_in_the_middle_of_an_answer_ends_after_10_seconds() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::HalfThenSilence, 1);
    let exporter = Exporter::start(&[&kubelet.endpoint(), "--stat-timeout=100ms"]);
    assert_eq!(exporter.scrape().value(ERRORS, &[]), Some(0.0), "it is still under way");
    exporter.scrape_until("its end", |scrape| scrape.value(ERRORS, &[]) == Some(1.0));
    exporter.scrape_until("another try", |scrape| sizes(scrape) == 3);
}

#[test]
fn nobody_there_is_said_with_what_to_do() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exporter = Exporter::start(&[&format!("--kubelet-endpoint=http://{address}")]);
    let scrape = exporter.scrape();
    assert!(scrape.value(ERRORS, &[]) >= Some(1.0));
    assert_eq!((sizes(&scrape), scrape.value(LAST, &[])), (0, None));
    let said = exporter.wait_for_log(FAILED);
    assert!(said["remedy"].as_str().unwrap().contains("--kubelet-endpoint"), "{said}");
}

#[test]
fn one_entry_that_cannot_be_understood_costs_itself() {
    let kubelet = Kubelet::start();
    let exporter = asking(&kubelet);
    let bad = serde_json::json!({"capacityBytes": "much"});
    kubelet.tell(&Summary::recorded().with("bad", "pod", &bad));
    let scrape = exporter.scrape_until("it is counted", |scrape| scrape.value(ERRORS, &[]) > Some(0.0));
    assert_eq!((sizes(&scrape), success(&scrape)), (3, Some(1.0)));
    let message = "kubelet_entries_skipped";
    exporter.wait_for_log(message);
    exporter.scrape();
    kubelet.tell(&Summary::recorded());
    exporter.scrape();
    exporter.wait_for_log("kubelet_recovered");
    assert_eq!(exporter.logged(message).len(), 1);
}

#[test]
fn a_token_is_read_at_each_request() {
    let kubelet = Kubelet::start_with(Certificate::ClusterSigned);
    kubelet.require_tokens(&["first"]);
    let token = kubelet.write("token", "first\n");
    let ca = kubelet.write("ca.crt", &kubelet.pki.cluster());
    let flags = [
        format!("--token-path={}", token.display()),
        format!("--kubelet-ca-file={}", ca.display()),
        kubelet.endpoint(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--scrape-interval=1ns"]).collect();
    let exporter = Exporter::start(&flags);
    exporter.scrape_until("the first token", |scrape| sizes(scrape) == 3);
    kubelet.write("token", "second");
    kubelet.require_tokens(&["second"]);
    let scrape = exporter.scrape();
    assert_eq!((sizes(&scrape), scrape.value(ERRORS, &[])), (3, Some(0.0)), "nothing was missed");
    // Without one it goes on, and says so once.
    std::fs::remove_file(&token).unwrap();
    exporter.scrape_until("it is refused", |scrape| scrape.value(ERRORS, &[]) == Some(2.0));
    let shown = |asked: &Asked| asked.authorization.clone();
    assert_eq!(kubelet.asked().last().and_then(shown), None);
    let message = "kubelet_token_missing";
    exporter.wait_for_log(message);
    assert_eq!(exporter.logged(message).len(), 1);
    kubelet.write("token", "second");
    exporter.scrape_until("it is there again", |scrape| sizes(scrape) == 3);
    exporter.wait_for_log("kubelet_token_found");
    // What can be no token is not sent.
    kubelet.write("token", "a\u{7f}b");
    exporter.scrape_until("it is no token", |_| exporter.logged(FAILED).len() == 2);
    assert_eq!(sizes(&exporter.scrape()), 0);
    let said = exporter.logged(FAILED);
    assert!(said.last().unwrap()["error"].as_str().unwrap().contains("is none"), "{said:?}");
}

#[test]
fn the_token_is_not_sent_in_the_clear() {
    let kubelet = Kubelet::start();
    let token = kubelet.write("token", "secret");
    let token = format!("--token-path={}", token.display());
    let exporter = Exporter::start(&[&kubelet.endpoint(), &token, "--insecure-skip-tls-verify"]);
    assert_eq!(sizes(&exporter.scrape()), 3);
    // So nobody gets it.
    assert!(exporter.logged(UNCHECKED).is_empty());
    assert!(kubelet.asked().iter().all(|asked| asked.authorization.is_none()), "{:?}", kubelet.asked());
}

#[test]
fn a_kubelet_that_hangs_does_not_keep_the_program_from_stopping() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Hang, usize::MAX);
    let exporter = Exporter::start(&[&kubelet.endpoint(), "--stat-timeout=1h"]);
    kubelet.wait_for(SUMMARY, 1);
    let address = exporter.address;
    let waiting = std::thread::spawn(move || crate::support::http::get(address, "/metrics", &[]));
    // It is under way when its request is read; there is no telling when that is.
    std::thread::sleep(Duration::from_millis(200));
    exporter.signal(Signal::SIGTERM);
    let start = Instant::now();
    let answer = waiting.join().unwrap();
    assert_eq!(answer.status, 200);
    assert!(exporter.wait().success());
    // The kubelet itself has 10 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
