//! A response body with a limit, of all of it or of each line. Hand-written, because http-body-util limits whole bodies only,
//! and a watch has no end.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

type BoxError = Box<dyn Error + Send + Sync>;

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
