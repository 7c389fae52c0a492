//! Each test reads a fake kubelet in this process, at times that it chooses instead of waiting for them.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::kubelet::{EndpointStatus, ExposedClaims, Kubelet};
use disk_usage_exporter::runtime::{BlockingWorker, Clients, Deadline};
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use crate::support::PATIENCE;
use crate::support::kubelet::{
    self, Certificate, Fault, METRICS, SUMMARY, empty_summary, recorded_summary, with_volumes,
};

const INTERVAL: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);
/// The volumes of claims in the recorded summary.
const RECORDED: usize = 4;
const CHUNKED_HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

struct Reader {
    server: kubelet::Kubelet,
    kubelet: Kubelet,
    clients: Clients,
    /// The time of the last request.
    now: Instant,
    _log: DefaultGuard,
}

impl Reader {
    fn start(server: kubelet::Kubelet, args: &[&str]) -> Self {
        let program = ["disk-usage-exporter", &server.endpoint(), "--scrape-interval=30s"];
        let config = Config::try_from(Args::read([&program, args].concat()).unwrap()).unwrap();
        let (clients, host_files) = (Clients::start().unwrap(), BlockingWorker::start("host-files").unwrap());
        let kubelet = Kubelet::new(config.kubelet, config.sources, "node-1".into(), &clients, &host_files);
        let file = Arc::new(File::create(server.directory().join("log")).unwrap());
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(file).finish();
        let _log = tracing::subscriber::set_default(subscriber);
        Self { server, kubelet, clients, now: Instant::now(), _log }
    }

    /// Requests what is stale at this time, and waits for the outcome.
    fn refresh_at(&mut self, now: Instant) {
        self.kubelet.refresh_if_stale(now, &[]);
        assert!(self.kubelet.wait(&Deadline::after(PATIENCE)));
    }

    /// Makes another request, after every interval and delay.
    fn refresh(&mut self) {
        self.now += 10 * INTERVAL;
        self.refresh_at(self.now);
    }

    /// Lets the time limit of the request under way pass: a paused clock skips to the next timer.
    fn time_out(&mut self) {
        self.clients.spawn(async { tokio::time::pause() });
        assert!(self.kubelet.wait(&Deadline::after(PATIENCE)));
        self.clients.spawn(async { tokio::time::resume() });
    }

    fn status(&self) -> EndpointStatus {
        self.kubelet.summary_status().unwrap()
    }

    /// Waits for an outcome as nobody else does: without `Kubelet::wait`.
    fn wait_until(&self, is_so: impl Fn(EndpointStatus) -> bool) {
        let start = Instant::now();
        while !is_so(self.status()) {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    /// How many volumes the summary has that a collection at this time can use.
    fn volumes_at(&self, now: Instant) -> Option<usize> {
        self.kubelet.summary(now).map(|volumes| volumes.len())
    }

    /// The claims that the kubelet exposes itself, for a collection at this time.
    fn exposed_at(&self, now: Instant) -> Result<Vec<String>, &'static str> {
        match self.kubelet.exposed_claims(now).unwrap() {
            ExposedClaims::Known(claims) => Ok(claims.iter().map(|claim| claim.name.clone()).collect()),
            ExposedClaims::NotYet => Err("not yet"),
            ExposedClaims::Unavailable => Err("unavailable"),
        }
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.server.directory().join("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn events(log: &[Value]) -> Vec<&str> {
    log.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

#[test]
fn every_failure_is_counted_and_logged_once_and_keeps_the_last_answer() {
    let status = |code, body: &str| Fault::Status(code, body.into());
    let raw = |bytes: &str| Fault::Raw(bytes.into());
    let chunk = |text: &str| format!("{CHUNKED_HEAD}{:x}\r\n{text}\r\n", text.len());
    let too_many_headers = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20));
    let cases = [
        (status(401, "Unauthorized\n"), "401: Unauthorized", "does not know who asks"),
        (Fault::forbidden("stats"), "subresource(s)=[stats]", "`get` on `nodes/stats`"),
        (status(503, "starting"), "503: starting", ""),
        (status(302, ""), "302", ""),
        (status(400, "Client sent an HTTP request to an HTTPS server."), "400", "https://"),
        (raw(""), "no connection", "--kubelet-endpoint"),
        (raw(&chunk("{\"pods\": [{")), "no connection", ""),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"pods\": []}"), "no connection", ""),
        (raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "no connection", ""),
        (raw(&too_many_headers), "no connection", ""),
        (status(200, "<html>hello</html>"), "cannot be understood", ""),
        (status(200, "{\"pods\": [{\"podRef\""), "cannot be understood: EOF", ""),
        (status(200, "{\"kind\": \"Status\"}"), "missing field `pods`", ""),
        (Fault::Endless("{\"pods\": []", " "), "longer than 16777216 bytes", ""),
    ];
    for (fault, expected, remedy) in cases {
        let case = format!("{fault:.80?}");
        let mut reader = Reader::start(kubelet::Kubelet::start(), &[]);
        reader.refresh();
        let answered = reader.status().answered;
        assert_eq!((reader.status().success, reader.status().errors), (true, 0), "{case}");
        reader.server.fault(SUMMARY, fault, 2);
        for errors in [1, 2] {
            reader.refresh();
            assert_eq!((reader.status().success, reader.status().errors), (false, errors), "{case}");
            assert_eq!(
                (reader.status().answered, reader.volumes_at(Instant::now())),
                (answered, Some(RECORDED))
            );
        }
        reader.refresh();
        assert_eq!((reader.status().success, reader.status().errors), (true, 2), "{case}");
        let log = reader.log();
        assert_eq!(events(&log), ["kubelet_request_failed", "kubelet_recovered"], "{case}");
        assert!(log[0]["error"].as_str().unwrap().contains(expected), "{case}: {log:?}");
        assert!(log[0]["remedy"].as_str().unwrap_or_default().contains(remedy), "{case}: {log:?}");
    }
}

