//! Input of any size, of which no more than a limit is kept: files, response bodies, and lists in JSON.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyDataStream, StreamBody};
use hyper::body::{Body, Frame};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tower::BoxError;

/// The most values of what [`few_values`] reads.
const MAX_VALUES: usize = 10_000;

/// Reads a file that is not larger than a limit.
pub(crate) fn read_limited(file: File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let size = file.metadata()?.len().min(max_bytes);
    bytes.try_reserve_exact(usize::try_from(size).unwrap_or_default())?;
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// A body, or a line of it, that is longer than anything that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("longer than {0} bytes")]
pub(crate) struct BodyTooLong(usize);

/// A body of which no more than a limit is read: of all of it, or of a line. `http_body_util::Limited` has no limit of a line,
/// and a watch has no end.
pub(crate) fn limited_body<B: Body<Data = Bytes, Error: Into<BoxError>>>(
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

/// Reads something unless it has more values than make sense. Parsed, an empty one takes a hundred times as much memory.
pub(crate) fn few_values<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?.get();
    // Each value begins after one of these characters.
    if json.bytes().filter(|byte| b"[{,".contains(byte)).count() > MAX_VALUES {
        return Err(D::Error::custom(format_args!("more than {MAX_VALUES} values")));
    }
    serde_json::from_str(json).map_err(D::Error::custom)
}

/// The elements of a JSON list, up to a number: parsed, even the shortest element takes 16 bytes.
#[derive(Debug, Default)]
pub(crate) struct RawList<'a, const MAX: usize> {
    pub(crate) items: Vec<&'a RawValue>,
    /// There are more than these.
    pub(crate) has_more: bool,
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for RawList<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor::<MAX>)
    }
}

struct ListVisitor<const MAX: usize>;

impl<'de, const MAX: usize> Visitor<'de> for ListVisitor<MAX> {
    type Value = RawList<'de, MAX>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = RawList::default();
        while list.items.len() < MAX {
            let Some(item) = elements.next_element()? else { return Ok(list) };
            list.items.push(item);
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {
            list.has_more = true;
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345").unwrap();
        let read = |max_bytes| read_limited(file.reopen().unwrap(), max_bytes);
        assert_eq!(read(5).unwrap(), b"12345");
        assert_eq!(read(4).unwrap_err().to_string(), "larger than 4 bytes");
        // It tells no size, and has no end.
        let endless = File::open("/dev/zero").unwrap();
        assert_eq!(read_limited(endless, 1 << 20).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_list_keeps_its_first_elements() {
        let kept = |json: &str| {
            let list: RawList<'_, 2> = serde_json::from_str(json).ok()?;
            Some((list.items.iter().map(|item| item.get().to_owned()).collect::<Vec<_>>(), list.has_more))
        };
        let strings = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        assert_eq!(kept("[]"), Some((vec![], false)));
        assert_eq!(kept("[1, {}]"), Some((strings(&["1", "{}"]), false)));
        assert_eq!(kept("[1, [2], 3, {\"a\": 4}]"), Some((strings(&["1", "[2]"]), true)));
        assert_eq!(kept("[1, 2, 3"), None);
        assert_eq!(kept("{}"), None);
    }

    #[test]
    fn something_of_too_many_values_is_not_read() {
        let read = |values: usize| {
            let json = format!("[{}]", vec!["{}"; values].join(","));
            let read: serde_json::Result<Vec<IgnoredAny>> =
                few_values(&mut serde_json::Deserializer::from_str(&json));
            read.map(|read| read.len()).map_err(|error| error.to_string())
        };
        // One before each element, and one in it.
        assert_eq!(read(MAX_VALUES / 2), Ok(MAX_VALUES / 2));
        assert_eq!(read(MAX_VALUES / 2 + 1), Err("more than 10000 values".to_owned()));
    }
}
