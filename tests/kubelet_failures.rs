use std::io::{Read, Write};
use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::http::{self, Response};
use crate::support::kubelet::{Certificate, Fault, Kubelet, SUMMARY};

const ERRORS: &str = "kubelet_volume_stats_scrape_errors_total";
const LAST: &str = "kubelet_volume_stats_last_scrape_timestamp_seconds";

fn sizes(scrape: &Exposition) -> usize {
    scrape.all("kubelet_volume_stats_capacity_bytes", &[]).len()
}

fn success(scrape: &Exposition) -> Option<f64> {
    scrape.value("disk_usage_exporter_source_success", &[("source", "kubelet")])
}

/// Makes a request at each scrape, but for the pause after a failure.
fn start(kubelet: &Kubelet, args: &[&str]) -> Exporter {
    Exporter::start(&[&[&*kubelet.endpoint(), "--scrape-interval=1ns"], args].concat())
}

#[test]
fn failed_request_is_in_the_metrics_until_the_kubelet_answers_again() {
    let kubelet = Kubelet::start();
    let exporter = start(&kubelet, &[]);
    let good = exporter.scrape_until("an answer", |scrape| sizes(scrape) == 3);
    assert_eq!((good.value(ERRORS, &[]), success(&good)), (Some(0.0), Some(1.0)));
    kubelet.fault(SUMMARY, Fault::forbidden("stats"), 1);
    let failed = exporter.scrape_until("a failure", |scrape| scrape.value(ERRORS, &[]) == Some(1.0));
    // The last answer has expired: three intervals are over.
    assert_eq!((sizes(&failed), success(&failed)), (0, Some(0.0)));
    assert!(failed.value(LAST, &[]).is_some(), "the time of the last answer");
    assert_eq!(failed.value("disk_usage_exporter_stale_kubelet_volumes", &[]), None);
    exporter.wait_for_log("kubelet_request_failed");
    let recovered = exporter.scrape_until("recovery", |scrape| sizes(scrape) == 3);
    assert_eq!(success(&recovered), Some(1.0));
    exporter.wait_for_log("kubelet_recovered");
    assert_eq!(recovered.value("disk_usage_exporter_panics_total", &[]), Some(0.0));
}

#[test]
fn wrong_endpoint_is_logged_with_a_remedy() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = Kubelet::start();
    let tls_on_plain_port = plain.endpoint().replace("http://", "https://");
    let ca = format!("--kubelet-ca-file={}", plain.write("ca.crt", &plain.pki.cluster()).display());
    let cases = [
        (format!("--kubelet-endpoint=http://{closed}"), "no connection", "--kubelet-endpoint"),
        (tls_on_plain_port, "does not speak TLS", "write http:// in --kubelet-endpoint"),
    ];
    for (endpoint, error, remedy) in cases {
        let exporter = Exporter::start(&[&endpoint, &ca]);
        let scrape = exporter.scrape();
        assert!(scrape.value(ERRORS, &[]) >= Some(1.0), "{endpoint}");
        assert_eq!((sizes(&scrape), scrape.value(LAST, &[])), (0, None), "{endpoint}");
        let line = exporter.wait_for_log("kubelet_request_failed");
        assert!(line["error"].as_str().unwrap().contains(error), "{line}");
        assert!(line["remedy"].as_str().unwrap().contains(remedy), "{line}");
    }
}

#[test]
fn token_is_read_at_each_request() {
    let kubelet = Kubelet::start_with(Certificate::ClusterSigned);
    let token = kubelet.write("token", "first\n");
    let ca = kubelet.write("ca.crt", &kubelet.pki.cluster());
    let [token_flag, ca] = [("token-path", &token), ("kubelet-ca-file", &ca)]
        .map(|(flag, path)| format!("--{flag}={}", path.display()));
    let exporter = start(&kubelet, &[&token_flag, &ca]);
    let authorization = || {
        assert_eq!(sizes(&exporter.scrape()), 3);
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
    let requests = kubelet.requests().len();
    assert_eq!(sizes(&exporter.scrape()), 0);
    let line = exporter.wait_for_log("kubelet_request_failed");
    assert!(line["error"].as_str().unwrap().contains("is none"), "{line}");
    assert_eq!(kubelet.requests().len(), requests);
}

#[test]
fn token_is_not_sent_in_clear_text() {
    let kubelet = Kubelet::start();
    let token = format!("--token-path={}", kubelet.write("token", "secret").display());
    let exporter = start(&kubelet, &[&token, "--insecure-skip-tls-verify"]);
    assert_eq!(sizes(&exporter.scrape()), 3);
    // So an impostor would not receive it.
    assert!(exporter.logged("kubelet_tls_unverified").is_empty());
    let requests = kubelet.requests();
    assert!(requests.iter().all(|(_, authorization)| authorization.is_none()), "{requests:?}");
}

#[test]
fn hung_kubelet_does_not_delay_stopping() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Stall(String::new()), usize::MAX);
    let exporter = Exporter::start(&[&kubelet.endpoint(), "--stat-timeout=1h"]);
    kubelet.wait_for(SUMMARY, 1);
    let mut scrape = http::connect(exporter.address);
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    // A later connection that is answered proves that the earlier one was read.
    assert_eq!(exporter.get("/healthz").status, 200);
    exporter.signal(Signal::SIGTERM);
    let mut response = Vec::new();
    scrape.read_to_end(&mut response).unwrap();
    let response = Response::parse(&response);
    assert_eq!(response.status, 200);
    let errors = Exposition::parse(&response.text()).value(ERRORS, &[]);
    assert_eq!(errors, Some(0.0), "the request's own timeout was not waited for");
    assert!(exporter.wait().success());
}
