//! Rules about HTTP requests.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// A regular expression that must match a whole value.
///
/// Matching takes time linear in the value, whatever the expression; what
/// compiles to more than a fixed size is refused.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// Not in the syntax.
    #[error("is no regular expression: {0}")]
    Syntax(String),
    /// A small text can stand for a machine of any size.
    #[error("is too large: it needs more than {0} bytes once compiled")]
    TooLarge(usize),
}

/// The largest compiled pattern.
const MAX_COMPILED: usize = 1 << 18;

impl Pattern {
    /// Compiles an expression.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let compile = |text: &str| {
            RegexBuilder::new(text).size_limit(MAX_COMPILED).nest_limit(64).build().map_err(
                |error| match error {
                    regex::Error::CompiledTooBig(limit) => PatternError::TooLarge(limit),
                    other => PatternError::Syntax(
                        other.to_string().lines().last().unwrap_or_default().to_owned(),
                    ),
                },
            )
        };
        // Alone first: `a)|(b` would become an expression inside the anchors.
        compile(text)?;
        let regex = compile(&format!(r"\A(?:{text})\z"))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    /// The expression, as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// One request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpRequest {
    /// The verb.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The authority.
    pub host: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// The value of a header, the values of several joined as HTTP has it
    /// (RFC 9110 section 5.3); `None` if it is absent.
    fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(present, _)| present.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

/// What one rule demands; all of it must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpRule {
    /// Of path and query.
    pub path: Option<Pattern>,
    /// Of the verb.
    pub method: Option<Pattern>,
    /// Of the authority.
    pub host: Option<Pattern>,
    /// Of headers.
    pub headers: Vec<HeaderMatch>,
}

/// What a rule demands of one header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: String,
    /// Its exact value; `None`: that it is there.
    pub value: Option<String>,
    /// Whether the value is in a secret, which this crate cannot read: `value`
    /// is then only what is taken without it.
    pub secret: bool,
    /// What is done if it does not hold.
    pub mismatch: Mismatch,
}

/// What is done with a request whose header is not as demanded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mismatch {
    /// The rule does not match.
    #[default]
    Fail,
    /// It matches, and the mismatch is logged.
    Log,
    /// It matches, and the header is added.
    Add,
    /// It matches, and the header is removed.
    Delete,
    /// It matches, and the header is set.
    Replace,
}

impl HttpRule {
    /// Whether a request matches.
    pub fn admits(&self, request: &HttpRequest) -> bool {
        let holds = |pattern: &Option<Pattern>, value: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(value))
        };
        holds(&self.path, &request.path)
            && holds(&self.method, &request.method)
            && holds(&self.host, &request.host)
            && self.headers.iter().all(|header| header.admits(request))
    }
}

impl HeaderMatch {
    fn admits(&self, request: &HttpRequest) -> bool {
        if self.mismatch != Mismatch::Fail {
            return true;
        }
        let present = request.header(&self.name);
        match (&self.value, self.secret) {
            (Some(value), _) => present.as_ref() == Some(value),
            (None, true) => false,
            (None, false) => present.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::new(pattern).unwrap();
        for value in yes {
            assert!(pattern.matches(value), "{pattern:?} should match {value:?}");
        }
        for value in no {
            assert!(!pattern.matches(value), "{pattern:?} should not match {value:?}");
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_value_only() {
        check("/balance", &["/balance"], &["/balance/", "/balance?x=1", "x/balance", "/balance\n"]);
        check("/a|/b", &["/a", "/b"], &["/ab", "/a/b"]);
        check("GET", &["GET"], &["get", "GETX"]);
        check("/api/.*", &["/api/", "/api/x?y=z"], &["/api"]);
        check("", &[""], &["/"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(matches!(Pattern::new("("), Err(PatternError::Syntax(_))));
        assert!(matches!(Pattern::new("a)|(b"), Err(PatternError::Syntax(_))));
        assert!(matches!(Pattern::new("(?=x)"), Err(PatternError::Syntax(_))));
        assert!(matches!(
            Pattern::new("((((a{100}){100}){100}){100})"),
            Err(PatternError::TooLarge(_))
        ));
    }

    #[test]
    fn a_pattern_that_makes_others_explode_is_linear() {
        check("(a+)+$", &[&"a".repeat(20_000)], &[&("a".repeat(20_000) + "b")]);
    }

    fn request(headers: &[(&str, &str)]) -> HttpRequest {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HttpRequest { method: "GET".into(), path: "/a?b=c".into(), host: "x".into(), headers }
    }

    fn rule(name: &str, value: Option<&str>, mismatch: Mismatch) -> HttpRule {
        let value = value.map(str::to_owned);
        let header = HeaderMatch { name: name.into(), value, secret: false, mismatch };
        HttpRule { headers: vec![header], ..HttpRule::default() }
    }

    #[test]
    fn headers_are_compared_by_name_in_any_case_and_by_exact_value() {
        let present = request(&[("X-My", "1")]);
        assert!(rule("x-my", Some("1"), Mismatch::Fail).admits(&present));
        assert!(!rule("x-my", Some("2"), Mismatch::Fail).admits(&present));
        assert!(rule("x-my", None, Mismatch::Fail).admits(&present));
        assert!(!rule("other", None, Mismatch::Fail).admits(&present));
        assert!(!rule("x-my", Some(""), Mismatch::Fail).admits(&present));
    }

    #[test]
    fn a_mismatch_that_is_handled_does_not_fail_the_rule() {
        for mismatch in [Mismatch::Log, Mismatch::Add, Mismatch::Delete, Mismatch::Replace] {
            assert!(rule("x", Some("1"), mismatch).admits(&request(&[])));
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_never_matches_without_a_value() {
        let mut secret = rule("x", None, Mismatch::Fail);
        secret.headers[0].secret = true;
        assert!(!secret.admits(&request(&[("x", "1")])));
        secret.headers[0].value = Some("1".into());
        assert!(secret.admits(&request(&[("x", "1")])));
    }

    #[test]
    fn a_rule_without_demands_admits_everything_and_all_demands_count() {
        assert!(HttpRule::default().admits(&request(&[])));
        let both = HttpRule {
            path: Some(Pattern::new("/a.*").unwrap()),
            method: Some(Pattern::new("POST").unwrap()),
            ..HttpRule::default()
        };
        assert!(!both.admits(&request(&[])));
    }
}
