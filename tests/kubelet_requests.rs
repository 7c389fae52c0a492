//! Each test reads a fake kubelet in this process, at times that it chooses instead of waiting for them.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk_usage_exporter::config::{Args, Config};
use disk_usage_exporter::host_files::HostPath;
use disk_usage_exporter::kubelet::{EndpointStatus, ExposedClaims, Kubelet};
use disk_usage_exporter::runtime::{BlockingWorker, Clients, Deadline};
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use crate::support::PATIENCE;
use crate::support::kubelet::{self, Certificate, Fault, METRICS, Pki, SUMMARY};

const INTERVAL: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);
/// The volumes of claims in the recorded summary.
const RECORDED: usize = 4;
const CHUNKED_HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A comment of the exposition format, long enough that many of them are read fast.
const LONG_LINE: &str = concat!("#", include_str!("../fixtures/kubelet/stats-summary.json"));
/// Flags; `DIR` is the directory of the test.
const CA: &str = "--kubelet-ca-file=DIR/ca.crt";
const MISSING: [&str; 2] = ["--sources=mounts", "--kubelet-volume-stats=missing"];
const INSECURE: &str = "--insecure-skip-tls-verify";

/// Makes the certificate of an authority, as PEM.
type Authority = fn(&Pki) -> String;

struct Reader {
    server: kubelet::Kubelet,
    kubelet: Kubelet,
    clients: Clients,
    /// The time of the last request.
    now: Instant,
    _log: DefaultGuard,
}

impl Reader {
    /// A reader on `node-1`, whose kubelet has the test's directory.
    fn start(server: kubelet::Kubelet, args: &[&str]) -> Self {
        let endpoint = server.endpoint();
        Self::start_at(&endpoint, server, args)
    }

    fn start_at(endpoint: &str, server: kubelet::Kubelet, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| arg.replace("DIR", server.directory().to_str().unwrap()));
        let fixed = ["disk-usage-exporter", endpoint, "--scrape-interval=30s"].map(str::to_owned);
        let args = Args::read(fixed.into_iter().chain(args)).unwrap();
        let Config { kubelet, sources, kubernetes, .. } = Config::try_from(args).unwrap();
        let node_name = kubernetes.node_name.unwrap_or("node-1".into());
        let (clients, host_files) = (Clients::start().unwrap(), BlockingWorker::start("host-files").unwrap());
        let directory = HostPath { rootfs: server.directory().to_owned(), path: "/".into() };
        let kubelet = Kubelet::new(kubelet, directory, sources, node_name, &clients, &host_files);
        let file = Arc::new(File::create(server.directory().join("log")).unwrap());
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(file).finish();
        let log = tracing::subscriber::set_default(subscriber);
        Self { server, kubelet, clients, now: Instant::now(), _log: log }
    }

    fn request_at(&mut self, now: Instant) {
        self.kubelet.refresh_if_stale(now);
    }

    /// Requests what is stale at this time, and waits for the outcome.
    fn refresh_at(&mut self, now: Instant) {
        self.request_at(now);
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
fn every_failure_is_logged_once_and_keeps_the_last_answer() {
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
        let EndpointStatus { success, answered, .. } = reader.status();
        assert!(success, "{case}");
        reader.server.fault(SUMMARY, fault, 2);
        for _ in 0..2 {
            reader.refresh();
            assert_eq!((reader.status().success, reader.status().answered), (false, answered), "{case}");
            assert_eq!(reader.volumes_at(Instant::now()), Some(RECORDED), "{case}");
        }
        reader.refresh();
        assert!(reader.status().success, "{case}");
        let log = reader.log();
        assert_eq!(events(&log), ["kubelet_request_failed", "kubelet_recovered"], "{case}");
        assert!(log[0]["error"].as_str().unwrap().contains(expected), "{case}: {log:?}");
        assert!(log[0]["remedy"].as_str().unwrap_or_default().contains(remedy), "{case}: {log:?}");
    }
}

