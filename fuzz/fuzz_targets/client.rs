//! A client in memory, on a clock that only moves when nothing else does, and the server that it talks to.

mod answer;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use disk_usage_exporter::collect::{ScrapeRequest, SingleFlight};
use disk_usage_exporter::fuzzing::serve;
use disk_usage_exporter::health::Health;
use disk_usage_exporter::runtime::{CancelHandle, Deadline};
use disk_usage_exporter::server::{Form, Routes, Unsent};
use disk_usage_exporter::snapshot::Snapshot;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::unconstrained;

pub(crate) use answer::Answer;

/// By then every connection has ended: the limits for a request's head, a scrape and an unread answer together.
const LONGEST: Duration = Duration::from_secs(20 + 12 + 30 + 5);
const STEP: Duration = Duration::from_secs(7);
const MOST_PIECES: usize = 64;

/// How many collections may be asked for: any request may be for the page.
pub(crate) fn wishes(sent: &[u8]) -> usize {
    sent.windows(7).filter(|window| *window == b"HTTP/1.").count()
}

/// The real routes. What is collected is nothing, at once, and counted.
pub(crate) struct Server {
    routes: Arc<Routes>,
    scrapes: SingleFlight<Form>,
    collections: &'static AtomicUsize,
}

impl Server {
    pub(crate) fn new(collections: &'static AtomicUsize, body: fn(Form) -> Bytes) -> Self {
        let collect = move |deadline: &Deadline, _| {
            // A request's deadline lies ahead of it.
            if !deadline.is_over() {
                collections.fetch_add(1, Ordering::SeqCst);
            }
            Snapshot { complete: true, ..Snapshot::default() }
        };
        let encode = move |_: &Snapshot, form| body(form);
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, encode).unwrap();
        let health = Arc::new(Health::default());
        let routes = Routes::new(scrapes.clone(), Duration::from_secs(2), health, Unsent::default());
        Self { routes: Arc::new(routes), scrapes, collections }
    }

    /// Waits until the collector has answered all who have asked: it answers in their order.
    fn settle(&self) {
        let form = Form::Page { gzip: false };
        let mut ask = pin!(unconstrained(
            self.scrapes.scrape(ScrapeRequest { measuring: Duration::ZERO, representation: form })
        ));
        let woken = Woken::new();
        while ask.as_mut().poll(&mut Context::from_waker(&woken.waker())).is_pending() {
            std::thread::park();
        }
    }
}

/// What wakes this thread, and remembers it.
struct Woken(AtomicBool, std::thread::Thread);

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true), std::thread::current()))
    }

    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        self.1.unpark();
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
            let connection = Box::pin(serve(far, Arc::clone(&server.routes)));
            let mut talk = Talk {
                server,
                wishes: wishes(sent),
                answered: 0,
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

struct Talk<'a, C> {
    server: &'a Server,
    wishes: usize,
    /// Collections that were made, and their waiting requests told.
    answered: usize,
    reads: bool,
    connection: Option<Pin<Box<C>>>,
    woken: Arc<Woken>,
    near: DuplexStream,
    received: Vec<u8>,
}

impl<C: Future<Output = ()>> Talk<'_, C> {
    async fn send(&mut self, client: Client, sent: &[u8]) {
        let piece = if client.piece == 0 { sent.len() } else { client.piece };
        for mut piece in sent.chunks(piece.max(sent.len() / MOST_PIECES).max(1)) {
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
        // Whoever asked without being expected to is counted, too.
        self.server.settle();
        self.run();
        let mut waited = Duration::ZERO;
        while self.connection.is_some() {
            assert!(waited < LONGEST, "the connection does not end");
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
                // It may wait for the collector.
                if self.answered < self.wishes {
                    self.server.settle();
                    self.answered = self.server.collections.load(Ordering::SeqCst);
                }
                if !self.woken.0.swap(false, Ordering::SeqCst) {
                    break;
                }
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