#[test]
fn malformed_entry_loses_only_itself() {
    let mut reader = Reader::start(kubelet::Kubelet::start(), &[]);
    let malformed = with_volumes(recorded_summary(), [("bad", json!({"capacityBytes": "much"}))]);
    reader.server.set_summary(&malformed);
    for errors in [1, 2] {
        reader.refresh();
        assert_eq!((reader.status().success, reader.status().errors), (true, errors));
        assert_eq!(reader.volumes_at(Instant::now()), Some(RECORDED));
    }
    reader.server.set_summary(&recorded_summary());
    reader.refresh();
    assert_eq!(events(&reader.log()), ["kubelet_entries_skipped", "kubelet_recovered"]);
}

#[test]
fn answer_is_reused_for_its_interval_and_expires_after_three_of_them() {
    let mut reader = Reader::start(kubelet::Kubelet::start(), &[]);
    let start = Instant::now();
    reader.kubelet.refresh_if_stale(start, &[]);
    reader.wait_until(|status| status.answered.is_some());
    let received = Instant::now();
    reader.refresh_at(start + INTERVAL - MOMENT);
    assert_eq!(reader.server.count(SUMMARY), 1);
    // Its age counts from when it was received, however late it is looked at and whatever the next request does.
    reader.server.fault(SUMMARY, Fault::Stall(String::new()), 1);
    reader.kubelet.refresh_if_stale(start + INTERVAL, &[]);
    reader.server.wait_for(SUMMARY, 2);
    assert!(!reader.kubelet.wait(&Deadline::after(Duration::ZERO)));
    assert_eq!(reader.volumes_at(start + 3 * INTERVAL), Some(RECORDED));
    assert_eq!(reader.volumes_at(received + 3 * INTERVAL + MOMENT), None);
    // No other request is made while one is under way.
    reader.kubelet.refresh_if_stale(start + 10 * INTERVAL, &[]);
    reader.time_out();
    assert_eq!((reader.status().success, reader.status().errors), (false, 1));
    // Silence in the middle of a body is the same failure.
    reader.server.fault(SUMMARY, Fault::Stall(format!("{CHUNKED_HEAD}8\r\n{{\"pods\":\r\n")), 1);
    reader.kubelet.refresh_if_stale(start + 20 * INTERVAL, &[]);
    reader.server.wait_for(SUMMARY, 3);
    reader.time_out();
    assert_eq!((reader.status().success, reader.status().errors), (false, 2));
    let log = reader.log();
    assert_eq!(events(&log), ["kubelet_request_failed"]);
    assert!(log[0]["error"].as_str().unwrap().contains("no answer within 10s"), "{log:?}");
    reader.server.set_summary(&empty_summary());
    reader.refresh_at(start + 30 * INTERVAL);
    assert_eq!((reader.server.count(SUMMARY), reader.volumes_at(Instant::now())), (4, Some(0)));
}

