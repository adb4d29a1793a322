//! The scope that a policy's place gives to its selectors (facts: `policy.md`
//! section 2.3): its namespace, all pods, or what the selector itself names.
//!
//! The cluster is not decided here: it is the installation's
//! ([`Options`](crate::Options)), so peers only say whether they are scoped.

use model::Source;

use crate::peer::Peer;
use crate::selector::{Operator, Requirement, Selector, SelectorKey};

/// The identity label that says which namespace a pod is in.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The identity label that says which cluster a pod is in.
pub(crate) const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
/// What identity labels that come from the namespace's own labels start with.
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

/// The subject of a namespaced policy: pods of that namespace, whatever
/// namespace the selector asks for.
pub fn namespaced_subject(mut selector: Selector, namespace: &str) -> Selector {
    selector.retain(|requirement| !is_pod_namespace(&requirement.key));
    selector.insert(Requirement::equals(SelectorKey::k8s(POD_NAMESPACE), namespace));
    selector
}

/// A peer of a namespaced policy: pods of that namespace, unless the selector
/// names a namespace, a namespace's labels, or a reserved identity.
pub fn namespaced_peer(mut selector: Selector, namespace: &str) -> Peer {
    if selects_reserved(&selector) {
        return Peer::Endpoints(selector);
    }
    let by_labels =
        selector.has_key(|key| key.key.starts_with(NAMESPACE_LABELS) && key.may_be_k8s());
    if !names_namespace(&selector) && !by_labels {
        selector.insert(Requirement::equals(SelectorKey::k8s(POD_NAMESPACE), namespace));
    }
    with_cluster(selector)
}

/// A peer of a cluster-wide policy: pods of any namespace, unless the selector
/// names a reserved identity. A policy for endpoints that have no labels yet
/// (`reserved:init`) may also name peers that are in no namespace.
pub fn clusterwide_peer(mut selector: Selector, subject: &Selector) -> Peer {
    if selects_reserved(&selector) {
        return Peer::Endpoints(selector);
    }
    let for_init = subject.has_key(|key| key.source == Source::Reserved && key.key == "init");
    if !names_namespace(&selector) && !for_init {
        let key = SelectorKey::k8s(POD_NAMESPACE);
        selector.insert(Requirement { key, operator: Operator::Exists });
    }
    with_cluster(selector)
}

fn with_cluster(selector: Selector) -> Peer {
    if selector.has_key(|key| key.key == CLUSTER && key.may_be_k8s()) {
        Peer::Endpoints(selector)
    } else {
        Peer::LocalEndpoints(selector)
    }
}

fn selects_reserved(selector: &Selector) -> bool {
    selector.has_key(|key| key.source == Source::Reserved)
}

fn names_namespace(selector: &Selector) -> bool {
    selector.has_key(is_pod_namespace)
}

fn is_pod_namespace(key: &SelectorKey) -> bool {
    key.key == POD_NAMESPACE && key.may_be_k8s()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(texts: &[(&str, Option<&str>)]) -> Selector {
        texts
            .iter()
            .map(|(key, value)| {
                let key = SelectorKey::parse(key);
                match value {
                    Some(value) => Requirement::equals(key, *value),
                    None => Requirement { key, operator: Operator::Exists },
                }
            })
            .collect()
    }

    #[track_caller]
    fn check_peer(peer: Peer, want: &str, local: bool) {
        match peer {
            Peer::Endpoints(selector) => {
                assert_eq!((selector.to_string(), false), (want.into(), local))
            }
            Peer::LocalEndpoints(selector) => {
                assert_eq!((selector.to_string(), true), (want.into(), local));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_namespaced_subject_is_in_its_namespace_whatever_it_asks_for() {
        let want = "k8s:io.kubernetes.pod.namespace=a";
        for asked in [
            selector(&[]),
            selector(&[("k8s:io.kubernetes.pod.namespace", Some("b"))]),
            selector(&[("io.kubernetes.pod.namespace", Some("b"))]),
        ] {
            assert_eq!(namespaced_subject(asked, "a").to_string(), want);
        }
    }

    #[test]
    fn a_peer_without_a_namespace_is_in_the_policys_own() {
        check_peer(namespaced_peer(selector(&[]), "a"), "k8s:io.kubernetes.pod.namespace=a", true);
        check_peer(
            namespaced_peer(selector(&[("app", Some("x"))]), "a"),
            "app=x,k8s:io.kubernetes.pod.namespace=a",
            true,
        );
    }

    #[test]
    fn a_peer_that_names_a_namespace_or_its_labels_is_left_there() {
        check_peer(
            namespaced_peer(selector(&[("io.kubernetes.pod.namespace", Some("b"))]), "a"),
            "io.kubernetes.pod.namespace=b",
            true,
        );
        check_peer(
            namespaced_peer(selector(&[("k8s:io.kubernetes.pod.namespace", None)]), "a"),
            "k8s:io.kubernetes.pod.namespace",
            true,
        );
        check_peer(
            namespaced_peer(
                selector(&[("k8s:io.cilium.k8s.namespace.labels.team", Some("x"))]),
                "a",
            ),
            "k8s:io.cilium.k8s.namespace.labels.team=x",
            true,
        );
    }

    #[test]
    fn a_reserved_peer_is_left_alone() {
        check_peer(
            namespaced_peer(selector(&[("reserved:host", None)]), "a"),
            "reserved:host",
            false,
        );
        check_peer(
            clusterwide_peer(selector(&[("$health", None), ("app", Some("x"))]), &selector(&[])),
            "app=x,reserved:health",
            false,
        );
    }

    #[test]
    fn a_clusterwide_peer_is_in_some_namespace() {
        check_peer(
            clusterwide_peer(selector(&[]), &selector(&[])),
            "k8s:io.kubernetes.pod.namespace",
            true,
        );
        check_peer(
            clusterwide_peer(
                selector(&[("app", Some("x"))]),
                &selector(&[("reserved:init", None)]),
            ),
            "app=x",
            true,
        );
        // Naming a namespace's labels does not spare a cluster-wide peer: it changes nothing.
        check_peer(
            clusterwide_peer(
                selector(&[("k8s:io.cilium.k8s.namespace.labels.team", Some("x"))]),
                &selector(&[]),
            ),
            "k8s:io.cilium.k8s.namespace.labels.team=x,k8s:io.kubernetes.pod.namespace",
            true,
        );
    }

    #[test]
    fn a_peer_that_names_a_cluster_is_not_bound_to_this_one() {
        check_peer(
            namespaced_peer(
                selector(&[("app", Some("x")), ("io.cilium.k8s.policy.cluster", Some("far"))]),
                "a",
            ),
            "app=x,io.cilium.k8s.policy.cluster=far,k8s:io.kubernetes.pod.namespace=a",
            false,
        );
    }
}
