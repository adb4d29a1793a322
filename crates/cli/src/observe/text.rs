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

/// As Go writes a text in its own language, which is how Hubble prints messages.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_unsafe(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
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
    fn a_message_is_quoted_as_go_does() {
        assert_eq!(quoted(r#"say "a\b""#), r#""say \"a\\b\"""#);
        assert_eq!(quoted("\u{1b}[2J\n\t\u{202e}ü"), r#""\x1b[2J\n\t\u202eü""#);
    }

    #[test]
    fn everything_else_stays() {
        assert!(matches!(escape("pay-svc → bücher"), Cow::Borrowed(_)));
    }
}