#[test]
fn answer_is_reused_for_its_interval_and_expires_after_three_of_them() {
    let mut reader = Reader::start(kubelet::Kubelet::start(), &[]);
    let start = Instant::now();
    reader.request_at(start);
    reader.server.wait_for(SUMMARY, 1);
    reader.server.wait_until_disconnected();
    std::thread::sleep(20 * MOMENT);
    let received = Instant::now();
    std::thread::sleep(2 * MOMENT);
    reader.refresh_at(start + INTERVAL.saturating_sub(MOMENT));
    assert_eq!(reader.server.count(SUMMARY), 1);
    // Its age counts from when it was received, however late it is looked at and whatever the next request does.
    reader.server.fault(SUMMARY, Fault::Stall(String::new()), 1);
    reader.request_at(start + INTERVAL);
    // No other request is made while one is under way.
    reader.request_at(start + 10 * INTERVAL);
    reader.server.wait_for(SUMMARY, 2);
    assert!(!reader.kubelet.wait(&Deadline::after(Duration::ZERO)));
    assert_eq!(reader.volumes_at(start + 3 * INTERVAL), Some(RECORDED));
    assert_eq!(reader.volumes_at(received + 3 * INTERVAL + MOMENT), None);
    reader.time_out();
    assert!(!reader.status().success);
    // Silence in the middle of a body is the same failure.
    reader.server.fault(SUMMARY, Fault::Stall(format!("{CHUNKED_HEAD}8\r\n{{\"pods\":\r\n")), 1);
    reader.request_at(start + 20 * INTERVAL);
    reader.server.wait_for(SUMMARY, 3);
    reader.time_out();
    assert!(!reader.status().success);
    let log = reader.log();
    assert_eq!(events(&log), ["kubelet_request_failed"]);
    assert!(log[0]["error"].as_str().unwrap().contains("no answer within 10s"), "{log:?}");
    reader.server.set_summary(&json!({"pods": []}));
    reader.refresh_at(start + 30 * INTERVAL);
    assert_eq!((reader.server.count(SUMMARY), reader.volumes_at(Instant::now())), (4, Some(0)));
}

#[test]
fn failed_request_is_retried_after_a_second_from_when_it_failed() {
    let mut reader = Reader::start(kubelet::Kubelet::start(), &MISSING);
    reader.server.fault(METRICS, Fault::Raw(String::new()), 1);
    let start = Instant::now();
    reader.refresh_at(start);
    let failed = Instant::now();
    reader.refresh_at(start + RETRY_DELAY.saturating_sub(MOMENT));
    assert_eq!((reader.server.count(METRICS), reader.exposed_at(start)), (1, Err("unavailable")));
    reader.refresh_at(failed + RETRY_DELAY);
    assert_eq!((reader.server.count(METRICS), reader.exposed_at(start)), (2, Ok(vec![])));
    // An idle connection would cost both sides a descriptor.
    reader.server.wait_until_disconnected();
}

