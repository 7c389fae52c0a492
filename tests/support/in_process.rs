//! The HTTP server in this process, on connections in memory and tokio's clock: paused, it only moves while all wait.

use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use disk_usage_exporter::collect::{CollectionPanicked, ScrapeRequest};
use disk_usage_exporter::health::Health;
use disk_usage_exporter::server::{self, Limits, Representation, ResponseMemory, Routes, SharedBody};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::http::Response;

pub(crate) const PROMETHEUS: IpAddr = peer(1);

/// What a connection holds of a response that nobody reads, like a socket's buffers.
pub(crate) const PIPE_BYTES: usize = 16 << 10;
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

type Accepted = io::Result<(DuplexStream, IpAddr)>;

/// The server, until it is dropped.
pub(crate) struct InProcessServer {
    connections: mpsc::UnboundedSender<Accepted>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) run: JoinHandle<()>,
    accept_calls: Arc<AtomicUsize>,
}

impl InProcessServer {
    /// Starts it; scrapes get what `scrape` makes of them.
    pub(crate) fn start<F>(
        limits: Limits,
        scrape: impl Fn(ScrapeRequest<Representation>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<SharedBody, CollectionPanicked>> + Send + 'static,
    {
        let (connections, accepted) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let accept_calls = Arc::new(AtomicUsize::new(0));
        let calls = Arc::clone(&accept_calls);
        let listener = stream::unfold(accepted, move |mut accepted| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { accepted.recv().await.map(|connection: Accepted| (connection, accepted)) }
        });
        let routes = Routes::new(scrape, Duration::from_secs(2), Arc::new(Health::default()));
        let stop_signal = async { drop(stopped.await) };
        let run = tokio::spawn(server::run(listener, Arc::new(routes), limits, stop_signal));
        Self { connections, stop: Some(stop), run, accept_calls }
    }

    pub(crate) fn connect(&self, peer: IpAddr) -> Client {
        self.connect_by(peer, PIPE_BYTES)
    }

    /// A connection that takes so many bytes until its client reads.
    pub(crate) fn connect_by(&self, peer: IpAddr, pipe_bytes: usize) -> Client {
        let (near, far) = duplex(pipe_bytes);
        self.connections.send(Ok((far, peer))).unwrap();
        Client(near)
    }

    /// One request on a new connection.
    pub(crate) async fn get(&self, peer: IpAddr, path: &str) -> Response {
        let mut client = self.connect(peer);
        client.send(path).await;
        client.response().await.expect("a response")
    }

    /// Makes the next `accept` fail.
    pub(crate) fn fail_accept(&self, error: io::Error) {
        self.connections.send(Err(error)).unwrap();
    }

    pub(crate) fn accept_calls(&self) -> usize {
        self.accept_calls.load(Ordering::SeqCst)
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

/// One client's connection.
pub(crate) struct Client(pub(crate) DuplexStream);

impl Client {
    pub(crate) async fn send(&mut self, path: &str) {
        self.send_raw(request(path).as_bytes()).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads one whole response; `None` if the server closed the connection before its end.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let mut response = Response::parse(&head);
        response.body = vec![0; response.header("content-length").unwrap().parse().unwrap()];
        self.0.read_exact(&mut response.body).await.ok()?;
        Some(response)
    }

    /// Everything until the server closes.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// Reads a part of what is sent.
    pub(crate) async fn read_part(&mut self, length: usize) {
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
    }

    /// Whether the server has closed it, without reading what it was sent.
    pub(crate) async fn is_closed(&mut self) -> bool {
        settle().await;
        self.0.write_all(b"G").await.is_err()
    }
}

pub(crate) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Lets the server do everything that it can do now. No time passes.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Bodies whose bytes in memory are counted.
#[derive(Clone, Default)]
pub(crate) struct Bodies {
    pub(crate) memory: ResponseMemory,
    /// Every chunk in memory has a weak reference.
    counter: Arc<()>,
}

struct LiveChunk(Vec<u8>, #[expect(dead_code, reason = "it is counted")] Weak<()>);

impl AsRef<[u8]> for LiveChunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Bodies {
    /// A body of so many chunks.
    pub(crate) fn make(&self, chunks: usize) -> SharedBody {
        let chunk = |_| Bytes::from_owner(LiveChunk(vec![b'a'; CHUNK_BYTES], Arc::downgrade(&self.counter)));
        self.memory.share((0..chunks).map(chunk).collect())
    }

    pub(crate) fn live_bytes(&self) -> usize {
        Arc::weak_count(&self.counter) * CHUNK_BYTES
    }
}

/// Scrapes that wait until the test answers them.
#[derive(Clone)]
pub(crate) struct Gate(broadcast::Sender<SharedBody>);

impl Default for Gate {
    fn default() -> Self {
        Self(broadcast::Sender::new(1))
    }
}

impl Gate {
    pub(crate) fn wait(&self) -> impl Future<Output = Result<SharedBody, CollectionPanicked>> + Send + use<> {
        let mut body = self.0.subscribe();
        async move { body.recv().await.map_err(|_| CollectionPanicked) }
    }

    /// Scrapes that wait, and whose clients are still there.
    pub(crate) fn waiting(&self) -> usize {
        self.0.receiver_count()
    }

    pub(crate) fn answer_all(&self, body: &SharedBody) {
        let _ = self.0.send(body.clone());
    }
}

pub(crate) const fn peer(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// A server whose scrapes all get a body of so many chunks of their own.
pub(crate) fn server(limits: Limits, chunks: usize) -> (InProcessServer, Bodies) {
    let bodies = Bodies::default();
    let made = bodies.clone();
    (InProcessServer::start(limits, move |_| ready(Ok(made.make(chunks)))), bodies)
}

/// A server whose scrapes wait until the test answers them.
pub(crate) fn gated_server(limits: Limits) -> (InProcessServer, Gate) {
    let gate = Gate::default();
    let waiting = gate.clone();
    (InProcessServer::start(limits, move |_| waiting.wait()), gate)
}
