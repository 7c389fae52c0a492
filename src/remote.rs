//! What asking any server takes: an answer that is read while it comes, and errors as text.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// What a server says, or is quoted, is kept and logged up to this.
const LONGEST_MESSAGE: usize = 300;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why an answer could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Nothing that is asked for is that long.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// The reader panicked.
    #[error("a fault of this program: {0}")]
    Fault(String),
}

/// Reads an answer as it comes, so that no more of it is kept than the reader wants. Libraries that parse from a reader
/// block: they do so on a thread of their own.
pub(crate) async fn read<B, T>(
    body: B,
    limit: usize,
    parse: impl FnOnce(Pieces) -> T + Send + 'static,
) -> Result<T, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let parsed = tokio::task::spawn_blocking(move || parse(Pieces { receiver, piece: Bytes::new() }));
    let mut body = Limited::new(body, limit);
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let piece = frame.into_data().unwrap_or_default();
                if sender.send(piece).await.is_err() {
                    // The reader has met what it cannot use.
                    break;
                }
            }
            Err(error) => {
                let is_too_long = error.is::<LengthLimitError>();
                broken = Some(if is_too_long {
                    ReadError::TooLong(limit)
                } else {
                    ReadError::Broken(chain(&*error))
                });
                break;
            }
        }
    }
    drop(sender);
    let parsed = parsed.await.map_err(|error| ReadError::Fault(error.to_string()))?;
    // What it made of half an answer is nothing.
    broken.map_or(Ok(parsed), Err)
}

/// The pieces of an answer, as something to read from.
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// As much of what a server says, or is quoted, as a person reads: it makes no lines and no colours of its own in a log.
pub(crate) fn begin(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(LONGEST_MESSAGE).collect()
}

/// An error and its causes, without what an outer one repeats of an inner.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            let _ = write!(text, ": {inner}");
        }
        cause = error.source();
    }
    text
}

/// An error and its causes. An I/O error that wraps another one names the causes of that one as its own.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

/// A body of which no more than a limit is read: of all of it, or of a line.
pub(crate) struct LimitedBody<B> {
    body: B,
    limit: usize,
    is_per_line: bool,
    received: usize,
}

impl<B> LimitedBody<B> {
    pub(crate) fn new(body: B, limit: usize, is_per_line: bool) -> Self {
        Self { body, limit, is_per_line, received: 0 }
    }
}

/// A body, or a line of it, that is longer than anything that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("longer than {0} bytes")]
pub(crate) struct BodyTooLong(usize);

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            match data.iter().rposition(|byte| *byte == b'\n').filter(|_| self.is_per_line) {
                Some(line_end) => self.received = data.len() - line_end - 1,
                None => self.received += data.len(),
            }
            if self.received > self.limit {
                return Poll::Ready(Some(Err(BodyTooLong(self.limit).into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_short_line() {
        assert_eq!(begin("a\u{1b}[31mb\r\n2026 ERROR c\0"), "a [31mb  2026 ERROR c ");
        assert_eq!(begin(&"\u{e9}".repeat(1000)), "\u{e9}".repeat(300));
    }
}
