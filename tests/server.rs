use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::fixture::{Fixture, answering};
use crate::support::http::{self, Response};

fn node() -> (Fixture, Exporter) {
    let mut fixture = Fixture::new();
    fixture.mount("pv", answering());
    let exporter = Exporter::start(&[&fixture.flag()]);
    (fixture, exporter)
}

/// A node whose only volume hangs, for which scrapes wait this long.
fn hung_node(stat_timeout: &str) -> (Fixture, Exporter) {
    let mut fixture = Fixture::new();
    fixture.mount("hung", json!("hang"));
    let exporter = Exporter::start(&[&fixture.flag(), &format!("--stat-timeout={stat_timeout}")]);
    (fixture, exporter)
}

#[test]
fn every_route_answers() {
    let (_fixture, exporter) = node();
    exporter.scrape();
    for path in ["/healthz", "/health", "/readyz", "/ready"] {
        let response = exporter.get(path);
        assert_eq!((response.status, response.text().as_str()), (200, "ok\n"), "{path}");
    }
    let page = exporter.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for part in ["href=\"/metrics\"", "href=\"/healthz\"", "href=\"/readyz\"", "recorded node"] {
        assert!(page.text().contains(part), "{part} in {}", page.text());
    }
    for (path, kind) in
        [("/style.css", "text/css"), ("/filter.js", "text/javascript"), ("/icon.svg", "image/svg+xml")]
    {
        let response = exporter.get(path);
        assert_eq!(
            (response.status, response.header("x-content-type-options")),
            (200, Some("nosniff")),
            "{path}"
        );
        assert!(response.header("content-type").unwrap().starts_with(kind), "{path}");
    }
    for path in ["/metrics/", "/nothing", "/metricsx", "//"] {
        assert_eq!(exporter.get(path).status, 404, "{path}");
    }
    assert_eq!(exporter.get("/metrics?name[]=up").status, 200);
}

#[test]
fn only_get_and_head() {
    let (_fixture, exporter) = node();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let response = http::request(exporter.address, method, "/metrics", &[]);
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(http::request(exporter.address, method, "/nothing", &[]).status, 404, "{method}");
    }
    for path in ["/metrics", "/", "/style.css", "/healthz", "/readyz"] {
        let head = http::request(exporter.address, "HEAD", path, &[]);
        let get = exporter.get(path);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0, "{path}");
    }
}

#[test]
fn the_client_chooses_format_and_packing() {
    let (_fixture, exporter) = node();
    let get = |headers: &[(&str, &str)]| {
        let response = http::get(exporter.address, "/metrics", headers);
        assert_eq!(response.header("vary"), Some("Accept, Accept-Encoding"));
        response
    };
    let plain = get(&[]);
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(plain.header("content-encoding"), None);
    let packed =
        get(&[("Accept-Encoding", "gzip"), ("Accept", "application/openmetrics-text;version=1.0.0")]);
    assert_eq!(
        packed.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.text().ends_with("\n# EOF\n"));
    assert!(packed.body.len() < packed.text().len() / 2);
    let packed_text = get(&[("Accept-Encoding", "gzip")]);
    let names = |text: &str| Exposition::parse(text).families;
    assert_eq!(names(&packed_text.text()), names(&get(&[]).text()));
}

#[test]
fn not_ready_until_the_first_collection_has_ended() {
    let (_fixture, exporter) = hung_node("3s");
    let early = exporter.get("/readyz");
    assert_eq!(
        (early.status, early.text().as_str()),
        (503, "no source of figures has answered yet; the log tells why\n")
    );
    assert_eq!(exporter.get("/healthz").status, 200);
    assert_eq!(exporter.scrape().volume("hung")["pv_disk_usage_up"], 0.0);
    assert_eq!(exporter.get("/readyz").status, 200);
}

#[test]
fn scrapes_at_one_time_share_a_collection_and_its_bytes() {
    let (_fixture, exporter) = hung_node("2s");
    let mut streams: Vec<TcpStream> = (0..200).map(|_| http::connect(exporter.address)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    }
    let answers = streams.iter_mut().map(|stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Response::parse(&bytes).text()
    });
    // The time that it took is in it: no two collections are alike to the nanosecond.
    let distinct: HashSet<String> = answers.collect();
    assert_eq!(distinct.len(), 1);
}

#[test]
fn the_clients_time_shortens_the_wait() {
    let mut fixture = Fixture::new();
    fixture.mount("hung", json!("hang"));
    // The collection made at start must not meet it: it would wait for its hour.
    let rows = std::fs::read(fixture.path().join("mountinfo")).unwrap();
    std::fs::write(fixture.path().join("mountinfo"), "").unwrap();
    let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=1h"]);
    exporter.scrape();
    std::fs::write(fixture.path().join("mountinfo"), rows).unwrap();
    // A fifth of it is left for answering, also on a busy machine.
    let headers = [("X-Prometheus-Scrape-Timeout-Seconds", "4")];
    let response = http::get(exporter.address, "/metrics", &headers);
    assert_eq!(response.status, 200);
    let scrape = Exposition::parse(&response.text());
    assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["timeout"]);
    assert_eq!(scrape.value("disk_usage_exporter_volumes", &[("state", "hung")]), Some(1.0));
}

