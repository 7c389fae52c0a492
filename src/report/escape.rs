//! Names that others chose, made harmless: no terminal commands, nothing that turns or hides text.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write};

/// Text of which every character is visible: on a terminal, or in HTML, whose templates escape the markup.
#[derive(Debug, Clone, Default)]
pub(super) struct Visible<'a>(Cow<'a, str>);

impl<'a> Visible<'a> {
    pub(super) fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self(text.into())
    }
}

impl Display for Visible<'_> {
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
            ("shop/data-db_0~1.2:3 4", "shop/data-db_0~1.2:3 4"),
            ("Größe 漢字 <b>&", "Größe 漢字 <b>&"),
            ("a\0\t\r\n\x1b[31m\x7f", r"a\0\t\r\n\u{1b}[31m\u{7f}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("\u{202e}cba\u{2066}\u{200f}\u{061c}", r"\u{202e}cba\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b", r"a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b"),
            (r"\u{202e}", r"\\u{202e}"),
        ];
        for (text, visible) in cases {
            assert_eq!(Visible::new(text).to_string(), visible);
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