#[test]
fn failed_request_is_retried_after_a_second_from_when_it_failed() {
    let mut reader = Reader::start(kubelet::Kubelet::start(), &[]);
    reader.server.fault(SUMMARY, Fault::Raw(String::new()), 1);
    let start = Instant::now();
    reader.kubelet.refresh_if_stale(start, &[]);
    reader.wait_until(|status| status.errors == 1);
    let failed = Instant::now();
    reader.refresh_at(start + RETRY_DELAY - MOMENT);
    assert_eq!(reader.server.count(SUMMARY), 1);
    reader.refresh_at(failed + RETRY_DELAY);
    assert_eq!((reader.server.count(SUMMARY), reader.status().success), (2, true));
    // An idle connection would cost both sides a descriptor.
    reader.server.wait_until_disconnected();
}

#[test]
fn exposed_claims_are_kept_until_a_request_fails() {
    let server = kubelet::Kubelet::start();
    server.expose(&[("shop", "data")]);
    let mut reader = Reader::start(server, &["--sources=mounts", "--kubelet-volume-stats=missing"]);
    let start = Instant::now();
    assert_eq!(reader.exposed_at(start), Err("not yet"));
    reader.refresh_at(start);
    let received = Instant::now();
    let known = Ok(vec!["data".to_owned()]);
    assert_eq!(reader.exposed_at(start), known);
    // A scrape that does not wait for a late answer uses the old one, however rarely somebody scrapes.
    let much_later = start + 1_000 * INTERVAL;
    reader.server.fault(METRICS, Fault::Late(Duration::from_millis(50)), 1);
    reader.kubelet.refresh_if_stale(much_later, &[]);
    assert_eq!(reader.exposed_at(much_later), known);
    assert!(reader.kubelet.wait(&Deadline::after(PATIENCE)));
    let received = received.max(Instant::now());
    reader.server.fault(METRICS, Fault::Endless("# TYPE a gauge\n", LONG_LINE), 1);
    reader.refresh_at(much_later + INTERVAL);
    let log = reader.log();
    assert!(log[0]["error"].as_str().unwrap().contains("longer than 16777216 bytes"), "{log:?}");
    assert_eq!(reader.kubelet.exposed_claims_success(), Some(false));
    assert_eq!(reader.exposed_at(start + 3 * INTERVAL), known);
    assert_eq!(reader.exposed_at(received + 3 * INTERVAL + MOMENT), Err("unavailable"));
    assert_eq!(reader.server.count(SUMMARY), 0);
}

/// A comment of the exposition format, long enough that many of them are read fast.
const LONG_LINE: &str = concat!("#", include_str!("../fixtures/kubelet/stats-summary.json"));

#[test]
fn certificates_are_read_at_each_request_and_each_kind_of_failure_is_logged() {
    let server = kubelet::Kubelet::start_with(Certificate::OwnMade);
    let ca_file = server.write("ca.crt", &server.pki.cluster());
    let mut reader = Reader::start(server, &[&format!("--kubelet-ca-file={}", ca_file.display())]);
    let mut refresh_twice = |certificate: Option<Certificate>| {
        certificate.into_iter().for_each(|certificate| reader.server.use_certificate(certificate));
        reader.refresh();
        reader.refresh();
        reader.status().success
    };
    assert!(!refresh_twice(None));
    assert!(!refresh_twice(Some(Certificate::NotApproved)));
    assert!(refresh_twice(Some(Certificate::ClusterSigned)));
    assert!(!refresh_twice(Some(Certificate::OwnMade)));
    reader.server.write("ca.crt", &reader.server.pki.kubelet_crt());
    reader.refresh();
    let log = reader.log();
    let errors: Vec<_> = log.iter().map(|line| line["error"].as_str().unwrap_or_default()).collect();
    let untrusted = "no TLS connection: its certificate is signed by an authority that is not trusted here";
    let not_approved = "no TLS connection: the kubelet has no serving certificate yet";
    assert_eq!(errors, [untrusted, not_approved, "", untrusted, ""]);
    assert!(
        events(&log)
            .iter()
            .zip(errors)
            .all(|(event, error)| error.is_empty() == (*event == "kubelet_recovered"))
    );
}
