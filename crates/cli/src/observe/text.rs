//! Names from the network, made safe to print.

use std::borrow::Cow;

/// Replaces what could move a terminal's cursor or turn its text around: control
/// characters, and the marks that switch the direction of writing. Escape and
/// carriage return look as Hubble prints them.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\u{1b}' => escaped.push_str("^["),
            '\r' => escaped.push_str("\\r"),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            c if is_unsafe(c) => escaped.push_str(&c.escape_unicode().to_string()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn is_unsafe(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_shown_instead_of_done() {
        assert_eq!(escape("a\u{1b}[31mb\rc\nd"), "a^[[31mb\\rc\\nd");
        assert_eq!(escape("\u{7}\u{9b}"), "\\u{7}\\u{9b}");
        assert_eq!(escape("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn everything_else_stays() {
        assert!(matches!(escape("pay-svc → bücher"), Cow::Borrowed(_)));
    }
}
