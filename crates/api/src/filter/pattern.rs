//! Patterns of names: `namespace/prefix` for pods and services, `*` for DNS
//! names and nodes.

/// `a/b`: namespace `a` (empty: any), a name that starts with `b` (empty: any);
/// `b` alone is in the namespace `default`.
pub(super) struct ObjectPattern {
    namespace: String,
    prefix: String,
}

impl ObjectPattern {
    /// `None` for the empty text, which would match nothing or everything.
    pub(super) fn new(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let (namespace, prefix) = text.split_once('/').unwrap_or(("default", text));
        Some(Self { namespace: namespace.to_owned(), prefix: prefix.to_owned() })
    }

    /// What has neither namespace nor name is no object and never matches.
    pub(super) fn matches(&self, namespace: &str, name: &str) -> bool {
        (!namespace.is_empty() || !name.is_empty())
            && (self.namespace.is_empty() || self.namespace == namespace)
            && name.starts_with(&self.prefix)
    }
}

/// Letters, digits, `-`, `_`, `.` and `*`; a star stands for any of the
/// characters of a host name, dots included.
pub(super) struct HostPattern(String);

impl HostPattern {
    /// `None` for a text that can be no host name. Case does not count, nor does
    /// one dot at the end.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.*".contains(c);
        let valid = !text.is_empty() && !text.ends_with('.') && text.chars().all(legal);
        valid.then(|| Self(text.to_owned()))
    }

    /// Whether the whole name matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        star_matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Iterative matching with one point to return to: linear for each star, so
/// that no pattern can make it slow.
fn star_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut resume: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                resume = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                // The last star takes one more character, if it may.
                let Some((after_star, taken)) = resume.filter(|(_, taken)| starred(name[*taken]))
                else {
                    return false;
                };
                resume = Some((after_star, taken + 1));
                p = after_star;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The characters a star stands for.
fn starred(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.'
}

/// `node`, `cluster/node` or `cluster/`, with stars in either part.
pub(super) struct NodePattern {
    cluster: Option<HostPattern>,
    node: Option<HostPattern>,
}

impl NodePattern {
    /// `None` for a text that can be no node's name.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (cluster, node) = match text.split_once('/') {
            Some((cluster, node)) => (Some(HostPattern::new(cluster)?), node),
            None => (None, text),
        };
        let node = match (node, &cluster) {
            ("", None) => return None,
            ("", Some(_)) => None,
            (node, _) => Some(HostPattern::new(node)?),
        };
        Some(Self { cluster, node })
    }

    /// A name without a cluster is in the cluster `default`.
    pub(super) fn matches(&self, name: &str) -> bool {
        let (cluster, node) = name.split_once('/').unwrap_or(("default", name));
        self.cluster.as_ref().is_none_or(|pattern| pattern.matches(cluster))
            && self.node.as_ref().is_none_or(|pattern| pattern.matches(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_object(pattern: &str, namespace: &str, name: &str, want: bool) {
        let matched = ObjectPattern::new(pattern).unwrap().matches(namespace, name);
        assert_eq!(matched, want, "{pattern} {namespace}/{name}");
    }

    #[test]
    fn a_pod_is_named_by_namespace_and_prefix() {
        check_object("pay/web", "pay", "web-1", true);
        check_object("pay/web", "other", "web-1", false);
        check_object("pay/", "pay", "anything", true);
        check_object("/web", "any", "web-1", true);
        check_object("/", "any", "thing", true);
        check_object("web", "default", "web-1", true);
        check_object("web", "pay", "web-1", false);
        assert!(ObjectPattern::new("").is_none());
    }

    #[test]
    fn an_end_that_is_no_object_never_matches() {
        check_object("/", "", "", false);
    }

    #[track_caller]
    fn check_host(pattern: &str, name: &str, want: bool) {
        assert_eq!(HostPattern::new(pattern).unwrap().matches(name), want, "{pattern} {name}");
    }

    #[test]
    fn a_star_stands_for_characters_of_host_names() {
        check_host("*.example.com", "api.example.com", true);
        check_host("*.example.com", "a.b.example.com", true);
        check_host("*.example.com", "example.com", false);
        check_host("*.example.com", "evil example.com", false);
        check_host("a*b*c", "aXXbYYbc", true);
        check_host("a*b*c", "aXXbYYb", false);
        check_host("API.Example.com.", "api.example.COM", true);
        check_host("*", "", true);
    }

    #[test]
    fn what_can_be_no_host_name_is_refused() {
        for text in ["", ".", "a..", "a b", "a/b"] {
            assert!(HostPattern::new(text).is_none(), "{text}");
        }
    }

    #[track_caller]
    fn check_node(pattern: &str, name: &str, want: bool) {
        assert_eq!(NodePattern::new(pattern).unwrap().matches(name), want, "{pattern} {name}");
    }

    #[test]
    fn a_node_may_be_named_with_its_cluster() {
        check_node("node-*", "node-1", true);
        check_node("node-1", "jakarta/node-1", true);
        check_node("jakarta/node-1", "jakarta/node-1", true);
        check_node("default/node-1", "node-1", true);
        check_node("jakarta/", "jakarta/node-1", true);
        check_node("jakarta/", "mumbai/node-1", false);
        assert!(NodePattern::new("").is_none());
        assert!(NodePattern::new("/x").is_none());
    }
}
