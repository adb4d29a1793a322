//! Selectors that can match nothing, or not what was meant.

use model::{Label, Labels, Source};
use policy::{Operator, Selector, SelectorKey};

use crate::check::Context;

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
/// Sources that labels can have.
const SOURCES: [&str; 12] = [
    "any",
    "k8s",
    "reserved",
    "cidr",
    "cidrgroup",
    "fqdn",
    "node",
    "gen",
    "unspec",
    "cni",
    "directory",
    "container",
];
/// Names of reserved labels.
const RESERVED: [&str; 11] = [
    "host",
    "world",
    "world-ipv4",
    "world-ipv6",
    "unmanaged",
    "health",
    "init",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "none",
];
/// Keys that nearly everybody writes in lower case.
const USUAL: [&str; 12] = [
    "app",
    "component",
    "env",
    "k8s-app",
    "name",
    "namespace",
    "org",
    "role",
    "service",
    "team",
    "tier",
    "version",
];

impl Context<'_> {
    /// What is wrong with a selector, in words. `home` is the namespace that a
    /// namespaced policy scopes its peers to.
    pub(super) fn selector(&self, selector: &Selector, home: Option<&str>) -> Vec<String> {
        let mut found = Vec::new();
        let mut seen: Vec<(&SelectorKey, &Operator)> = Vec::new();
        for requirement in selector.requirements() {
            let (key, operator) = (&requirement.key, &requirement.operator);
            let wants = matches!(operator, Operator::In(_) | Operator::Exists);
            if wants {
                found.extend(self.key(key));
                found.extend(self.namespace(key, operator));
            }
            let contradicts = |(other, earlier): &(&SelectorKey, &Operator)| {
                other.key == key.key
                    && match (earlier, operator) {
                        (Operator::In(some), Operator::In(more)) => some.is_disjoint(more),
                        _ => false,
                    }
            };
            if seen.iter().any(contradicts) {
                found.push(format!("matches nothing: `{}` would need two values", key.key));
            }
            seen.push((key, operator));
        }
        if found.is_empty() {
            found.extend(self.elsewhere(selector, home));
        }
        found
    }

    fn key(&self, key: &SelectorKey) -> Option<String> {
        let name = key.key.as_str();
        if let Source::Other(source) = &key.source
            && !SOURCES.contains(&source.as_str())
        {
            return Some(format!(
                "matches nothing: no label has the source `{source}`; write `k8s:` or leave it out"
            ));
        }
        match key.source {
            Source::Reserved if !RESERVED.contains(&name) => {
                return Some(format!("matches nothing: there is no label `reserved:{name}`"));
            }
            Source::Reserved | Source::Cidr | Source::Other(_) => return None,
            Source::K8s | Source::Any => {}
        }
        if !self.filter.keeps(name) {
            return Some(format!(
                "matches nothing: `{name}` is not part of identities; use a label of your own, or \
                 for a namespace's label `k8s:{NAMESPACE_LABELS}{name}`"
            ));
        }
        if name.starts_with("io.")
            || self.cluster.pods.iter().any(|pod| pod.labels.contains_key(name))
        {
            return None;
        }
        let lower = name.to_lowercase();
        let known = self.cluster.pods.iter().flat_map(|pod| pod.labels.keys());
        let other =
            known.map(String::as_str).chain(USUAL).find(|known| known.to_lowercase() == lower)?;
        (other != name).then(|| {
            format!("probably matches nothing: labels have a case, and the label is `{other}`, not `{name}`")
        })
    }

    fn namespace(&self, key: &SelectorKey, operator: &Operator) -> Option<String> {
        let Operator::In(values) = operator else { return None };
        if key.key != NAMESPACE || self.cluster.namespaces.is_empty() {
            return None;
        }
        let known = |name: &String| {
            self.cluster.namespaces.iter().any(|namespace| namespace.name == *name)
                || self.cluster.pods.iter().any(|pod| pod.name.namespace == *name)
        };
        let missing: Vec<String> =
            values.iter().filter(|name| !known(name)).map(|name| format!("`{name}`")).collect();
        (!missing.is_empty())
            .then(|| format!("matches nothing: there is no namespace {}", missing.join(", ")))
    }

    /// A peer of a namespaced policy whose labels are only elsewhere.
    fn elsewhere(&self, selector: &Selector, home: Option<&str>) -> Option<String> {
        let home = home?;
        let pods = |anywhere: bool| {
            let narrowed: Selector = selector
                .requirements()
                .filter(|requirement| !anywhere || requirement.key.key != NAMESPACE)
                .cloned()
                .collect();
            let labels = |pod: &model::Pod| {
                let mut labels: Labels =
                    pod.labels.iter().map(|(key, value)| Label::k8s(key, value)).collect();
                labels.insert(Label::k8s(NAMESPACE, &pod.name.namespace));
                labels
            };
            let found: Vec<String> = self
                .cluster
                .pods
                .iter()
                .filter(|pod| narrowed.matches(&labels(pod)))
                .map(|pod| pod.name.namespace.clone())
                .collect();
            found
        };
        let implied = selector.requirements().any(|requirement| {
            requirement.key == SelectorKey::k8s(NAMESPACE)
                && requirement.operator == Operator::In([home.to_owned()].into())
        });
        let named = selector.requirements().count() > 1;
        if !implied || !named || self.cluster.pods.is_empty() || !pods(false).is_empty() {
            return None;
        }
        let elsewhere = pods(true).into_iter().next()?;
        Some(format!(
            "matches nothing: a peer is in the policy's namespace `{home}` unless it names another; \
             such pods are in `{elsewhere}`: add `k8s:{NAMESPACE}: {elsewhere}`"
        ))
    }
}

/// Labels that a selector matches, as good as can be made up.
pub(super) fn sample(selector: &Selector) -> Labels {
    let mut labels = Labels::new();
    for requirement in selector.requirements() {
        let value = match &requirement.operator {
            Operator::In(values) => values.iter().next().cloned().unwrap_or_default(),
            Operator::Exists => "x".to_owned(),
            Operator::NotIn(_) | Operator::DoesNotExist => continue,
        };
        let source = match &requirement.key.source {
            Source::Any => Source::K8s,
            source => source.clone(),
        };
        labels.insert(Label { key: requirement.key.key.clone(), source, value });
    }
    labels
}
