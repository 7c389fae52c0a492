//! The encodings of an exposition, and which one the client takes: `Accept` and `Accept-Encoding`, RFC 9110 section 12.5.

/// The format of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// `OpenMetrics`, version 1.0.
    OpenMetrics,
}

impl Format {
    /// What the answer's `Content-Type` says.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The format and the content coding of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The exposition's format.
    pub format: Format,
    /// `Content-Encoding: gzip`.
    pub gzip: bool,
}

/// Chooses by the values of the two headers. Who takes nothing of what there is gets the text format: an answer helps
/// more than an error.
pub fn negotiate(accept: &str, accept_encoding: &str) -> Encoding {
    let openmetrics = quality_of_type(accept, "application", "openmetrics-text", |v| v == "1.0.0");
    let text = quality_of_type(accept, "text", "plain", |v| v == "0.0.4");
    let gzip = quality_of_coding(accept_encoding, &["gzip", "x-gzip"]).unwrap_or(0.0);
    let identity = quality_of_coding(accept_encoding, &["identity"]);
    Encoding {
        format: if openmetrics > text { Format::OpenMetrics } else { Format::Text },
        gzip: gzip > 0.0 && gzip >= identity.unwrap_or(0.0),
    }
}

/// One element of either header: its name, its parameters and its quality.
fn elements(header: &str) -> impl Iterator<Item = (&str, Vec<(&str, &str)>, f32)> {
    header.split(',').map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let mut parameters: Vec<(&str, &str)> = parts
            .filter_map(|parameter| parameter.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let is_quality = |(key, _): &(&str, &str)| key.eq_ignore_ascii_case("q");
        let quality = match parameters.iter().position(is_quality) {
            Some(at) => quality(parameters.remove(at).1),
            None => 1.0,
        };
        (name, parameters, quality)
    })
}

/// A weight; what is none weighs nothing.
fn quality(text: &str) -> f32 {
    let parsed = text.parse().ok().filter(|q| (0.0..=1.0).contains(q));
    parsed.unwrap_or(0.0)
}

/// The quality of a media type: that of the most specific range that it is in.
fn quality_of_type(accept: &str, kind: &str, subkind: &str, speaks: impl Fn(&str) -> bool) -> f32 {
    let mut best = (0, 0.0_f32);
    for (range, parameters, quality) in elements(accept) {
        let Some((range_kind, range_subkind)) = range.split_once('/') else {
            continue;
        };
        let is = |pattern: &str, name: &str| pattern.eq_ignore_ascii_case(name);
        let version = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case("version"));
        let specific = match (is(range_kind, kind), is(range_subkind, subkind), version) {
            (true, true, Some((_, version))) if speaks(version) => 4,
            (true, true, None) => 3,
            (true, false, _) if range_subkind == "*" => 2,
            _ if range == "*/*" => 1,
            _ => continue,
        };
        // Of equals, the one that the client likes more.
        if (specific, quality) > best {
            best = (specific, quality);
        }
    }
    best.1
}

fn quality_of_coding(accept_encoding: &str, names: &[&str]) -> Option<f32> {
    let mut any = None;
    for (coding, _, quality) in elements(accept_encoding) {
        if names.iter().any(|name| coding.eq_ignore_ascii_case(name)) {
            return Some(quality);
        }
        if coding == "*" {
            any = Some(quality);
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_unless_the_client_prefers_openmetrics() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
            text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        let cases = [
            ("", Format::Text),
            ("*/*", Format::Text),
            (browser, Format::Text),
            (prometheus_2, Format::OpenMetrics),
            (prometheus_3, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.9, text/plain;q=0.8", Format::OpenMetrics),
            ("application/*, text/*;q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.5,text/plain", Format::Text),
            ("application/openmetrics-text,text/plain", Format::Text),
            ("application/openmetrics-text;q=0,*/*", Format::Text),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=nonsense", Format::Text),
            ("application/openmetrics-text;q=7,;;,=,/,", Format::Text),
            ("text/plain;version=1.0.0", Format::Text),
            ("image/png", Format::Text),
        ];
        for (accept, format) in cases {
            assert_eq!(negotiate(accept, "").format, format, "{accept}");
        }
    }

    #[test]
    fn gzip_only_for_who_takes_it() {
        let cases = [
            ("", false),
            ("gzip", true),
            ("GZIP;q=0.5", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("identity, gzip;q=0.5", false),
            ("br, zstd", false),
            ("gzip;q=x", false),
        ];
        for (accept_encoding, gzip) in cases {
            assert_eq!(negotiate("", accept_encoding).gzip, gzip, "{accept_encoding}");
        }
    }
}
