//! Labels: `source:key=value`, the alphabet identities are made of.
//!
//! Knows nothing about which labels matter (see `workload`) or about selectors
//! (see the `policy` crate).

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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
///
/// Copies share their labels, and so can different sets: a node knows a hundred
/// thousand sets that differ in one label each.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Labels(Arc<[Arc<Label>]>);

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Labels that were seen: sets made with it share those that are equal.
#[derive(Debug, Default)]
pub struct LabelPool(HashSet<Arc<Label>>);

impl LabelPool {
    /// The same set, of labels that are shared with all sets that came before.
    pub fn share(&mut self, labels: &Labels) -> Labels {
        let shared = labels.0.iter().map(|label| match self.0.get(label) {
            Some(known) => Arc::clone(known),
            None => {
                self.0.insert(Arc::clone(label));
                Arc::clone(label)
            }
        });
        Labels(shared.collect())
    }
}

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a label; one with the same key is replaced.
    pub fn insert(&mut self, label: Label) {
        let mut labels = self.0.to_vec();
        put(&mut labels, label);
        self.0 = labels.into();
    }

    /// The label with this bare key, whatever its source.
    pub fn get(&self, key: &str) -> Option<&Label> {
        let at = self.0.binary_search_by(|label| label.key.as_str().cmp(key)).ok()?;
        self.0.get(at).map(Arc::as_ref)
    }

    /// Whether a reserved label of this name is present.
    pub fn has_reserved(&self, name: &str) -> bool {
        self.get(name).is_some_and(|label| label.source == Source::Reserved)
    }

    /// All labels, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter().map(Arc::as_ref)
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
        let mut sorted = Vec::new();
        for label in labels {
            put(&mut sorted, label);
        }
        Self(sorted.into())
    }
}

/// Puts a label at its place, or in the place of the one with its key.
fn put(labels: &mut Vec<Arc<Label>>, label: Label) {
    match labels.binary_search_by(|known| known.key.cmp(&label.key)) {
        Ok(at) => labels[at] = Arc::new(label),
        Err(at) => labels.insert(at, Arc::new(label)),
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
    fn sets_made_with_a_pool_share_what_is_equal() {
        let set =
            |texts: [&'static str; 2]| texts.into_iter().map(|text| text.parse::<Label>().unwrap());
        let mut pool = LabelPool::default();
        let one: Labels = pool.share(&set(["team=a", "app=x"]).collect());
        let other: Labels = pool.share(&set(["app=y", "team=a"]).collect());
        assert_eq!(one, set(["app=x", "team=a"]).collect());
        assert!(Arc::ptr_eq(&one.0[1], &other.0[1]));
        assert!(one < other);
    }

    #[test]
    fn of_two_labels_with_one_key_the_later_counts() {
        let mut labels: Labels =
            ["any:b=1", "b=2", "a=1"].iter().map(|text| text.parse::<Label>().unwrap()).collect();
        assert_eq!(labels.to_strings(), ["k8s:a=1", "k8s:b=2"]);
        labels.insert(Label::reserved("b"));
        assert_eq!(labels.to_strings(), ["k8s:a=1", "reserved:b"]);
    }

    #[test]
    fn a_label_without_a_key_is_refused() {
        assert_eq!("=x".parse::<Label>(), Err(LabelError::NoKey("=x".into())));
        assert_eq!("a\nb=x".parse::<Label>(), Err(LabelError::Control));
    }
}
