//! What a client receives, read strictly.

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    status: u16,
    headers: Vec<(String, &'a str)>,
    /// `None` for an answer to `HEAD`.
    pub(crate) body: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    /// All answers in what was received; the last one may be cut off unless they are `whole`.
    pub(crate) fn all(received: &'a [u8], may_be_head: bool, whole: bool) -> Vec<Self> {
        let mut answers = Vec::new();
        let mut rest = received;
        while !rest.is_empty() {
            let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
                assert!(!whole, "a head is cut off: {}", rest.escape_ascii());
                break;
            };
            let (head, after) = (&rest[..end], &rest[end + 4..]);
            let mut answer = Self::head(std::str::from_utf8(head).expect("a head is text"));
            let length: usize = answer.header("content-length").expect("a length").parse().unwrap();
            let without_body = may_be_head && (after.is_empty() || after.starts_with(b"HTTP/1."));
            if without_body {
                rest = after;
            } else if let Some((body, after)) = after.split_at_checked(length) {
                answer.body = Some(body);
                rest = after;
            } else {
                assert!(!whole, "a body is cut off: {answer:?}");
                break;
            }
            answers.push(answer);
        }
        answers
    }

    fn head(head: &'a str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap();
        let (version, status) = status.split_once(' ').expect("a status line");
        assert!(matches!(version, "HTTP/1.1" | "HTTP/1.0"), "{head}");
        let (status, _reason) = status.split_once(' ').expect("a reason");
        let status = status.parse().unwrap();
        assert!(matches!(status, 200 | 400 | 404 | 405 | 414 | 431 | 503), "{head}");
        let mut headers: Vec<(String, &str)> = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let name = name.to_ascii_lowercase();
            assert!(headers.iter().all(|(other, _)| *other != name), "twice: {line}");
            headers.push((name, value));
        }
        Self { status, headers, body: None }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// Whether it is made from a collection.
    pub(crate) fn is_collected(&self) -> bool {
        self.status == 200 && self.header("vary").is_some()
    }
}
