use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::exporter::{Exporter, command, run};
use crate::support::exposition::Exposition;
use crate::support::fixture::{Fixture, answering};
use crate::support::http;

fn node() -> (Fixture, Exporter) {
    let fixture = Fixture::of(&[("pv", answering())]);
    let exporter = Exporter::start(&[&fixture.flag()]);
    (fixture, exporter)
}

#[test]
fn routes_methods_formats_and_compression() {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (_fixture, exporter) = node();
    let (metrics, text) = ("text/plain; version=0.0.4; charset=utf-8", "text/plain; charset=utf-8");
    let (gzip, openmetrics) = (("Accept-Encoding", "gzip"), ("Accept", "application/openmetrics-text"));
    let routes: [(_, &[_], _); 12] = [
        ("/metrics", &[], metrics),
        ("/metrics?name[]=up", &[], metrics),
        ("/metrics", &[gzip], metrics),
        ("/metrics", &[gzip, openmetrics], OPENMETRICS),
        ("/", &[], "text/html; charset=utf-8"),
        ("/style.css", &[], "text/css; charset=utf-8"),
        ("/filter.js", &[], "text/javascript; charset=utf-8"),
        ("/icon.svg", &[], "image/svg+xml"),
        ("/healthz", &[], text),
        ("/health", &[], text),
        ("/readyz", &[], text),
        ("/ready", &[], text),
    ];
    // Every scrape but the first one has the same families.
    exporter.scrape();
    let families = Exposition::parse(&exporter.get("/metrics").text()).families;
    for (path, headers, content_type) in routes {
        let case = format!("{path} {headers:?}");
        let get = http::get(exporter.address, path, headers);
        assert_eq!((get.status, get.header("content-type")), (200, Some(content_type)), "{case}");
        assert_eq!(get.header("x-content-type-options"), Some("nosniff"), "{case}");
        assert_eq!(get.header("content-encoding"), headers.first().map(|_| "gzip"), "{case}");
        assert_eq!(get.text() == "ok\n", content_type == text, "{case}");
        assert_eq!(get.text().ends_with("\n# EOF\n"), content_type == OPENMETRICS, "{case}");
        if content_type == metrics {
            assert_eq!(Exposition::parse(&get.text()).families, families, "{case}");
        }
        if path == "/metrics" {
            assert_eq!(get.header("vary"), Some("Accept, Accept-Encoding"), "{case}");
            assert_eq!(get.body.len() < get.text().len() / 2, !headers.is_empty(), "{case}");
        }
        let head = http::request(exporter.address, "HEAD", path, headers);
        assert_eq!((head.status, head.header("content-type")), (200, Some(content_type)), "{case}");
        assert_eq!(head.body.len(), 0, "{case}");
        assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0, "{case}");
    }
    let page = exporter.get("/").text();
    for part in ["href=\"/metrics\"", "href=\"/healthz\"", "href=\"/readyz\"", "recorded node"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    for path in ["/metrics/", "/nothing", "/metricsx", "//"] {
        assert_eq!(exporter.get(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let response = http::request(exporter.address, method, "/metrics", &[]);
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(http::request(exporter.address, method, "/nothing", &[]).status, 404, "{method}");
    }
}

#[test]
fn scrapes_during_the_first_collection_share_it_despite_a_low_soft_limit_of_descriptors() {
    let fixture = Fixture::of(&[("hung", json!("hang"))]);
    let exporter = Exporter::start_limited("-S -n 30", &[&fixture.flag(), "--stat-timeout=2s"]);
    let scrapes: Vec<_> = (0..200).map(|_| http::send_scrape(exporter.address)).collect();
    let pages: Vec<_> = (0..10).map(|_| http::send(exporter.address, "/")).collect();
    let ready = exporter.get("/readyz");
    let reason = "no source of figures has answered yet; the log tells why\n";
    assert_eq!((ready.status, ready.text().as_str()), (503, reason));
    assert_eq!(exporter.get("/healthz").status, 200);
    // The response has the duration of its collection: no two of them are equal to the nanosecond.
    let responses: HashSet<String> = scrapes.into_iter().map(|scrape| http::receive(scrape).text()).collect();
    assert_eq!(responses.len(), 1);
    let scrape = Exposition::parse(responses.iter().next().unwrap());
    assert_eq!(scrape.volume("hung")["pv_disk_usage_up"], 0.0);
    assert!(pages.into_iter().all(|page| http::receive(page).status == 200));
    // A table that is a plain file is read for each collection: the first, perhaps another one, and this.
    let collections = exporter.scrape().value("disk_usage_exporter_mount_table_reads_total", &[]).unwrap();
    assert!(collections <= 3.0, "{collections} collections for 211 responses");
    assert_eq!(exporter.get("/readyz").status, 200);
    assert!(exporter.logged("accept_failed").is_empty());
}

#[test]
fn default_listener_accepts_ipv4_and_ipv6_and_a_port_in_use_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let exporter = Exporter::spawn(&mut command(&[&fixture.flag()]));
    let port = exporter.address.port();
    assert_eq!(http::get(SocketAddr::from(([127, 0, 0, 1], port)), "/healthz", &[]).status, 200);
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(http::get((Ipv6Addr::LOCALHOST, port).into(), "/healthz", &[]).status, 200);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for args in [&["--listen-host=127.0.0.1"][..], &[]] {
        let output = run(&[&[&*fixture.flag(), "--listen-port", &port], args].concat());
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!([&*port, "in use", "--listen-port"].iter().all(|part| stderr.contains(part)), "{stderr}");
    }
}

#[test]
fn stopping_closes_the_port_answers_scrapes_in_flight_and_drops_everything_else() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let fixture = Fixture::of(&[("hung", json!("hang"))]);
        let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=1h"]);
        let [mut idle, mut half] = [(); 2].map(|()| http::connect(exporter.address));
        half.write_all(b"GET /metrics HTT").unwrap();
        let scrape = http::send_scrape(exporter.address);
        let page = http::send(exporter.address, "/");
        // A later connection that is answered proves that the earlier ones were accepted, and delay nothing.
        for path in ["/healthz", "/style.css"] {
            assert_eq!(exporter.get(path).status, 200, "{path}");
        }
        exporter.signal(signal);
        assert_eq!(exporter.wait_for_log("stopping")["signal"], signal.as_str());
        while TcpStream::connect(exporter.address).is_ok() {
            std::thread::yield_now();
        }
        let response = http::receive(scrape);
        assert_eq!(response.status, 200);
        assert!(response.text().contains("pv_disk_usage_up{pv_name=\"hung\""), "{}", response.text());
        assert!(http::receive(page).text().contains("<b>hung</b>"));
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection is closed");
        assert_eq!(exporter.wait().code(), Some(0));
    }
}

