//! Names that others chose, made harmless: no terminal commands, nothing that turns or hides text.

use std::borrow::Cow;
use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};

/// The text with every character visible. Backslashes are doubled, so that a name cannot imitate an escape.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c != '\\' && is_printable(c);
    if text.chars().all(is_plain) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_debug()) }
    }
    out.into()
}

/// How `templates/askama.toml` has everything escaped that the page prints: visible, and without markup.
#[derive(Debug, Clone, Copy)]
pub(super) struct VisibleHtml;

impl Escaper for VisibleHtml {
    fn write_escaped_str<W: Write>(&self, out: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(out, &visible(text))
    }
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
            ("shop/data-db_0~1.2:3 4", "shop/data-db_0~1.2:3 4"),
            ("Größe 漢字 <b>&", "Größe 漢字 <b>&"),
            ("a\0\t\r\n\x1b[31m\x7f", r"a\0\t\r\n\u{1b}[31m\u{7f}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("\u{202e}cba\u{2066}\u{200f}\u{061c}", r"\u{202e}cba\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b", r"a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b"),
            (r"\u{202e}", r"\\u{202e}"),
        ];
        for (text, expected) in cases {
            assert_eq!(visible(text), expected);
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
