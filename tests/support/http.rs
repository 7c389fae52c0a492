//! An HTTP client that sends whatever a test wants.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use flate2::read::GzDecoder;
use socket2::{Domain, Socket, Type};

use super::PATIENCE;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }

    /// The decompressed body.
    pub(crate) fn text(&self) -> String {
        let mut bytes = Vec::new();
        match self.header("content-encoding") {
            Some("gzip") => drop(GzDecoder::new(&self.body[..]).read_to_end(&mut bytes).unwrap()),
            None => bytes.clone_from(&self.body),
            other => panic!("unknown encoding {other:?}"),
        }
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no response: {}", bytes.escape_ascii()));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        });
        Self { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects from another address of the loopback interface: to the server another machine.
pub(crate) fn connect_from(address: SocketAddr, client: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a scrape on a connection of its own. Its response may come later.
pub(crate) fn send_scrape(address: SocketAddr) -> TcpStream {
    send(address, "/metrics")
}

/// Sends a request of this path, in the same way.
pub(crate) fn send(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

/// One request on a connection that is kept, and its whole response; aborted if the server closed before it began.
pub(crate) fn exchange(stream: &mut BufReader<TcpStream>, request: &str) -> io::Result<Response> {
    let sent = stream.get_mut().write_all(request.as_bytes());
    let is_closed =
        sent.and_then(|()| stream.fill_buf().map(<[u8]>::is_empty)).or_else(|error| match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(true),
            _ => Err(error),
        })?;
    if is_closed {
        return Err(ErrorKind::ConnectionAborted.into());
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let mut response = Response::parse(&head);
    response.body = vec![0; response.header("content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut response.body)?;
    Ok(response)
}

/// Reads a response until the server closes.
pub(crate) fn receive(mut stream: TcpStream) -> Response {
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    Response::parse(&response)
}

/// Sends bytes, and reads until the server closes.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(request);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    response
}

/// One request on a connection of its own.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &[name, ": ", value, "\r\n"].concat();
    }
    text += "\r\n";
    Response::parse(&raw(address, text.as_bytes()))
}

pub(crate) fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(address, "GET", path, headers)
}
