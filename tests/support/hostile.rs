//! Clients that mean harm, or are broken. An attack takes some tenths of a second, to be made again and again.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::http::{self, Response};

/// An attack, by its name.
pub(crate) type Attack = (&'static str, fn(SocketAddr));

pub(crate) const ATTACKS: [Attack; 14] = [
    ("scrapes at one time", scrapes_at_one_time),
    ("scrapes in haste", scrapes_in_haste),
    ("readers that do not read", readers_that_do_not_read),
    ("a reader that drips", a_reader_that_drips),
    ("half requests", half_requests),
    ("a request byte by byte", a_request_byte_by_byte),
    ("many headers", many_headers),
    ("an enormous header", an_enormous_header),
    ("a body without end", a_body_without_end),
    ("chunks without end", chunks_without_end),
    ("a pipeline", a_pipeline),
    ("a flood of connections", a_flood_of_connections),
    ("nonsense", nonsense),
    ("resets", resets),
];

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";
const LAST_SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// How long a client holds what it has.
const HOLD: Duration = Duration::from_millis(300);

/// The server may close any of these connections at any time.
fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HOLD)).unwrap();
    stream.set_write_timeout(Some(HOLD)).unwrap();
    Some(stream)
}

fn connect_many(address: SocketAddr, count: usize, request: &[u8]) -> Vec<TcpStream> {
    let streams = (0..count).filter_map(|_| connect(address));
    streams.filter_map(|mut stream| stream.write_all(request).is_ok().then_some(stream)).collect()
}

/// An answer is whole, or none at all where the connection had to make room.
fn read_answer(mut stream: TcpStream) {
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(0) => {}
        Ok(_) => drop(Response::parse(&bytes)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Sends the same until the server has had enough.
fn pump(mut stream: TcpStream, bytes: &[u8]) {
    let start = Instant::now();
    while start.elapsed() < HOLD && stream.write_all(bytes).is_ok() {}
}

fn scrapes_at_one_time(address: SocketAddr) {
    connect_many(address, 40, LAST_SCRAPE).into_iter().for_each(read_answer);
}

/// Who shares their collections must not share their haste.
fn scrapes_in_haste(address: SocketAddr) {
    let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.000001\r\n\
        Connection: close\r\n\r\n";
    connect_many(address, 6, request).into_iter().for_each(read_answer);
}

/// Each asks for more than fits into the kernel's buffers, and reads only that an answer begins; until the buffers are
/// full, each is one more scrape.
fn readers_that_do_not_read(address: SocketAddr) {
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.extend(connect_many(address, 1, &SCRAPE.repeat(50)).into_iter().map(|mut stream| {
            let _ = stream.read(&mut [0]);
            stream
        }));
    }
    std::thread::sleep(HOLD);
}

fn a_reader_that_drips(address: SocketAddr) {
    let mut streams = connect_many(address, 1, LAST_SCRAPE);
    for stream in &mut streams {
        let start = Instant::now();
        while start.elapsed() < HOLD && stream.read(&mut [0; 100]).is_ok_and(|read| read > 0) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn half_requests(address: SocketAddr) {
    let streams = connect_many(address, 20, &SCRAPE[..30]);
    std::thread::sleep(HOLD);
    drop(streams);
}

/// Slow, but a request as it should be.
fn a_request_byte_by_byte(address: SocketAddr) {
    let Some(mut stream) = connect(address) else { return };
    for byte in LAST_SCRAPE {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    read_answer(stream);
}

fn many_headers(address: SocketAddr) {
    let request = [&SCRAPE[..SCRAPE.len() - 2], &b"X: y\r\n".repeat(2_000), b"\r\n"].concat();
    http::raw(address, &request);
}

fn an_enormous_header(address: SocketAddr) {
    let request = [&SCRAPE[..SCRAPE.len() - 2], b"X: ", &vec![b'x'; 8 << 20], b"\r\n\r\n"].concat();
    http::raw(address, &request);
}

fn a_body_without_end(address: SocketAddr) {
    let head = b"POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000000\r\n\r\n";
    let bytes = vec![0; 1 << 16];
    for stream in connect_many(address, 1, head) {
        pump(stream, &bytes);
    }
}

/// With a method that is answered, the body goes on after the answer.
fn chunks_without_end(address: SocketAddr) {
    let head = b"GET /healthz HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [&b"10000\r\n"[..], &vec![0; 1 << 16], b"\r\n"].concat();
    for stream in connect_many(address, 1, head) {
        pump(stream, &chunk);
    }
}

fn a_pipeline(address: SocketAddr) {
    let requests =
        [b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".repeat(200), LAST_SCRAPE.to_vec()].concat();
    connect_many(address, 1, &requests).into_iter().for_each(read_answer);
}

/// Opened and left.
fn a_flood_of_connections(address: SocketAddr) {
    let streams = connect_many(address, 500, b"");
    std::thread::sleep(HOLD);
    drop(streams);
}

fn nonsense(address: SocketAddr) {
    let cases: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xaa\xbb\xcc\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"BREW /metrics HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"CONNECT metrics:443 HTTP/1.1\r\nConnection: close\r\n\r\n",
    ];
    for case in cases {
        for mut stream in connect_many(address, 1, case) {
            let _ = stream.read(&mut [0; 4096]);
        }
    }
}

/// A socket that is closed with bytes unread is reset: in the middle of an answer, and of a request.
fn resets(address: SocketAddr) {
    let requests = [SCRAPE.to_vec(), [SCRAPE, &SCRAPE[..20]].concat()];
    for request in requests {
        for mut stream in connect_many(address, 2, &request) {
            let _ = stream.read(&mut [0]);
        }
    }
}