#[test]
fn malformed_requests_are_refused_and_disturb_nobody() {
    let (_fixture, exporter) = node();
    let huge_header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let cases: [&[u8]; 12] = [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"BREW /metrics HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"CONNECT metrics:443 HTTP/1.1\r\nConnection: close\r\n\r\n",
        huge_header.as_bytes(),
        many_headers.as_bytes(),
        long_path.as_bytes(),
    ];
    for case in cases {
        let response = http::raw(exporter.address, case);
        let start = response[..response.len().min(12)].escape_ascii().to_string();
        assert!(start.is_empty() || start.starts_with("HTTP/1.1 4"), "{start}");
        assert_eq!(exporter.get("/metrics").status, 200);
    }
    let body = b"POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\nx";
    assert!(http::raw(exporter.address, body).starts_with(b"HTTP/1.1 405"));
}

#[test]
fn exhausted_descriptors_are_logged_once_and_serving_goes_on() {
    let fixture = Fixture::new();
    let exporter = Exporter::start_limited("-n 30", &[&fixture.flag()]);
    let connections: Vec<TcpStream> = (0..36).map(|_| http::connect(exporter.address)).collect();
    exporter.wait_for_log("accept_failed");
    for _ in 0..3 {
        assert_eq!(exporter.get("/healthz").status, 200);
    }
    drop(connections);
    assert_eq!(exporter.scrape().value("disk_usage_exporter_mounts", &[]), Some(0.0));
    assert_eq!(exporter.logged("accept_failed").len(), 1);
}