#[test]
fn exposed_claims_are_kept_until_a_request_fails() {
    let server = kubelet::Kubelet::start();
    server.expose(&[("shop", "data")]);
    let mut reader = Reader::start(server, &MISSING);
    let start = Instant::now();
    assert_eq!(reader.exposed_at(start), Err("not yet"));
    reader.refresh_at(start);
    let received = Instant::now();
    let known = Ok(vec!["data".to_owned()]);
    assert_eq!(reader.exposed_at(start), known);
    // A scrape that does not wait for a late answer uses the old one, however rarely somebody scrapes.
    let much_later = start + 1_000 * INTERVAL;
    reader.server.fault(METRICS, Fault::Late(Duration::from_millis(50)), 1);
    reader.request_at(much_later);
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

#[test]
fn certificates_are_read_at_each_request_and_each_kind_of_failure_is_logged() {
    let server = kubelet::Kubelet::start_with(Certificate::OwnMade);
    server.write("ca.crt", &server.pki.cluster());
    let mut reader = Reader::start(server, &[CA]);
    let mut refresh_twice = |certificate: Certificate| {
        reader.server.use_certificate(certificate);
        reader.refresh();
        reader.refresh();
        reader.status().success
    };
    assert!(!refresh_twice(Certificate::OwnMade));
    assert!(!refresh_twice(Certificate::NotApproved));
    assert!(refresh_twice(Certificate::ClusterSigned));
    assert!(!refresh_twice(Certificate::OwnMade));
    reader.server.write("ca.crt", &reader.server.pki.kubelet_crt());
    reader.refresh();
    let log = reader.log();
    let errors: Vec<_> = log.iter().map(|line| line["error"].as_str().unwrap_or_default()).collect();
    let untrusted = "no TLS connection: its certificate is signed by an authority that is not trusted here";
    let not_approved = "no TLS connection: the kubelet has no serving certificate yet";
    assert_eq!(errors, [untrusted, not_approved, "", untrusted, ""]);
    let [failed, recovered] = ["kubelet_request_failed", "kubelet_recovered"];
    assert_eq!(events(&log), [failed, failed, recovered, failed, recovered]);
}

#[test]
fn certificate_needs_a_trusted_authority_and_an_expected_name() {
    use Certificate::{ClusterSigned, NotApproved, OtherName, OwnMade, OwnMadeExpired};
    let other_of_that_name = |_: &Pki| Pki::new().cluster();
    let (cluster, own): (Authority, Authority) = (Pki::cluster, Pki::kubelet_crt);
    let other_name = "--kubelet-server-name=kubelet.example.org";
    let untrusted = [
        "an authority that is not trusted",
        "pki/kubelet.crt",
        "--kubelet-ca-file",
        "serverTLSBootstrap",
        "--insecure-skip-tls-verify",
    ];
    // Parts of the error and the remedy; none if the certificate is accepted.
    let cases: [(_, Authority, &[&str], &[&str]); 14] = [
        (ClusterSigned, cluster, &[CA], &[]),
        (ClusterSigned, cluster, &[CA, "--node-name=another"], &[]),
        (ClusterSigned, cluster, &[CA, "--kubelet-server-name=node-1"], &[]),
        (OtherName, cluster, &[CA, other_name], &[]),
        (OwnMade, own, &[CA], &[]),
        (OwnMade, own, &[], &[]),
        (OwnMade, cluster, &[INSECURE], &[]),
        (OwnMadeExpired, cluster, &[INSECURE], &[]),
        (OtherName, cluster, &[INSECURE], &[]),
        (OwnMade, cluster, &[CA], &untrusted),
        (OtherName, other_of_that_name, &[CA, other_name], &untrusted),
        (
            OwnMade,
            own,
            &[CA, "--node-name=node-2"],
            &["is for", "node-1", "127.0.0.2 or node-2", "--kubelet-server-name", "NODE_NAME"],
        ),
        (OwnMadeExpired, own, &[CA], &["has expired", "restart it"]),
        (NotApproved, cluster, &[CA], &["no serving certificate yet", "kubectl certificate approve"]),
    ];
    for (certificate, authority, args, expected) in cases {
        let server = kubelet::Kubelet::start_with(certificate);
        for file in ["ca.crt", "pki/kubelet.crt"] {
            server.write(file, &authority(&server.pki));
        }
        assert_handshake(&mut Reader::start(server, args), expected);
    }
}

/// Checks whether a request succeeds, and otherwise that the log has these parts.
fn assert_handshake(reader: &mut Reader, expected: &[&str]) {
    reader.refresh();
    let log = reader.log().last().map(|line| format!("{}: {}", line["error"], line["remedy"]));
    let log = log.unwrap_or_default();
    assert_eq!(reader.status().success, expected.is_empty(), "{expected:?}: {log}");
    assert!(expected.iter().all(|part| log.contains(part)), "not all of {expected:?}: {log}");
    assert_eq!(log.is_empty(), expected.is_empty(), "{log}");
    assert_eq!(reader.server.count(SUMMARY), usize::from(expected.is_empty()), "none to an untrusted server");
}

#[test]
fn wrong_endpoint_or_missing_certificate_is_logged_with_a_remedy() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("--kubelet-endpoint=http://{closed}");
    let server = kubelet::Kubelet::start();
    server.write("ca.crt", &server.pki.cluster());
    let tls_on_plain_port = server.endpoint().replace("http:", "https:");
    let mut reader = Reader::start_at(&tls_on_plain_port, server, &[CA]);
    assert_handshake(&mut reader, &["does not speak TLS", "write http:// in --kubelet-endpoint"]);
    let mut reader = Reader::start_at(&closed, reader.server, &[]);
    assert_handshake(&mut reader, &["no connection", "is --kubelet-endpoint the node's own address"]);
    // No certificate to trust, and a pipe in its place.
    let server = kubelet::Kubelet::start_with(Certificate::OwnMade);
    let mut reader = Reader::start(server, &[]);
    let unknown = ["serviceaccount/ca.crt", "pki/kubelet.crt", "--kubelet-ca-file"];
    assert_handshake(&mut reader, &unknown);
    let crt = reader.server.write("pki/kubelet.crt", "");
    std::fs::remove_file(&crt).unwrap();
    nix::unistd::mkfifo(&crt, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_handshake(&mut Reader::start(reader.server, &[]), &["not a file"]);
}
