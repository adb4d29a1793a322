//! The meaning of the language: reads the rules directly, for one packet.
//!
//! Slow and obvious on purpose. It shares no code with the compiler but the
//! matching of selectors and ports, so that each checks the other.

use std::collections::BTreeMap;

use model::{Direction, Labels, PolicyName, RuleId, RuleSet};

use crate::options::{AllowLocalhost, Enforcement, Options};
use crate::rule::{Action, Policy, Rule};
use crate::table::{Decision, Why};

/// One packet, as policy sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe<'a> {
    /// Direction, seen from the subject.
    pub direction: Direction,
    /// Identity labels of the other end.
    pub peer: &'a Labels,
    /// IANA protocol number.
    pub protocol: u8,
    /// Destination port; 0 for protocols that have none.
    pub port: u16,
}

/// Decides one packet of one subject, whose named container ports are `ports`.
pub fn evaluate(
    policies: &[Policy],
    subject: &Labels,
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
    options: &Options,
) -> Decision {
    let unenforced = Decision { allow: true, why: Why::Unenforced, rules: RuleSet::default() };
    if options.enforcement == Enforcement::Never {
        return unenforced;
    }

    // 1. Rules about this subject in this direction.
    let rules: Vec<&Rule> = policies
        .iter()
        .flat_map(|policy| &policy.rules)
        .filter(|rule| rule.direction == probe.direction && rule.selects(subject))
        .collect();

    // 2. Of these, the rules that match the packet, those that decide first in front.
    let mut matching: Vec<&Rule> =
        rules.iter().copied().filter(|rule| matches(rule, ports, probe, options)).collect();
    matching.sort_by_key(|rule| rank(rule));

    // 3. The first decides, together with all that rank the same.
    if let Some(first) = matching.first() {
        let deciding =
            matching.iter().filter(|rule| rank(rule) == rank(first)).map(|rule| rule.id.clone());
        let rules = RuleSet { rules: sorted(deciding), because: Vec::new() };
        return match first.action {
            Action::Allow => Decision { allow: true, why: Why::Rule, rules },
            Action::Deny => Decision { allow: false, why: Why::DenyRule, rules },
        };
    }

    // 4. No rule matches. Has anything switched default deny on?
    let because: Vec<PolicyName> =
        sorted(rules.iter().filter(|rule| rule.default_deny).map(|rule| rule.id.policy.clone()));
    let enforced = options.enforcement == Enforcement::Always
        || subject.has_reserved("init")
        || !because.is_empty();
    if !enforced {
        return unenforced;
    }

    // 5. The own node may enter although no rule says so.
    if probe.direction == Direction::Ingress
        && probe.peer.has_reserved("host")
        && !subject.has_reserved("host")
        && options.allow_localhost == AllowLocalhost::Always
    {
        return Decision { allow: true, why: Why::LocalHost, rules: RuleSet::default() };
    }
    let rules = RuleSet { rules: Vec::<RuleId>::new(), because };
    Decision { allow: false, why: Why::DefaultDeny, rules }
}

/// Tier first, then priority, then deny before allow.
fn rank(rule: &Rule) -> impl Ord {
    (rule.tier, rule.priority, rule.action)
}

fn matches(
    rule: &Rule,
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
    options: &Options,
) -> bool {
    rule.peers.matches(probe.peer, options) && rule.ports.matches(ports, probe.protocol, probe.port)
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.dedup();
    items
}

#[cfg(test)]
mod tests;
