//! Any bytes, in several pieces, from a client of the HTTP server; and any text as the headers that choose a format.
//!
//! The first byte's bits say how the client behaves, the second byte how long its pieces are. With bit 8, what follows is
//! not the request itself but, line by line, the values of the headers that the server reads.

#![no_main]

mod client;

use std::io::Read;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use client::{Answer, Client, Server};
use disk_usage_exporter::exposition::{Encoding, Format, negotiate};
use disk_usage_exporter::server::Representation;
use libfuzzer_sys::fuzz_target;

/// Scrapes that the client requested.
static SCRAPES: AtomicUsize = AtomicUsize::new(0);

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::new(&SCRAPES, body));

const BODY: &str = "# HELP a A.\n# TYPE a gauge\na 1\n";

fuzz_target!(|input: &[u8]| {
    if let [behaviour, piece, sent @ ..] = input {
        if behaviour & 8 == 0 {
            check_answers(*behaviour, *piece, sent);
        } else {
            check_answers(*behaviour, *piece, &scrape(sent));
        }
        check_negotiation(sent);
    }
});

/// A scrape with these values in its headers.
fn scrape(values: &[u8]) -> Vec<u8> {
    let names = ["Accept", "Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds", "Connection"];
    let mut request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n".to_vec();
    for (value, name) in values.split(|byte| *byte == b'\n').zip(names.into_iter().cycle()).take(12) {
        request.extend(format!("{name}: ").bytes());
        request.extend(value.iter().filter(|byte| matches!(byte, b'\t' | b' '..=b'~' | 128..)));
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

fn check_answers(behaviour: u8, piece: u8, sent: &[u8]) {
    SCRAPES.store(0, Ordering::SeqCst);
    let client = Client::new(behaviour, piece);
    let received = client.ask(&SERVER, sent);
    let scrapes = SCRAPES.load(Ordering::SeqCst);
    let max_scrapes = client::max_scrapes(sent);
    assert!(scrapes <= max_scrapes, "{scrapes} scrapes of {max_scrapes} requests at most");
    let may_be_head = sent.windows(4).any(|window| window == b"HEAD");
    let answers = Answer::all(&received, may_be_head, client.reads_all());
    let collected: Vec<&Answer> = answers.iter().filter(|answer| answer.is_collected()).collect();
    if client.reads_all() {
        assert_eq!(collected.len(), scrapes, "each is answered");
    }
    for answer in collected {
        check_collected(answer);
    }
}

/// What the server serves in one representation.
fn body(representation: Representation) -> Bytes {
    let (text, gzip) = match representation {
        Representation::Metrics(Encoding { format: Format::Text, gzip }) => (BODY.to_owned(), gzip),
        Representation::Metrics(Encoding { format: Format::OpenMetrics, gzip }) => {
            (format!("{BODY}# EOF\n"), gzip)
        }
        Representation::Page { gzip } => ("<!doctype html>\n".to_owned(), gzip),
    };
    if !gzip {
        return text.into();
    }
    let mut packed = Vec::new();
    let level = flate2::Compression::new(1);
    flate2::read::GzEncoder::new(text.as_bytes(), level).read_to_end(&mut packed).unwrap();
    packed.into()
}

/// Its head says what its body is.
fn check_collected(answer: &Answer) {
    let coding = answer.header("content-encoding");
    assert!(matches!(coding, None | Some("gzip")), "{coding:?}");
    let gzip = coding.is_some();
    let representation = match answer.header("content-type") {
        Some("text/html; charset=utf-8") => Representation::Page { gzip },
        Some(kind) if kind == Format::OpenMetrics.content_type() => {
            Representation::Metrics(Encoding { format: Format::OpenMetrics, gzip })
        }
        kind => {
            assert_eq!(kind, Some(Format::Text.content_type()));
            Representation::Metrics(Encoding { format: Format::Text, gzip })
        }
    };
    let expected = body(representation);
    assert_eq!(answer.header("content-length"), Some(expected.len().to_string().as_str()));
    assert!(answer.body.is_none_or(|body| *body == *expected), "another body");
}

fn check_negotiation(sent: &[u8]) {
    let text = String::from_utf8_lossy(sent);
    let (accept, coding) = text.split_once('\n').unwrap_or((&text, ""));
    let chosen = negotiate(accept, coding);
    assert_eq!(chosen.format, negotiate(accept, "").format, "of one header alone");
    assert_eq!(chosen.gzip, negotiate("", coding).gzip, "of one header alone");
    assert_eq!(chosen, negotiate(&accept.to_ascii_uppercase(), &coding.to_ascii_uppercase()), "in any case");
    assert_eq!(chosen, negotiate(&format!(" ,{accept}, "), &format!(" ,{coding}, ")), "empty elements");
    let ranges = ["application/", "*/*"];
    let lower = accept.to_ascii_lowercase();
    assert!(chosen.format == Format::Text || ranges.iter().any(|range| lower.contains(range)));
    assert!(!chosen.gzip || coding.contains('*') || coding.to_ascii_lowercase().contains("gzip"));
    let refused = negotiate(accept, &format!("gzip;q=0,x-gzip;q=0,{coding}"));
    assert!(!refused.gzip, "refused is refused");
}
