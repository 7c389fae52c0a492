//! Text for terminals: nothing that was mounted or named by others may command one.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

/// How a cell is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Yellow,
    Red,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) colour: Colour,
}

/// Where the text of a column begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Whether a terminal shows the character as it is: control characters, and those that turn or hide text, are not shown.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

/// With everything escaped that is not printable, and the backslash, so that nobody can write an escape himself.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) && c != '\\' {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    out
}

/// The same for JSON: what it means stays the same.
pub(super) fn escaped_json(json: &str) -> String {
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

/// Lines with aligned columns; no blanks at the end of a line.
pub(super) fn aligned(aligns: &[Align], lines: &[Vec<Cell>], has_colours: bool) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].text.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..aligns.len()).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut blanks = 0;
        for ((cell, align), width) in line.iter().zip(aligns).zip(&widths) {
            let padding = width - cell.text.width();
            let (before, after) = if *align == Align::Right { (padding, 0) } else { (0, padding) };
            out.extend(std::iter::repeat_n(' ', blanks + before));
            push(&mut out, cell, has_colours);
            blanks = after + 2;
        }
        out.push('\n');
    }
    out
}

fn push(out: &mut String, cell: &Cell, has_colours: bool) {
    let code = match cell.colour {
        Colour::Red if has_colours => "\x1b[31m",
        Colour::Yellow if has_colours => "\x1b[33m",
        _ => return out.push_str(&cell.text),
    };
    out.push_str(code);
    out.push_str(&cell.text);
    out.push_str("\x1b[0m");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_commands_the_terminal() {
        let cases = [
            ("plain/'\"ü漢", "plain/'\"ü漢"),
            ("a\x1b[31mb", r"a\u{1b}[31mb"),
            ("a\r\n\tb\x7f", r"a\r\n\tb\u{7f}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("\u{202e}cba\u{200b}\u{feff}", r"\u{202e}cba\u{200b}\u{feff}"),
            (r"\u{1b}", r"\\u{1b}"),
        ];
        for (text, shown) in cases {
            assert_eq!(escaped(text), shown);
        }
    }

    #[test]
    fn json_means_the_same() {
        let text = "a\x1b\u{9b}\u{202e}\u{e0041}\"\\\n漢";
        let json = escaped_json(&serde_json::to_string_pretty(&[text]).unwrap());
        assert!(json.chars().all(|c| c == '\n' || is_printable(c)), "{json:?}");
        assert!(json.contains("\\u001b\\u009b\\u202e\\udb40\\udc41\\\"\\\\\\n漢"), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_seen() {
        let cell = |text: &str, colour| Cell { text: text.into(), colour };
        let lines = [
            vec![cell("A", Colour::Plain), cell("USED%", Colour::Plain), cell("B", Colour::Plain)],
            vec![cell("漢字", Colour::Plain), cell("91%", Colour::Red), cell("x", Colour::Plain)],
        ];
        let aligns = [Align::Left, Align::Right, Align::Left];
        assert_eq!(aligned(&aligns, &lines, false), "A     USED%  B\n漢字    91%  x\n");
        assert_eq!(aligned(&aligns, &lines, true), "A     USED%  B\n漢字    \x1b[31m91%\x1b[0m  x\n");
    }
}
