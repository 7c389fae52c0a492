//! A response body with a limit, of all of it or of each line. Hand-written, because http-body-util limits whole bodies only,
//! and a watch has no end.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyDataStream, StreamBody};
use hyper::body::{Body, Frame};
use tower::BoxError;

/// A body, or a line of it, that is longer than anything that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("longer than {0} bytes")]
pub(crate) struct BodyTooLong(usize);

/// A body of which no more than a limit is read: of all of it, or of a line.
pub(crate) fn limited<B: Body<Data = Bytes, Error: Into<BoxError>>>(
    body: B,
    limit: usize,
    is_per_line: bool,
) -> impl Body<Data = Bytes, Error = BoxError> + use<B> {
    let mut received = 0;
    StreamBody::new(BodyDataStream::new(body).map(move |data| {
        let data = data.map_err(Into::into)?;
        match data.iter().rposition(|byte| *byte == b'\n').filter(|_| is_per_line) {
            Some(line_end) => received = data.len() - line_end - 1,
            None => received += data.len(),
        }
        if received > limit { Err(BodyTooLong(limit).into()) } else { Ok(Frame::data(data)) }
    }))
}
