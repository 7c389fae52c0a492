//! A stream whose reader must keep up: an answer that is not taken in time is cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What a connection is doing: waiting for a request, making an answer, or sending it.
#[derive(Debug)]
pub(super) struct Activity {
    state: AtomicU8,
    /// The number of the body of its last answer, in the order in which bodies were made.
    body: AtomicU64,
    begin: Instant,
    /// When the client last took something of an answer, in milliseconds since the begin.
    progress: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        let (state, body, progress) = Default::default();
        Self { state, body, begin: Instant::now(), progress }
    }
}

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const SENDING: u8 = 2;

impl Activity {
    /// A request has come.
    pub(super) fn begin(&self) {
        self.state.store(ANSWERING, Ordering::Relaxed);
    }

    /// Its answer is made.
    pub(super) fn hand_over(&self, body: u64) {
        self.body.store(body, Ordering::Relaxed);
        self.set_progress();
        self.state.store(SENDING, Ordering::Relaxed);
    }

    fn set_progress(&self) {
        let since = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(since, Ordering::Relaxed);
    }

    /// How long ago the client last took something of its answer.
    pub(super) fn stalled_for(&self) -> Duration {
        self.begin.elapsed().saturating_sub(Duration::from_millis(self.progress.load(Ordering::Relaxed)))
    }

    /// The client does not take what is sent: there may be a second answer behind the one that was flushed.
    fn stalled(&self) {
        let _ = self.state.compare_exchange(IDLE, SENDING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// All that was to be sent is sent.
    fn flushed(&self) {
        let _ = self.state.compare_exchange(SENDING, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn is_sending(&self) -> bool {
        self.state.load(Ordering::Relaxed) == SENDING
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE
    }

    pub(super) fn body(&self) -> u64 {
        self.body.load(Ordering::Relaxed)
    }
}

/// A stream with a limit on how long writing may take, from the first write that must wait until the writer has
/// flushed all it had. A reader that takes a byte now and then gains no time by it.
pub(super) struct Paced<S> {
    stream: S,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    activity: Arc<Activity>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, limit: Duration, activity: Arc<Activity>) -> Self {
        Self { stream, limit, timer: Box::pin(sleep(limit)), waiting: false, activity }
    }

    fn check<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(written, Poll::Ready(Ok(_))) {
            self.activity.set_progress();
        }
        if written.is_pending() && !self.waiting {
            self.waiting = true;
            self.activity.stalled();
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        if self.waiting && self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.check(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        // hyper flushes the stream when it has written all it had.
        self.waiting = false;
        self.activity.flushed();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const LIMIT: Duration = Duration::from_secs(30);

    fn paused() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_reader_that_drips_is_cut_off() {
        paused().block_on(async {
            let (mut reader, writer) = duplex(16);
            let mut writer = Paced::new(writer, LIMIT, Arc::default());
            let dripping = tokio::spawn(async move {
                let start = Instant::now();
                while reader.read_u8().await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                start.elapsed()
            });
            let error = writer.write_all(&[0; 1000]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(writer);
            assert!(dripping.await.unwrap() >= LIMIT);
        });
    }

    #[test]
    fn a_reader_that_keeps_up_may_read_for_ever() {
        paused().block_on(async {
            let (mut reader, writer) = duplex(16);
            let mut writer = Paced::new(writer, LIMIT, Arc::default());
            let reading = tokio::spawn(async move {
                let mut taken = [0; 32];
                while reader.read_exact(&mut taken).await.is_ok() {
                    tokio::time::sleep(LIMIT / 2).await;
                }
            });
            for _ in 0..10 {
                writer.write_all(&[0; 32]).await.unwrap();
                writer.flush().await.unwrap();
            }
            drop(writer);
            reading.await.unwrap();
        });
    }
}
