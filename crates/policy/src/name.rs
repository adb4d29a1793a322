//! Names of hosts and the patterns that match them (facts: `policy.md` section
//! 3.1). Also the language of TLS server names.

use std::fmt;

/// A pattern in which `*` stands for any part of one label of a name.
///
/// Kept lower case and with its trailing dot, so that equal meanings are equal
/// values.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NamePattern(String);

/// Why a text is no name or pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Nothing to match.
    #[error("is empty")]
    Empty,
    /// DNS has no longer names.
    #[error("is longer than 255 characters")]
    TooLong,
    /// A character that names do not have.
    #[error("holds `{0}`: names have letters, digits, `-`, `_` and single dots")]
    Character(char),
    /// A star where a plain name is wanted.
    #[error("holds `*`: this is a plain name")]
    Star,
}

/// The longest name.
const LONGEST: usize = 255;

impl NamePattern {
    /// A name that must be equal.
    pub fn name(text: &str) -> Result<Self, NameError> {
        if text.contains('*') {
            return Err(NameError::Star);
        }
        Self::pattern(text)
    }

    /// A pattern.
    pub fn pattern(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > LONGEST {
            return Err(NameError::TooLong);
        }
        let legal = |found: char| found.is_ascii_alphanumeric() || "-_*.".contains(found);
        if let Some(found) = text.chars().find(|found| !legal(*found)) {
            return Err(NameError::Character(found));
        }
        if text.starts_with('.') || text.contains("..") {
            return Err(NameError::Character('.'));
        }
        let mut text = text.to_ascii_lowercase();
        if !text.ends_with('.') {
            text.push('.');
        }
        Ok(Self(text))
    }

    /// Whether it matches every name.
    pub fn is_everything(&self) -> bool {
        self.0.trim_end_matches('.').bytes().all(|byte| byte == b'*')
    }

    /// Whether this name, in any case, with or without its trailing dot, matches.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_everything() {
            return true;
        }
        let mut name = name.to_ascii_lowercase();
        if !name.ends_with('.') {
            name.push('.');
        }
        // Two stars and a dot in front: one or more whole labels.
        let stars = self.0.bytes().take_while(|byte| *byte == b'*').count();
        let deep = stars >= 2 && self.0.as_bytes().get(stars) == Some(&b'.');
        if !deep {
            return matches_labels(self.0.as_bytes(), name.as_bytes());
        }
        let rest = self.0.as_bytes().get(stars + 1..).unwrap_or_default();
        name.bytes().enumerate().filter(|(at, byte)| *byte == b'.' && *at > 0).any(|(at, _)| {
            let tail = name.as_bytes().get(at + 1..).unwrap_or_default();
            matches_labels(rest, tail)
        })
    }

    /// The text, as it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.strip_suffix('.').unwrap_or(&self.0))
    }
}

/// Matches with stars that stop at dots. Row by row over the pattern, so the
/// time is bounded by the product of the two lengths.
fn matches_labels(pattern: &[u8], name: &[u8]) -> bool {
    let in_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    // `reached[n]`: the pattern so far matches the first n bytes of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for &wanted in pattern {
        if wanted == b'*' {
            for at in 0..name.len() {
                reached[at + 1] |= reached[at] && in_label(name[at]);
            }
        } else {
            for at in (0..name.len()).rev() {
                reached[at + 1] = reached[at] && name[at] == wanted;
            }
            reached[0] = false;
        }
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let parsed = NamePattern::pattern(pattern).unwrap();
        for name in yes {
            assert!(parsed.matches(name), "{pattern} should match {name}");
        }
        for name in no {
            assert!(!parsed.matches(name), "{pattern} should not match {name}");
        }
    }

    // The truth table of section 3.1.

    #[test]
    fn a_star_is_any_part_of_one_label() {
        check("*.cilium.io", &["a.cilium.io", "A.Cilium.IO."], &["cilium.io", "a.b.cilium.io"]);
        check("*cilium.io", &["cilium.io", "subcilium.io"], &["www.cilium.io"]);
        check("sub*.cilium.io", &["sub.cilium.io", "subdomain.cilium.io"], &["x.cilium.io"]);
        check("*.*.cilium.io", &["_f._tcp.cilium.io"], &["a.cilium.io"]);
        check("**.ci*.io", &["a.b.cilium.io", "x.ci.io"], &["cilium.io"]);
        check("a**b.io", &["ab.io", "axyb.io"], &["a.b.io"]);
    }

    #[test]
    fn two_stars_in_front_are_one_or_more_labels() {
        check("**.cilium.io", &["a.cilium.io", "a.b.c.cilium.io"], &["cilium.io", "acilium.io"]);
        check("**.*.cilium.io", &["a.b.cilium.io", "a.b.c.cilium.io"], &["a.cilium.io"]);
        check("a.**.io", &["a.b.io"], &["a.b.c.io"]);
    }

    #[test]
    fn stars_alone_are_every_name_and_the_root() {
        for pattern in ["*", "**", "***", "*.", "**."] {
            check(pattern, &["a", "a.b.c", ".", "cilium.io."], &[]);
        }
    }

    #[test]
    fn a_name_is_equal_whatever_its_case_and_final_dot() {
        check("Api.Swift.com", &["api.swift.com", "API.SWIFT.COM."], &["xapi.swift.com"]);
        assert_eq!(NamePattern::name("A.b"), NamePattern::name("a.B."));
        assert_eq!(NamePattern::name("*.b"), Err(NameError::Star));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(NamePattern::pattern(""), Err(NameError::Empty));
        assert_eq!(NamePattern::pattern("a b"), Err(NameError::Character(' ')));
        assert_eq!(NamePattern::pattern("a..b"), Err(NameError::Character('.')));
        assert_eq!(NamePattern::pattern(".a"), Err(NameError::Character('.')));
        assert_eq!(NamePattern::pattern(&"a".repeat(256)), Err(NameError::TooLong));
        assert_eq!(NamePattern::pattern("ü.de"), Err(NameError::Character('ü')));
    }

    #[test]
    fn the_worst_pattern_takes_no_time() {
        let pattern = NamePattern::pattern(&"*a".repeat(127)).unwrap();
        assert!(!pattern.matches(&("a".repeat(254) + "b")));
    }
}
