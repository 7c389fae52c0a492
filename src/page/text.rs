//! Names and figures as a page shows them.

use std::fmt::{self, Display, Formatter, Write};

/// A text of somebody else's in HTML: no markup, and nothing that turns, hides or moves what is beside it.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        // Most names have nothing to escape, and go in one piece.
        while let Some(at) = rest.find(|c: char| !is_plain(c)) {
            out.write_str(&rest[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                escape(c, out)?;
            }
            rest = chars.as_str();
        }
        out.write_str(rest)
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_' | '~' | ':' | ' ')
}

fn escape(c: char, out: &mut Formatter<'_>) -> fmt::Result {
    match c {
        '&' => out.write_str("&amp;"),
        '<' => out.write_str("&lt;"),
        '>' => out.write_str("&gt;"),
        '"' => out.write_str("&quot;"),
        '\'' => out.write_str("&#39;"),
        // Doubled, so that nobody can write an escape himself.
        '\\' => out.write_str("\\\\"),
        _ => write!(out, "{}", c.escape_debug()),
    }
}

/// So many of something that has a plural in `s`.
pub(super) struct Count<'a>(pub(super) usize, pub(super) &'a str);

impl Display for Count<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.0, self.1)?;
        if self.0 == 1 { Ok(()) } else { out.write_char('s') }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_markup_or_changes_what_is_beside_it() {
        let cases = [
            ("shop/data-db_0~1.2:3 4", "shop/data-db_0~1.2:3 4"),
            ("Größe 漢字", "Größe 漢字"),
            ("<script>alert(\"1\")</script>", "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"),
            ("&lt;'><!--", "&amp;lt;&#39;&gt;&lt;!--"),
            ("a\0\t\r\n\x1b[31m\x7f\u{9b}", r"a\0\t\r\n\u{1b}[31m\u{7f}\u{9b}"),
            ("\u{202e}cba\u{2066}\u{200f}\u{061c}", r"\u{202e}cba\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b", r"a\u{200b}\u{feff}\u{ad}\u{2028}\u{e0041}b"),
            (r"\u{202e}", r"\\u{202e}"),
        ];
        for (text, html) in cases {
            assert_eq!(Escaped(text).to_string(), html);
        }
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!([0, 1, 2].map(|n| Count(n, "mount").to_string()), ["0 mounts", "1 mount", "2 mounts"]);
    }
}
