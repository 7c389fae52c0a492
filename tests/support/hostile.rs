//! Clients that mean harm, or are broken. An attack takes some tenths of a second, to be made again and again.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::http::{self, Response};

/// An attack, by its name.
pub(crate) type Attack = (&'static str, fn(SocketAddr));

pub(crate) const ATTACKS: [Attack; 12] = [
    ("concurrent scrapes", |address| read_all(connect(address, 40, LAST_SCRAPE))),
    // Their short timeout must not be that of the others in their collections.
    ("hasty scrapes", |address| {
        read_all(connect(
            address,
            6,
            &with_header(LAST_SCRAPE, b"X-Prometheus-Scrape-Timeout-Seconds: 0.000001"),
        ));
    }),
    ("readers that do not read", readers_that_do_not_read),
    ("a slow reader", |address| {
        each_for_a_while(connect(address, 1, LAST_SCRAPE), |stream| {
            sleep(Duration::from_millis(1));
            stream.read(&mut [0; 100]).is_ok_and(|read| read > 0)
        });
    }),
    ("half requests", |address| hold(connect(address, 20, &SCRAPE[..30]))),
    ("a request byte by byte", a_request_byte_by_byte),
    ("an enormous header", |address| {
        http::raw(address, &with_header(SCRAPE, &[b"X: ", &vec![b'x'; 8 << 20][..]].concat()));
    }),
    ("a body without end", |address| {
        let head = b"POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000000\r\n\r\n";
        send_for_a_while(connect(address, 1, head), &[0; 1 << 16]);
    }),
    // With a method that is answered, the body goes on after the response.
    ("chunks without end", |address| {
        let head = b"GET /healthz HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = [&b"10000\r\n"[..], &[0; 1 << 16], b"\r\n"].concat();
        send_for_a_while(connect(address, 1, head), &chunk);
    }),
    ("a pipeline", |address| {
        let probes = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".repeat(200);
        read_all(connect(address, 1, &[&probes, LAST_SCRAPE].concat()));
    }),
    ("a flood of connections", |address| hold(connect(address, 500, b""))),
    // A socket that is closed with bytes unread is reset: in the middle of a response, and of a request.
    ("resets", |address| {
        for request in [SCRAPE, &[SCRAPE, &SCRAPE[..20]].concat()] {
            read_once(&mut connect(address, 2, request), 1);
        }
    }),
];

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";
const LAST_SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// How long a client holds what it has.
const HOLD: Duration = Duration::from_millis(300);

/// Connections that have sent this. The server may close any of them at any time.
fn connect(address: SocketAddr, count: usize, request: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(HOLD)).unwrap();
        stream.set_write_timeout(Some(HOLD)).unwrap();
        stream.write_all(request).ok()?;
        Some(stream)
    };
    (0..count).filter_map(connect).collect()
}

fn with_header(request: &[u8], header: &[u8]) -> Vec<u8> {
    [&request[..request.len() - 2], header, b"\r\n\r\n"].concat()
}

/// A response is whole, or none at all where the connection had to make room.
fn read_all(streams: Vec<TcpStream>) {
    for mut stream in streams {
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(0) => {}
            Ok(_) => drop(Response::parse(&bytes)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

fn read_once(streams: &mut [TcpStream], length: usize) {
    for stream in streams {
        let _ = stream.read(&mut vec![0; length]);
    }
}

fn hold(streams: Vec<TcpStream>) {
    sleep(HOLD);
    drop(streams);
}

fn each_for_a_while(streams: Vec<TcpStream>, mut act: impl FnMut(&mut TcpStream) -> bool) {
    for mut stream in streams {
        let start = Instant::now();
        while start.elapsed() < HOLD && act(&mut stream) {}
    }
}

/// Sends the same until the server has had enough.
fn send_for_a_while(streams: Vec<TcpStream>, bytes: &[u8]) {
    each_for_a_while(streams, |stream| stream.write_all(bytes).is_ok());
}

/// Each sends more scrapes than fit into the kernel's buffers, and reads only that a response begins; until the buffers
/// are full, each is one more scrape.
fn readers_that_do_not_read(address: SocketAddr) {
    let mut all = Vec::new();
    for _ in 0..20 {
        let mut streams = connect(address, 1, &SCRAPE.repeat(50));
        read_once(&mut streams, 1);
        all.extend(streams);
    }
    hold(all);
}

/// Slow, but a valid request.
fn a_request_byte_by_byte(address: SocketAddr) {
    let mut streams = connect(address, 1, b"");
    for byte in LAST_SCRAPE {
        streams.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        sleep(Duration::from_millis(2));
    }
    read_all(streams);
}
