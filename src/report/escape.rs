//! Names that others chose, made harmless: no markup, no terminal commands, nothing that turns or hides text.

use std::fmt::{self, Display, Formatter, Write};

/// Text for HTML, in an element or a quoted attribute.
pub(super) struct Html<'a>(pub(super) &'a str);

impl Display for Html<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => out.write_str("&amp;"),
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '"' => out.write_str("&quot;"),
            '\'' => out.write_str("&#39;"),
            _ => write_visible(c, out),
        })
    }
}

/// Text for a terminal.
pub(super) struct Terminal<'a>(pub(super) &'a str);

impl Display for Terminal<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_visible(c, out))
    }
}

/// Backslashes are doubled, so that a name cannot imitate an escape.
fn write_visible(c: char, out: &mut Formatter<'_>) -> fmt::Result {
    if c != '\\' && is_printable(c) { out.write_char(c) } else { write!(out, "{}", c.escape_debug()) }
}

/// Whether a terminal shows the character as it is: neither a control character nor one that turns or hides text.
fn is_printable(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || c.escape_debug().len() == 1
}

/// JSON for a terminal: its meaning stays the same.
pub(super) fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_printable(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_shown_as_text() {
        let cases = [
            ("shop/data-db_0~1.2:3 4", "shop/data-db_0~1.2:3 4", "shop/data-db_0~1.2:3 4"),
            ("Größe 漢字", "Größe 漢字", "Größe 漢字"),
            (
                "<script>alert(\"1\")</script>",
                "<script>alert(\"1\")</script>",
                "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;",
            ),
            ("&lt;'><!--", "&lt;'><!--", "&amp;lt;&#39;&gt;&lt;!--"),
            ("a\0\t\r\n\x1b[31m\x7f", r"a\0\t\r\n\u{1b}[31m\u{7f}", r"a\0\t\r\n\u{1b}[31m\u{7f}"),
            ("\u{9b}2J", r"\u{9b}2J", r"\u{9b}2J"),
            (
                "\u{202e}cba\u{2066}\u{200f}\u{061c}",
                r"\u{202e}cba\u{2066}\u{200f}\u{61c}",
                r"\u{202e}cba\u{2066}\u{200f}\u{61c}",
            ),
            (
                "a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b",
                r"a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b",
                r"a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b",
            ),
            (r"\u{202e}", r"\\u{202e}", r"\\u{202e}"),
        ];
        for (text, terminal, html) in cases {
            assert_eq!((Terminal(text).to_string(), Html(text).to_string()), (terminal.into(), html.into()));
        }
    }

    #[test]
    fn escaped_json_means_the_same() {
        let text = "a\x1b\u{9b}\u{202e}\u{e0041}\"\\\n漢";
        let json = escape_json(&serde_json::to_string_pretty(&[text]).unwrap());
        assert!(json.chars().all(|c| c == '\n' || is_printable(c)), "{json:?}");
        assert!(json.contains("\\u001b\\u009b\\u202e\\udb40\\udc41\\\"\\\\\\n漢"), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }
}
