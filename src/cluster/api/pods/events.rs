//! The events of a watch: lines of JSON without end.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::failure::Failure;
use super::super::pod_index::ApiPod;
use crate::cluster::schema::Pod;
use crate::remote;

/// Longer than this no event is kept: it is passed over.
const LONGEST: usize = 8 << 20;

/// What a watch tells.
#[derive(Debug)]
pub(in crate::cluster::api) enum Event {
    /// A pod is new, or is another now.
    Changed(ApiPod),
    /// A pod is gone, by its uid.
    Gone(String),
    /// Nothing happened until here.
    Bookmark,
    /// The server no longer knows what happened since.
    Expired,
}

/// An event, and from where to watch after it.
#[derive(Debug)]
pub(in crate::cluster::api) struct Told {
    pub(in crate::cluster::api) event: Event,
    pub(in crate::cluster::api) version: Option<String>,
}

/// Cuts what is received into lines.
#[derive(Debug, Default)]
pub(in crate::cluster::api) struct Lines {
    begun: BytesMut,
    /// The line at hand is too long: passed over up to its end.
    passing_over: bool,
}

impl Lines {
    /// The lines that a piece completes; an error for one that is too long.
    pub(in crate::cluster::api) fn push(&mut self, mut piece: Bytes) -> Vec<Result<Bytes, Failure>> {
        let mut lines = Vec::new();
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let rest = piece.split_to(end);
            bytes::Buf::advance(&mut piece, 1);
            lines.extend(self.extend(&rest));
            let line = self.begun.split().freeze();
            if !std::mem::take(&mut self.passing_over) && !line.is_empty() {
                lines.push(Ok(line));
            }
        }
        lines.extend(self.extend(&piece));
        lines
    }

    fn extend(&mut self, bytes: &[u8]) -> Option<Result<Bytes, Failure>> {
        if self.passing_over {
            return None;
        }
        if self.begun.len() + bytes.len() > LONGEST {
            self.begun = BytesMut::new();
            self.passing_over = true;
            return Some(Err(Failure::Decode(format!("an event of more than {LONGEST} bytes"))));
        }
        self.begun.extend_from_slice(bytes);
        None
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: Position,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
    message: Option<String>,
}

/// What a line says.
pub(in crate::cluster::api) fn parse(line: &[u8]) -> Result<Told, Failure> {
    let line: Line<'_> = from_json(line)?;
    let object = line.object.get().as_bytes();
    let event = match line.r#type {
        "ADDED" | "MODIFIED" => Event::Changed(from_json::<Pod>(object)?.into()),
        "DELETED" => {
            let pod: ApiPod = from_json::<Pod>(object)?.into();
            Event::Gone(pod.version.uid.unwrap_or_default())
        }
        "BOOKMARK" => Event::Bookmark,
        "ERROR" => return error(object),
        other => return Err(Failure::decode(format_args!("an event of the unknown type {other:?}"))),
    };
    Ok(Told { event, version: from_json::<Bookmark>(object)?.metadata.resource_version })
}

fn error(object: &[u8]) -> Result<Told, Failure> {
    let status: Status = from_json(object)?;
    match status.code.unwrap_or_default() {
        410 => Ok(Told { event: Event::Expired, version: None }),
        code => {
            let message = remote::begin(&status.message.unwrap_or_default());
            Err(Failure::Status { code, message, retry_after: None })
        }
    }
}

fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(Failure::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &mut Lines, piece: &'static [u8]) -> Vec<String> {
        let text = |line: Result<Bytes, Failure>| line.map(|line| String::from_utf8(line.to_vec()).unwrap());
        lines
            .push(Bytes::from_static(piece))
            .into_iter()
            .map(|line| text(line).unwrap_or("!".into()))
            .collect()
    }

    #[test]
    fn lines_are_cut_wherever_pieces_are() {
        let mut lines = Lines::default();
        assert_eq!(texts(&mut lines, b"{\"a\":"), [""; 0]);
        assert_eq!(texts(&mut lines, b"1}\n\n{}\n{"), ["{\"a\":1}", "{}"]);
        assert_eq!(texts(&mut lines, b"}"), [""; 0]);
        assert_eq!(texts(&mut lines, b"\n"), ["{}"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_takes_no_memory() {
        static HUGE: [u8; LONGEST] = [b'x'; LONGEST];
        let mut lines = Lines::default();
        assert_eq!(texts(&mut lines, &HUGE), [""; 0]);
        assert_eq!(texts(&mut lines, b"x"), ["!"], "said once");
        assert_eq!(texts(&mut lines, &HUGE), [""; 0]);
        assert_eq!(lines.begun.capacity(), 0);
        assert_eq!(texts(&mut lines, b"x\n{}\n"), ["{}"]);
    }

    #[test]
    fn events_say_what_happened_and_where_they_are() {
        let told = |line: &str| parse(line.as_bytes());
        let gone = told(
            r#"{"type":"DELETED","object":{"metadata":{"name":"a","uid":"1","resourceVersion":"7"},"spec":{}}}"#,
        );
        let gone = gone.unwrap();
        assert!(matches!(gone.event, Event::Gone(uid) if uid == "1"));
        assert_eq!(gone.version.as_deref(), Some("7"));
        let mark = told(
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"},"spec":{"containers":null}}}"#,
        );
        assert!(matches!(mark.unwrap(), Told { event: Event::Bookmark, version: Some(v) } if v == "9"));
        let expired = told(r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#);
        assert!(matches!(expired.unwrap().event, Event::Expired));
        let error = told(r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd"}}"#);
        assert_eq!(error.unwrap_err().status(), Some(500));
        for bad in [
            "",
            "{}",
            "null",
            r#"{"type":"ADDED","object":{"metadata":{}}}"#,
            r#"{"type":"MOVED","object":{}}"#,
        ] {
            assert!(matches!(told(bad), Err(Failure::Decode(_))), "{bad}");
        }
    }

    #[test]
    fn of_what_a_server_says_no_more_is_kept_than_a_person_reads() {
        let long = "x".repeat(1 << 20);
        for line in [
            format!(r#"{{"type":"ERROR","object":{{"code":500,"message":"{long}"}}}}"#),
            format!(r#"{{"type":"{long}","object":{{}}}}"#),
            format!(r#"{{"type":"ADDED","object":"{long}"}}"#),
        ] {
            let said = parse(line.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("xxx") && said.len() < 400, "{} bytes", said.len());
        }
    }
}
