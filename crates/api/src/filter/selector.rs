//! Label selectors of filters: Kubernetes' syntax, with an optional source before
//! each key (`k8s:app=x`, `reserved:world`).

/// All its requirements must hold.
pub(super) struct Selector(Vec<Requirement>);

struct Requirement {
    /// Empty: any source.
    source: String,
    key: String,
    operator: Operator,
}

enum Operator {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`; `None` when it is none.
    pub(super) fn new(text: &str) -> Option<Self> {
        let parts = split(text)?;
        parts.into_iter().map(requirement).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether labels of the form `source:key=value` fulfil it.
    pub(super) fn matches(&self, labels: &[String]) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &[String]) -> bool {
        let mut values = labels.iter().filter_map(|label| self.value_in(label));
        match &self.operator {
            Operator::Exists => values.next().is_some(),
            Operator::Missing => values.next().is_none(),
            Operator::In(wanted) => values.any(|value| wanted.iter().any(|w| w == value)),
            // A label that is not there has no forbidden value.
            Operator::NotIn(forbidden) => !values.any(|value| forbidden.iter().any(|f| f == value)),
        }
    }

    /// The label's value, when it is the label this asks about.
    fn value_in<'a>(&self, label: &'a str) -> Option<&'a str> {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        let (source, key) = name.split_once(':').unwrap_or(("", name));
        let asked = key == self.key && (self.source.is_empty() || self.source == source);
        asked.then_some(value)
    }
}

/// The parts between the commas that are not in brackets.
fn split(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut inside = false;
    for (at, c) in text.char_indices() {
        match c {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return None,
            ',' if !inside => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (!inside).then_some(parts)
}

fn requirement(text: &str) -> Option<Requirement> {
    let equality = [("!=", false), ("==", true), ("=", true)];
    if let Some(name) = text.strip_prefix('!') {
        return named(name, Operator::Missing);
    }
    if let Some((name, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, word) = name.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => named(name, Operator::In(values)),
            "notin" => named(name, Operator::NotIn(values)),
            _ => None,
        };
    }
    for (sign, wanted) in equality {
        if let Some((name, value)) = text.split_once(sign) {
            let values = vec![value.trim().to_owned()];
            let operator = if wanted { Operator::In(values) } else { Operator::NotIn(values) };
            return named(name, operator);
        }
    }
    named(text, Operator::Exists)
}

fn named(name: &str, operator: Operator) -> Option<Requirement> {
    let name = name.trim();
    let (source, key) = name.split_once(':').unwrap_or(("", name));
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || !key.chars().all(legal) {
        return None;
    }
    let source = if source == "any" { "" } else { source };
    Some(Requirement { source: source.to_owned(), key: key.to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[&str], want: bool) {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let matched = Selector::new(selector).expect(selector).matches(&labels);
        assert_eq!(matched, want, "{selector} on {labels:?}");
    }

    #[test]
    fn equality_compares_the_value() {
        check("app=x", &["k8s:app=x"], true);
        check("app==x", &["k8s:app=y"], false);
        check("app!=x", &["k8s:app=y"], true);
        check("app!=x", &[], true);
    }

    #[test]
    fn a_source_before_the_key_counts_and_without_one_any_does() {
        check("k8s:app=x", &["k8s:app=x"], true);
        check("reserved:app=x", &["k8s:app=x"], false);
        check("any:app=x", &["k8s:app=x"], true);
        check("reserved:world", &["reserved:world"], true);
        check("reserved:world", &["k8s:world=yes"], false);
    }

    #[test]
    fn sets_and_presence_work_as_in_kubernetes() {
        check("app in (x, y),tier", &["k8s:app=y", "k8s:tier=db"], true);
        check("app in (x, y),!tier", &["k8s:app=y", "k8s:tier=db"], false);
        check("app notin (x)", &["k8s:app=x"], false);
        check("io.kubernetes.pod.namespace=a", &["k8s:io.kubernetes.pod.namespace=a"], true);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["", "=x", "app in x", "app in (x", "app) in (x)", "a,", "sp ace=x"] {
            assert!(Selector::new(text).is_none(), "{text}");
        }
    }
}