#[test]
fn an_impatient_client_is_told_that_a_patient_ones_collection_is_under_way() {
    let (_fixture, exporter) = hung_node("1h");
    let headers = [("X-Prometheus-Scrape-Timeout-Seconds", "0.5")];
    let response = http::get(exporter.address, "/metrics", &headers);
    assert_eq!(response.status, 503);
    assert!(response.text().contains("takes longer than this scrape may"), "{}", response.text());
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let fixture = Fixture::new();
    for args in [&["--listen-host=127.0.0.1"][..], &[]] {
        let output = run(&[&[&*fixture.flag(), "--listen-port", &port.to_string()], args].concat());
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        let parts = [&port.to_string(), "in use", "--listen-port"];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}

#[test]
fn every_interface_is_both_ip_versions() {
    let fixture = Fixture::new();
    let exporter = Exporter::start_everywhere(&[&fixture.flag()]);
    let port = exporter.address.port();
    assert_eq!(http::get(SocketAddr::from(([127, 0, 0, 1], port)), "/healthz", &[]).status, 200);
    if TcpListener::bind("[::1]:0").is_ok() {
        let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        assert_eq!(http::get(v6, "/healthz", &[]).status, 200);
    }
}

#[test]
fn told_to_stop_it_closes_the_port_first_and_finishes_what_is_in_flight() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (_fixture, exporter) = hung_node("2s");
        let address = exporter.address;
        let mut idle = http::connect(address);
        let mut scrape = http::connect(address);
        scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        // A later connection that is answered proves that the earlier ones were accepted.
        assert_eq!(exporter.get("/healthz").status, 200);
        exporter.signal(signal);
        let line = exporter.wait_for_log("stopping");
        assert_eq!(line["signal"], signal.as_str());
        while TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        let mut answer = Vec::new();
        scrape.read_to_end(&mut answer).unwrap();
        let answer = Response::parse(&answer);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("pv_disk_usage_up{pv_name=\"hung\""), "{}", answer.text());
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection is closed");
        assert_eq!(exporter.wait().code(), Some(0));
    }
}

#[test]
fn what_does_not_end_is_cut_off_when_stopping() {
    let (_fixture, exporter) = hung_node("1h");
    let mut scrape = http::connect(exporter.address);
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut half = http::connect(exporter.address);
    half.write_all(b"GET /metrics HTT").unwrap();
    assert_eq!(exporter.get("/healthz").status, 200);
    exporter.signal(Signal::SIGTERM);
    assert_eq!(exporter.wait().code(), Some(0));
}

#[test]
fn bad_requests_harm_nobody() {
    let (_fixture, exporter) = node();
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let cases: [&[u8]; 8] = [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        huge.as_bytes(),
        many.as_bytes(),
        long.as_bytes(),
    ];
    for case in cases {
        let answer = http::raw(exporter.address, case);
        let begin = answer[..answer.len().min(12)].escape_ascii().to_string();
        assert!(begin.is_empty() || begin.starts_with("HTTP/1.1 4"), "{begin}");
        assert_eq!(exporter.get("/metrics").status, 200);
    }
    let body = b"POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\nx";
    assert!(http::raw(exporter.address, body).starts_with(b"HTTP/1.1 405"));
}

#[test]
fn many_scrapes_wait_whatever_the_soft_limit_of_descriptors() {
    let mut fixture = Fixture::new();
    fixture.mount("hung", json!("hang"));
    let exporter = Exporter::start_with_soft_descriptors(30, &[&fixture.flag(), "--stat-timeout=1h"]);
    let mut scrapes: Vec<TcpStream> = (0..200).map(|_| http::connect(exporter.address)).collect();
    for scrape in &mut scrapes {
        scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    assert_eq!(exporter.get("/healthz").status, 200);
    for scrape in &mut scrapes {
        scrape.set_nonblocking(true).unwrap();
        let waiting = scrape.read(&mut [0]).unwrap_err();
        assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock, "it still waits for its response");
    }
    assert!(exporter.logged("accept_failed").is_empty());
}

#[test]
fn without_descriptors_it_says_so_once_and_goes_on() {
    let fixture = Fixture::new();
    let exporter = Exporter::start_with_descriptors(30, &[&fixture.flag()]);
    let held: Vec<TcpStream> = (0..60).map(|_| http::connect(exporter.address)).collect();
    exporter.wait_for_log("accept_failed");
    for _ in 0..3 {
        assert_eq!(exporter.get("/healthz").status, 200);
    }
    drop(held);
    assert_eq!(exporter.scrape().value("disk_usage_exporter_mounts", &[]), Some(0.0));
    assert_eq!(exporter.logged("accept_failed").len(), 1);
}
