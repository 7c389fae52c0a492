//! A kubelet of the test's own: what a real one answered, its three kinds of certificate, and all that goes wrong.

mod answer;
mod certificates;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::PATIENCE;
pub(crate) use answer::{Fault, METRICS, SUMMARY, Summary, metrics_page};
pub(crate) use certificates::{Certificate, Pki};

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct State {
    summary: String,
    metrics: String,
    /// The path that it is about, what happens, and how often yet.
    faults: Vec<(&'static str, Fault, usize)>,
    asked: Vec<Asked>,
    /// Requests that are not answered yet, and the most there were at once.
    open: (usize, usize),
    /// The tokens that are good; `None`: whatever is shown.
    tokens: Option<Vec<String>>,
    /// `None`: plain HTTP.
    tls: Option<Arc<ServerConfig>>,
    /// The TLS alert that ends each handshake.
    alert: Option<u8>,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

/// The kubelet, running.
pub(crate) struct Kubelet {
    shared: Arc<Shared>,
    address: SocketAddr,
    directory: TempDir,
    pub(crate) pki: Pki,
}

impl Kubelet {
    /// One with the recorded answers, by plain HTTP.
    pub(crate) fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// The same at an address that is the node's, and not this machine's usual name of itself.
    pub(crate) fn start_with(certificate: Certificate) -> Self {
        let kubelet = Self::listen("127.0.0.2:0");
        kubelet.show(certificate);
        kubelet
    }

    fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { metrics: metrics_page(&[]), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), news: Condvar::new() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.connected(stream));
            }
        });
        let kubelet = Self { shared, address, directory: tempfile::tempdir().unwrap(), pki: Pki::new() };
        kubelet.tell(&Summary::recorded());
        kubelet
    }

    /// From now on it shows this certificate, by TLS.
    pub(crate) fn show(&self, certificate: Certificate) {
        self.shared.lock().tls = Some(self.pki.server(certificate, self.address.ip()));
    }

    /// From now on each handshake ends with this alert.
    pub(crate) fn alert(&self, alert: u8) {
        self.shared.lock().alert = Some(alert);
    }

    /// What it says of volumes from now on.
    pub(crate) fn tell(&self, summary: &Summary) {
        self.shared.lock().summary = summary.to_string();
    }

    /// The claims that it exposes itself from now on.
    pub(crate) fn expose(&self, claims: &[(&str, &str)]) {
        self.shared.lock().metrics = metrics_page(claims);
    }

    /// The next so many requests for a path go wrong.
    pub(crate) fn fault(&self, path: &'static str, fault: Fault, times: usize) {
        self.shared.lock().faults.push((path, fault, times));
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    pub(crate) fn require_tokens(&self, tokens: &[&str]) {
        self.shared.lock().tokens = Some(tokens.iter().map(|token| (*token).to_owned()).collect());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path == path).count()
    }

    /// The most requests that there were at one time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.lock().open.1
    }

    /// Waits until a path was asked for so often.
    pub(crate) fn wait_for(&self, path: &str, times: usize) {
        let start = Instant::now();
        let mut state = self.shared.lock();
        while state.asked.iter().filter(|asked| asked.path == path).count() < times {
            let left = PATIENCE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "{path} is not asked for {times} times: {:#?}", state.asked);
            state = self.shared.news.wait_timeout(state, left).unwrap().0;
        }
    }

    /// `--kubelet-endpoint` and all.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.shared.lock().tls.is_some() { "https" } else { "http" };
        format!("--kubelet-endpoint={scheme}://{}", self.address)
    }

    /// A file of the test's own.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn connected(&self, mut stream: TcpStream) {
        let (tls, alert) = {
            let state = self.lock();
            (state.tls.clone(), state.alert)
        };
        if let Some(alert) = alert {
            let _ = stream.read(&mut [0; 4096]);
            // A record of TLS: an alert, fatal.
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, alert]);
            return;
        }
        let _ = match tls {
            Some(config) => {
                let connection = ServerConnection::new(config).unwrap();
                self.serve(&mut StreamOwned::new(connection, stream))
            }
            None => self.serve(&mut stream),
        };
    }

    /// One request, and its answer.
    fn serve(&self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let (fault, body) = self.arrived(&String::from_utf8_lossy(&head));
        let outcome = answer::send(stream, fault, &body);
        self.lock().open.0 -= 1;
        outcome
    }

    /// Takes a request down: what goes wrong with it, and the body of a good answer.
    fn arrived(&self, head: &str) -> (Option<Fault>, String) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let header = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
        });
        let mut state = self.lock();
        state.open.0 += 1;
        state.open.1 = state.open.1.max(state.open.0);
        let fault = state.faults.iter().position(|(of, ..)| *of == path).map(|at| {
            let (_, fault, times) = &mut state.faults[at];
            let fault = fault.clone();
            *times -= 1;
            if *times == 0 {
                state.faults.remove(at);
            }
            fault
        });
        let is_known = state.tokens.as_ref().is_none_or(|good| {
            let shown = header.as_ref().and_then(|value| value.strip_prefix("Bearer "));
            shown.is_some_and(|shown| good.iter().any(|token| token == shown))
        });
        let fault = fault.or((!is_known).then(Fault::unauthorized));
        let body = if path.ends_with(SUMMARY) { state.summary.clone() } else { state.metrics.clone() };
        state.asked.push(Asked { path, authorization: header });
        self.news.notify_all();
        (fault, body)
    }
}
