//! The page on `/`: what this is, and where everything is.

use bytes::Bytes;

/// What the page says.
#[derive(Debug, Clone)]
pub struct Page {
    /// The recorded node that is shown, if it is not this machine.
    pub fixture: Option<String>,
}

impl Page {
    /// The page's HTML.
    #[must_use]
    pub fn html(&self) -> Bytes {
        let version = env!("CARGO_PKG_VERSION");
        let fixture = self.fixture.as_deref().map(|name| {
            format!("<p><strong>These are not this machine's volumes, but those of the recorded node {}.</strong></p>\n", escape(name))
        });
        let fixture = fixture.unwrap_or_default();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>disk-usage-exporter</title>\n\
             <h1>disk-usage-exporter {version}</h1>\n\
             <p>Tells Prometheus how full every Kubernetes volume on this node is.</p>\n{fixture}\
             <ul>\n\
             <li><a href=\"/metrics\">/metrics</a> the volumes of this node\n\
             <li><a href=\"/healthz\">/healthz</a> whether the program is alive\n\
             <li><a href=\"/readyz\">/readyz</a> whether it has measured the volumes yet\n\
             </ul>\n</html>\n"
        )
        .into()
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let page = Page { fixture: Some("<script>\"&".into()) };
        let html = String::from_utf8(page.html().to_vec()).unwrap();
        assert!(html.contains("node &lt;script&gt;&quot;&amp;."), "{html}");
        assert!(!html.contains("<script>"));
    }
}
