//! Labels: `source:key=value`, the alphabet identities are made of.
//!
//! Knows nothing about which labels matter (see `workload`) or about selectors
//! (see the `policy` crate).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Where a label comes from. In a selector [`Source::Any`] matches every source.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// Selectors only: matches any source.
    Any,
    /// Kubernetes metadata.
    K8s,
    /// Assigned by Signet itself: `reserved:host` and its kin.
    Reserved,
    /// A prefix that a policy names.
    Cidr,
    /// Any other source, kept as written.
    Other(String),
}

impl Source {
    /// The text before the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "any",
            Self::K8s => "k8s",
            Self::Reserved => "reserved",
            Self::Cidr => "cidr",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text {
            "any" => Self::Any,
            "k8s" => Self::K8s,
            "reserved" => Self::Reserved,
            "cidr" => Self::Cidr,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One label.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Label {
    /// Bare key, without the source.
    pub key: String,
    /// Where it comes from.
    pub source: Source,
    /// Empty for reserved labels.
    pub value: String,
}

/// Why a text is not a label.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// Nothing before `=`, or nothing at all.
    #[error("a label needs a key: `{0}` has none")]
    NoKey(String),
    /// Control characters would forge lines in logs and break the digest's framing.
    #[error("a label cannot hold control characters")]
    Control,
}

impl Label {
    /// A Kubernetes label.
    pub fn k8s(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), source: Source::K8s, value: value.into() }
    }

    /// `reserved:NAME`.
    pub fn reserved(name: impl Into<String>) -> Self {
        Self { key: name.into(), source: Source::Reserved, value: String::new() }
    }
}

impl fmt::Display for Label {
    /// As the field prints it: without a value there is no `=` either.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.as_str(), self.key)?;
        if self.value.is_empty() {
            return Ok(());
        }
        write!(f, "={}", self.value)
    }
}

impl FromStr for Label {
    type Err = LabelError;

    /// Reads `[source:]key[=value]`; without a source the label is Kubernetes'.
    fn from_str(text: &str) -> Result<Self, LabelError> {
        if text.chars().any(char::is_control) {
            return Err(LabelError::Control);
        }
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (source, key) = match name.split_once(':') {
            Some((source, key)) => (Source::from(source), key),
            None => (Source::K8s, name),
        };
        if key.is_empty() {
            return Err(LabelError::NoKey(text.to_owned()));
        }
        Ok(Self { key: key.to_owned(), source, value: value.to_owned() })
    }
}

/// A set of labels, at most one for each bare key.
///
/// Two sources with the same key cannot stand side by side; the later one wins.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Labels(BTreeMap<String, Label>);

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a label; one with the same key is replaced.
    pub fn insert(&mut self, label: Label) {
        self.0.insert(label.key.clone(), label);
    }

    /// The label with this bare key, whatever its source.
    pub fn get(&self, key: &str) -> Option<&Label> {
        self.0.get(key)
    }

    /// Whether a reserved label of this name is present.
    pub fn has_reserved(&self, name: &str) -> bool {
        self.get(name).is_some_and(|label| label.source == Source::Reserved)
    }

    /// All labels, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every label as text, sorted by that text, as Hubble shows them.
    pub fn to_strings(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.iter().map(ToString::to_string).collect();
        texts.sort();
        texts
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut set = Self::new();
        for label in labels {
            set.insert(label);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(text.parse::<Label>().unwrap().to_string(), want);
    }

    #[test]
    fn a_label_without_a_source_is_from_kubernetes() {
        check("app=payment", "k8s:app=payment");
    }

    #[test]
    fn a_label_without_a_value_has_no_equal_sign() {
        check("reserved:host", "reserved:host");
        check("cidr:10.0.0.0/8", "cidr:10.0.0.0/8");
        check("fqdn:*.example.com", "fqdn:*.example.com");
        check("k8s:node-role.kubernetes.io/worker=", "k8s:node-role.kubernetes.io/worker");
    }

    #[test]
    fn a_value_may_hold_equal_signs_and_colons() {
        check("k8s:a=b=c:d", "k8s:a=b=c:d");
    }

    #[test]
    fn a_label_without_a_key_is_refused() {
        assert_eq!("=x".parse::<Label>(), Err(LabelError::NoKey("=x".into())));
        assert_eq!("a\nb=x".parse::<Label>(), Err(LabelError::Control));
    }
}
