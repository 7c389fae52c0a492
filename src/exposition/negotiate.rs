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
    let of_type = |kind: &str, subkind: &str, spoken: &str| {
        let specificity = |range: &str, version: Option<&str>| match range.split_once('/') {
            Some((k, s)) if (k, s) == (kind, subkind) && version.is_none_or(|version| version == spoken) => {
                3 + u8::from(version.is_some())
            }
            Some((k, "*")) if k == kind => 2,
            Some(("*", "*")) => 1,
            _ => 0,
        };
        quality(accept, specificity).unwrap_or(0.0)
    };
    let of_coding = |names: &[&str]| {
        quality(
            accept_encoding,
            |coding, _| if names.contains(&coding) { 2 } else { u8::from(coding == "*") },
        )
    };
    let is_openmetrics =
        of_type("application", "openmetrics-text", "1.0.0") > of_type("text", "plain", "0.0.4");
    let gzip = of_coding(&["gzip", "x-gzip"]).unwrap_or(0.0);
    Encoding {
        format: if is_openmetrics { Format::OpenMetrics } else { Format::Text },
        gzip: gzip > 0.0 && gzip >= of_coding(&["identity"]).unwrap_or(0.0),
    }
}

/// The weight of a header's element that fits most, if any does, and of equals of the first: `specificity` tells by its
/// name and its version, 0 for not at all.
fn quality(header: &str, specificity: impl Fn(&str, Option<&str>) -> u8) -> Option<f32> {
    let mut best = (0, None);
    for element in header.to_ascii_lowercase().split(',') {
        let mut parts = element.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let parameters = parts.filter_map(|parameter| parameter.split_once('='));
        let value = |wanted: &str| {
            let (_, value) = parameters.clone().find(|(key, _)| key.trim() == wanted)?;
            Some(value.trim().trim_matches('"'))
        };
        let specific = specificity(name, value("version"));
        if specific > best.0 {
            // What is no weight weighs nothing.
            let weight = |text: &str| text.parse().ok().filter(|weight| (0.0..=1.0).contains(weight));
            best = (specific, Some(value("q").map_or(1.0, |text| weight(text).unwrap_or(0.0))));
        }
    }
    best.1
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
