//! A client in memory, on a clock that only moves when nothing else does, and the server that it talks to.

mod answer;

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use disk_usage_exporter::collect::{MIN_MEASURING_TIME, ScrapeRequest};
use disk_usage_exporter::fuzzing::serve_connection;
use disk_usage_exporter::health::Health;
use disk_usage_exporter::server::{Limits, Representation, ResponseMemory, Routes};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::unconstrained;

pub(crate) use answer::Answer;

/// By then every connection has ended: the limits for a request's head and an unread response together.
const MAX_TIME: Duration = Duration::from_secs(20 + 30 + 5);
const STEP: Duration = Duration::from_secs(7);
const MAX_PIECES: usize = 64;

/// How many collections may be requested: any request may be for the page.
pub(crate) fn max_scrapes(sent: &[u8]) -> usize {
    sent.windows(7).filter(|window| *window == b"HTTP/1.").count()
}

/// The real routes. What is collected is nothing, at once, and counted.
pub(crate) struct Server {
    routes: Arc<Routes>,
}

impl Server {
    pub(crate) fn new(scrapes: &'static AtomicUsize, body: fn(Representation) -> Bytes) -> Self {
        let memory = ResponseMemory::default();
        let scrape = move |ScrapeRequest { measuring, representation }: ScrapeRequest<_>| {
            assert!(measuring >= MIN_MEASURING_TIME);
            scrapes.fetch_add(1, Ordering::SeqCst);
            ready(Ok(memory.share([body(representation)].into_iter().collect())))
        };
        Self { routes: Arc::new(Routes::new(scrape, Duration::from_secs(2), Arc::new(Health::default()))) }
    }
}

/// Remembers that the connection was woken.
struct Woken(AtomicBool);

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How the client behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// Closes its side when it has sent all.
    closes: bool,
    /// Does not read, and there is hardly any room for what it leaves.
    never_reads: bool,
    /// Lets time go by between pieces.
    is_slow: bool,
    piece: usize,
}

impl Client {
    pub(crate) fn new(behaviour: u8, piece: u8) -> Self {
        let has = |bit: u8| behaviour & bit != 0;
        Self { closes: has(1), never_reads: has(2), is_slow: has(4), piece: piece.into() }
    }

    /// Whether it gets every answer to its end.
    pub(crate) fn reads_all(self) -> bool {
        !self.closes && !self.never_reads
    }

    /// Sends, and receives until the connection ends.
    pub(crate) fn ask(self, server: &Server, sent: &[u8]) -> Vec<u8> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        // Only this task's own budget would be spent.
        runtime.block_on(unconstrained(async {
            let (near, far) = duplex(if self.never_reads { 64 } else { 64 << 10 });
            let connection = Box::pin(serve_connection(far, Arc::clone(&server.routes), Limits::default()));
            let mut talk = Talk {
                reads: !self.never_reads,
                connection: Some(connection),
                woken: Woken::new(),
                near,
                received: Vec::new(),
            };
            talk.send(self, sent).await;
            talk.finish(self.closes).await;
            talk.received
        }))
    }
}

struct Talk<C> {
    reads: bool,
    connection: Option<Pin<Box<C>>>,
    woken: Arc<Woken>,
    near: DuplexStream,
    received: Vec<u8>,
}

impl<C: Future<Output = ()>> Talk<C> {
    async fn send(&mut self, client: Client, sent: &[u8]) {
        let piece = if client.piece == 0 { sent.len() } else { client.piece };
        for mut piece in sent.chunks(piece.max(sent.len() / MAX_PIECES).max(1)) {
            while !piece.is_empty() {
                match with_noop(|context| Pin::new(&mut self.near).poll_write(context, piece)) {
                    Poll::Ready(Ok(written)) => piece = &piece[written..],
                    // It is closed, or nobody takes what is sent.
                    Poll::Ready(Err(_)) => return,
                    Poll::Pending if !self.run() => return,
                    Poll::Pending => {}
                }
            }
            self.run();
            if client.is_slow {
                self.wait().await;
            }
        }
    }

    async fn finish(&mut self, closes: bool) {
        if closes {
            let _ = with_noop(|context| Pin::new(&mut self.near).poll_shutdown(context));
            self.run();
        }
        let mut waited = Duration::ZERO;
        while self.connection.is_some() {
            assert!(waited < MAX_TIME, "the connection does not end");
            self.wait().await;
            waited += STEP;
        }
        self.read();
    }

    async fn wait(&mut self) {
        tokio::time::advance(STEP).await;
        self.run();
    }

    /// Lets the server work until it waits for the client or the clock; whether it did anything.
    fn run(&mut self) -> bool {
        let mut rounds = 0;
        while let Some(connection) = &mut self.connection {
            if !self.woken.0.swap(false, Ordering::SeqCst) {
                break;
            }
            rounds += 1;
            assert!(rounds < 100_000, "it spins");
            let waker = self.woken.waker();
            if connection.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.connection = None;
            }
            if self.reads {
                self.read();
            }
        }
        rounds > 0
    }

    fn read(&mut self) {
        let mut room = [0; 4096];
        loop {
            let mut room = ReadBuf::new(&mut room);
            let read = with_noop(|context| Pin::new(&mut self.near).poll_read(context, &mut room));
            if read.is_pending() || room.filled().is_empty() {
                return;
            }
            self.received.extend_from_slice(room.filled());
        }
    }
}

fn with_noop<T>(poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    poll(&mut Context::from_waker(Waker::noop()))
}
