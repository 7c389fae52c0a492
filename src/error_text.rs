//! Errors, and what servers say about them, as text for one log line.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// Longer messages are cut.
const MAX_MESSAGE_CHARS: usize = 300;

/// The beginning of a message from elsewhere, without control characters: it can forge neither log lines nor colours.
pub(crate) fn truncated(message: &str) -> String {
    let printable = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_MESSAGE_CHARS).collect()
}

/// An error and its causes. A cause that the error before it already states is left out, and so is a link to a library's
/// manual at the end.
pub(crate) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text.truncate(text.find(": https://docs.rs/").unwrap_or(text.len()));
    text
}

/// An error and its causes. An I/O error that wraps another one names the causes of that one as its own.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_chain_states_each_cause_once_and_links_to_no_manual() {
        #[derive(Debug, thiserror::Error)]
        #[error("no answer: {0}")]
        struct Outer(#[source] io::Error);
        let error =
            Outer(io::Error::other("closed without close_notify: https://docs.rs/rustls/latest/x.html"));
        assert_eq!(error_chain(&error), "no answer: closed without close_notify");
    }

    #[test]
    fn a_message_from_elsewhere_is_one_short_line() {
        assert_eq!(truncated("a\u{1b}[31mb\r\n2026 ERROR c\0"), "a [31mb  2026 ERROR c ");
        assert_eq!(truncated(&"\u{e9}".repeat(1000)), "\u{e9}".repeat(300));
    }
}
