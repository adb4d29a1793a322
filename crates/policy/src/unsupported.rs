//! Which rules ask for more than is enforced, and what they then do.
//!
//! Such a rule lets nothing through that it would let through under its
//! condition. The evaluator has its own reading of the same words.

use std::fmt;

use model::RuleId;

use crate::options::{Capabilities, Options};
use crate::peer::Peer;
use crate::precedence::Effect;
use crate::rule::{Action, Authentication, Peers, Policy, Rule, Subject};
use crate::scope::CLUSTER;
use crate::selector::{Operator, Requirement};

/// What a rule asks for that is not enforced yet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Feature {
    /// Telling ICMP types apart.
    IcmpTypes,
    /// Looking inside connections.
    Layer7,
    /// Knowing whether both ends have proved who they are.
    Authentication,
    /// Learning the addresses of names.
    Names,
    /// Judging packets of nodes.
    Nodes,
    /// Knowing who is in another cluster.
    Clusters,
    /// Knowing the service or the group of ranges that it refers to.
    References,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IcmpTypes => "ICMP types are not told apart yet",
            Self::Layer7 => "the inside of connections is not looked at yet",
            Self::Authentication => "authentication is not enforced yet",
            Self::Names => "addresses of names are not learnt yet",
            Self::Nodes => "packets of nodes are not judged yet",
            Self::Clusters => "clusters are not joined yet: nobody of another one is known",
            Self::References => "what it refers to is not known",
        })
    }
}

/// A rule and what it asks for in vain.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Unsupported {
    /// The rule.
    pub rule: RuleId,
    /// What is missing.
    pub feature: Feature,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not in force: {}", self.rule, self.feature)
    }
}

/// Every rule that asks for more than these options enforce, sorted.
pub fn unsupported(policies: &[Policy], options: &Options) -> Vec<Unsupported> {
    let can = options.capabilities;
    let mut found = Vec::new();
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        let has = |wanted: fn(&Peer) -> bool| matches!(&rule.peers, Peers::OneOf(peers) if peers.iter().any(wanted));
        let names = has(|peer| matches!(peer, Peer::Name(_)));
        let unknown = has(|peer| matches!(peer, Peer::Group(_) | Peer::Service(_)));
        let missing = [
            (needs_icmp_types(rule), can.icmp_types, Feature::IcmpTypes),
            (rule.layer7.is_some(), can.layer7, Feature::Layer7),
            (needs_authentication(rule), can.authentication, Feature::Authentication),
            (names, can.names, Feature::Names),
            (matches!(rule.subject, Subject::Nodes(_)), can.nodes, Feature::Nodes),
            (names_another_cluster(rule, &options.cluster), false, Feature::Clusters),
            (unknown, false, Feature::References),
        ];
        found.extend(
            missing
                .into_iter()
                .filter(|(asked, can, _)| *asked && !can)
                .map(|(_, _, feature)| Unsupported { rule: rule.id.clone(), feature }),
        );
    }
    found.sort();
    found.dedup();
    found
}

/// Whether a peer is asked for that can only be in a cluster that is not this one.
fn names_another_cluster(rule: &Rule, own: &str) -> bool {
    let Peers::OneOf(peers) = &rule.peers else { return false };
    let is_another = |requirement: &Requirement| {
        let key = &requirement.key;
        key.key == CLUSTER
            && key.may_be_k8s()
            && matches!(&requirement.operator, Operator::In(names) if !names.contains(own))
    };
    peers.iter().any(|peer| match peer {
        Peer::Endpoints(selector) => selector.requirements().any(is_another),
        _ => false,
    })
}

fn needs_icmp_types(rule: &Rule) -> bool {
    rule.ports.has_icmp_types()
}

fn needs_authentication(rule: &Rule) -> bool {
    matches!(rule.authentication, Some(Authentication::Required | Authentication::AlwaysFails))
}

/// What a rule does to what it matches. Without default deny in its direction
/// its demands on the inside of connections are lifted (facts: section 1.5).
pub(crate) fn effect(rule: &Rule, can: Capabilities, default_deny: bool) -> Effect {
    match rule.action {
        Action::Deny => return Effect::Deny,
        Action::Pass => return Effect::Pass,
        Action::Allow => {}
    }
    if needs_authentication(rule) && !can.authentication {
        return Effect::UnsupportedStrong;
    }
    let demands = rule.layer7.as_ref().filter(|_| default_deny && !can.layer7);
    match demands {
        // A broader rule does not widen which names may be asked for.
        Some(layer7) if layer7.is_dns() => Effect::UnsupportedStrong,
        Some(_) => Effect::UnsupportedWeak,
        None if needs_icmp_types(rule) && !can.icmp_types => Effect::UnsupportedWeak,
        None => Effect::Allow,
    }
}
