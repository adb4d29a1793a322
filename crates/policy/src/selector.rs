//! Label selectors: requirements that all must hold of one set of labels.
//!
//! The compiler and the evaluator share this file; it knows nothing about
//! namespaces or clusters (see `scope`).

use std::collections::BTreeSet;
use std::fmt;

use model::{Label, Labels, Source};

/// The key of a requirement: a bare key and the source its label must have.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SelectorKey {
    /// [`Source::Any`] accepts every source.
    pub source: Source,
    /// Key without its source.
    pub key: String,
}

impl SelectorKey {
    /// Reads `[source:]key`; no source means any, `$name` means `reserved:name`.
    pub fn parse(text: &str) -> Self {
        let (source, key) = match (text.strip_prefix('$'), text.split_once(':')) {
            (Some(name), _) => (Source::Reserved, name),
            (None, Some((source, key))) => (Source::from(source), key),
            (None, None) => (Source::Any, text),
        };
        Self { source, key: key.to_owned() }
    }

    /// A key of Kubernetes' own metadata.
    pub fn k8s(key: impl Into<String>) -> Self {
        Self { source: Source::K8s, key: key.into() }
    }

    /// Whether labels of Kubernetes' metadata can have this key.
    pub(crate) fn may_be_k8s(&self) -> bool {
        matches!(self.source, Source::K8s | Source::Any)
    }

    fn find<'a>(&self, labels: &'a Labels) -> Option<&'a Label> {
        labels
            .get(&self.key)
            .filter(|label| self.source == Source::Any || self.source == label.source)
    }
}

impl fmt::Display for SelectorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Any => f.write_str(&self.key),
            _ => write!(f, "{}:{}", self.source.as_str(), self.key),
        }
    }
}

/// What is required of the label with the key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Operator {
    /// Present, with one of these values.
    In(BTreeSet<String>),
    /// Absent, or with none of these values.
    NotIn(BTreeSet<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

/// One condition.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Requirement {
    /// Which label.
    pub key: SelectorKey,
    /// What is required of it.
    pub operator: Operator,
}

impl Requirement {
    /// The label must be present with exactly this value.
    pub fn equals(key: SelectorKey, value: impl Into<String>) -> Self {
        Self { key, operator: Operator::In([value.into()].into()) }
    }

    fn holds(&self, labels: &Labels) -> bool {
        let value = self.key.find(labels).map(|label| label.value.as_str());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| {
            values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        };
        match &self.operator {
            Operator::In(values) if values.len() == 1 => {
                write!(f, "{}={}", self.key, list(values))
            }
            Operator::In(values) => write!(f, "{} in ({})", self.key, list(values)),
            Operator::NotIn(values) => write!(f, "{} notin ({})", self.key, list(values)),
            Operator::Exists => write!(f, "{}", self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
        }
    }
}

/// All of these must hold; without any, every set of labels matches.
///
/// Kept sorted and without duplicates, so that equal meanings written in
/// another order are equal values.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Selector(BTreeSet<Requirement>);

impl Selector {
    /// Whether all requirements hold.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// Adds a requirement.
    pub fn insert(&mut self, requirement: Requirement) {
        self.0.insert(requirement);
    }

    /// Whether this is one of the requirements.
    pub fn contains(&self, requirement: &Requirement) -> bool {
        self.0.contains(requirement)
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }

    /// Keeps only what the predicate accepts.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Requirement) -> bool) {
        self.0.retain(keep);
    }

    /// Whether any requirement's key satisfies the predicate.
    pub(crate) fn has_key(&self, predicate: impl Fn(&SelectorKey) -> bool) -> bool {
        self.0.iter().any(|requirement| predicate(&requirement.key))
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self(requirements.into_iter().collect())
    }
}

impl fmt::Display for Selector {
    /// As `kubectl --selector` writes it; `*` for the empty selector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key=value`, `key in a|b`, `key notin a|b`, `key`, `!key`.
    fn requirement(text: &str) -> Requirement {
        let values = |list: &str| list.split('|').map(str::to_owned).collect();
        if let Some((key, list)) = text.split_once(" in ") {
            Requirement { key: SelectorKey::parse(key), operator: Operator::In(values(list)) }
        } else if let Some((key, list)) = text.split_once(" notin ") {
            Requirement { key: SelectorKey::parse(key), operator: Operator::NotIn(values(list)) }
        } else if let Some((key, value)) = text.split_once('=') {
            Requirement::equals(SelectorKey::parse(key), value)
        } else if let Some(key) = text.strip_prefix('!') {
            Requirement { key: SelectorKey::parse(key), operator: Operator::DoesNotExist }
        } else {
            Requirement { key: SelectorKey::parse(text), operator: Operator::Exists }
        }
    }

    #[track_caller]
    fn check(selector: &[&str], labels: &[&str], want: bool) {
        let selector: Selector = selector.iter().map(|text| requirement(text)).collect();
        let set: Labels = labels.iter().map(|text| text.parse::<Label>().unwrap()).collect();
        assert_eq!(selector.matches(&set), want, "{selector} on {labels:?}");
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        check(&[], &[], true);
        check(&[], &["k8s:app=a"], true);
    }

    #[test]
    fn requirements_are_all_needed() {
        check(&["app=a", "tier=db"], &["k8s:app=a", "k8s:tier=db"], true);
        check(&["app=a", "tier=db"], &["k8s:app=a"], false);
    }

    #[test]
    fn two_values_for_one_key_match_nothing() {
        check(&["app=a", "app=b"], &["k8s:app=a"], false);
    }

    #[test]
    fn negations_match_when_the_key_is_missing() {
        check(&["app notin a|b"], &[], true);
        check(&["app notin a|b"], &["k8s:app=c"], true);
        check(&["app notin a|b"], &["k8s:app=a"], false);
        check(&["!app"], &[], true);
        check(&["!app"], &["k8s:app=a"], false);
    }

    #[test]
    fn a_key_without_a_source_takes_any_source() {
        check(&["host"], &["reserved:host"], true);
        check(&["k8s:host"], &["reserved:host"], false);
        check(&["any:host"], &["reserved:host"], true);
        check(&["!k8s:host"], &["reserved:host"], true);
        check(&["reserved:host"], &["k8s:host="], false);
    }

    #[test]
    fn a_dollar_is_short_for_reserved() {
        check(&["$host"], &["reserved:host"], true);
        check(&["$host"], &["k8s:host="], false);
    }

    #[test]
    fn values_are_compared_exactly() {
        check(&["app=A"], &["k8s:app=a"], false);
        check(&["app in a|b"], &["k8s:app=b"], true);
        check(&["reserved:host="], &["reserved:host"], true);
    }

    #[test]
    fn selectors_print_as_kubectl_takes_them() {
        let selector: Selector =
            ["k8s:app=a", "tier in x|y", "!old"].iter().map(|text| requirement(text)).collect();
        assert_eq!(selector.to_string(), "!old,tier in (x,y),k8s:app=a");
        assert_eq!(Selector::default().to_string(), "*");
    }
}
