//! A fake kubelet: the recorded responses of a real one, its kinds of serving certificate, and failures.

mod certificates;
mod response;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;
use super::exposition::Exposition;
pub(crate) use certificates::{Certificate, Pki};
use certificates::{NO_CERTIFICATE_ALERT, Serving};
pub(crate) use response::{Fault, METRICS, SUMMARY, recorded_summary, summary};

pub(crate) const CAPACITY: &str = "kubelet_volume_stats_capacity_bytes";
pub(crate) const ERRORS: &str = "kubelet_volume_stats_scrape_errors_total";

/// The claims that have a size.
pub(crate) fn claims(scrape: &Exposition) -> Vec<&str> {
    scrape.label(CAPACITY, "persistentvolumeclaim")
}

/// Path and `Authorization` of a request.
pub(crate) type Request = (String, Option<String>);

#[derive(Default)]
struct State {
    summary: String,
    metrics: String,
    /// The path, the failure, and how many more requests fail.
    faults: Vec<(&'static str, Fault, usize)>,
    requests: Vec<Request>,
    open_connections: usize,
    serving: Serving,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub(crate) struct Kubelet {
    shared: Arc<Shared>,
    address: SocketAddr,
    directory: TempDir,
    pub(crate) pki: Pki,
}

impl Kubelet {
    /// Serves the recorded responses over plain HTTP.
    pub(crate) fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// Serves them over TLS, on an address that only a certificate for the node's address has.
    pub(crate) fn start_with(certificate: Certificate) -> Self {
        let kubelet = Self::listen("127.0.0.2:0");
        kubelet.use_certificate(certificate);
        kubelet
    }

    fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve_connection(stream));
            }
        });
        let kubelet = Self { shared, address, directory: tempfile::tempdir().unwrap(), pki: Pki::new() };
        kubelet.set_summary(&recorded_summary(&[]));
        kubelet.expose(&[]);
        kubelet
    }

    pub(crate) fn use_certificate(&self, certificate: Certificate) {
        self.shared.lock().serving = self.pki.serving(certificate, self.address.ip());
    }

    pub(crate) fn set_summary(&self, summary: &Value) {
        self.shared.lock().summary = format!("{summary:#}");
    }

    /// Sets the claims (namespace and name) that its own metrics have.
    pub(crate) fn expose(&self, claims: &[(&str, &str)]) {
        self.shared.lock().metrics = response::metrics_page(claims);
    }

    /// Makes the next requests for a path fail.
    pub(crate) fn fault(&self, path: &'static str, fault: Fault, times: usize) {
        self.shared.lock().faults.push((path, fault, times));
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// How many requests for a path there were.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.shared.lock().count(path)
    }

    pub(crate) fn wait_for(&self, path: &str, times: usize) {
        self.wait_until(path, |state| state.count(path) >= times);
    }

    /// Waits until no client has a connection.
    pub(crate) fn wait_until_disconnected(&self) {
        self.wait_until("no connection", |state| state.open_connections == 0);
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let state =
            self.shared.changed.wait_timeout_while(self.shared.lock(), PATIENCE, |state| !is_so(state));
        let (state, timeout) = state.unwrap();
        assert!(!timeout.timed_out(), "{what}: {:#?}", state.requests);
    }

    /// `--kubelet-endpoint=<url>`.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if matches!(self.shared.lock().serving, Serving::Plain) { "http" } else { "https" };
        format!("--kubelet-endpoint={scheme}://{}", self.address)
    }

    /// Writes a file below the test's directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl State {
    fn count(&self, path: &str) -> usize {
        self.requests.iter().filter(|(requested, _)| requested == path).count()
    }

    fn next_fault(&mut self, path: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|(of, ..)| *of == path)?;
        let (_, fault, times) = &mut self.faults[index];
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            self.faults.remove(index);
        }
        Some(fault)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve_connection(&self, mut stream: TcpStream) {
        self.lock().open_connections += 1;
        let serving = self.lock().serving.clone();
        // A client that disconnects is no error.
        let _ = match serving {
            Serving::Plain => self.serve_requests(&mut stream),
            Serving::Tls(config) => {
                let connection = ServerConnection::new(config).unwrap();
                self.serve_requests(&mut StreamOwned::new(connection, stream))
            }
            Serving::NoCertificate => {
                stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(&NO_CERTIFICATE_ALERT))
            }
        };
        self.lock().open_connections -= 1;
        self.changed.notify_all();
    }

    /// Answers requests until the client disconnects or a fault ends the connection.
    fn serve_requests(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        loop {
            let mut head = Vec::new();
            // A TLS handshake on a plain port is answered like any malformed request.
            while !head.ends_with(b"\r\n\r\n") && !head.starts_with(b"\x16") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            let (fault, body) = self.record_request(&String::from_utf8_lossy(&head));
            if !response::send(stream, fault, &body)? {
                return Ok(());
            }
        }
    }

    fn record_request(&self, head: &str) -> (Option<Fault>, String) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let authorization = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
        });
        let mut state = self.lock();
        let fault = state.next_fault(&path);
        let body = if path == SUMMARY { state.summary.clone() } else { state.metrics.clone() };
        state.requests.push((path, authorization));
        self.changed.notify_all();
        (fault, body)
    }
}
