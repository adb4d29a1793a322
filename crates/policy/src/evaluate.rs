//! The meaning of the language: reads the rules directly, for one packet.
//!
//! Slow and obvious on purpose. It shares no code with the compiler but the
//! matching of selectors and ports, so that each checks the other.

use std::collections::BTreeMap;

use model::{Direction, Labels, PolicyName, RuleId, RuleSet};

use crate::carrier;
use crate::conflict;
use crate::mode::World;
use crate::options::{AllowLocalhost, Enforcement, Options};
use crate::references::named_ports;
use crate::rule::{Action, Authentication, Policy, Rule};
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
    /// Destination port; the type for ICMP; 0 for protocols that have neither.
    pub port: u16,
}

/// Decides one packet of one subject, whose named container ports are `ports`.
///
/// What would be decided if policies in shadow mode were in force is what
/// [`shadow_of`](crate::shadow_of) them decides.
pub fn evaluate(
    policies: &[Policy],
    subject: &Labels,
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
    options: &Options,
) -> Decision {
    judge(policies, subject, ports, probe, options).decision
}

/// Whether a packet that policies let a pod send is refused nonetheless: it carries
/// packets that nobody has judged, and no rule that lets it through names its protocol
/// or port. `None`: nothing of that is asked.
pub fn refuses_carrier(
    policies: &[Policy],
    subject: &Labels,
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
    options: &Options,
) -> Option<bool> {
    let asked = carrier::carries(probe);
    asked.then(|| judge(policies, subject, ports, probe, options).is_unnamed_carrier(probe))
}

/// A decision, and what it was made of.
pub(crate) struct Judgement<'a> {
    pub decision: Decision,
    /// Whether default deny is on.
    pub default_deny: bool,
    /// The rules that decide, one for each way their text was lowered.
    pub deciding: Vec<&'a Rule>,
}

impl Judgement<'_> {
    /// See [`refuses_carrier`].
    pub fn is_unnamed_carrier(&self, probe: &Probe<'_>) -> bool {
        self.decision.allow && carrier::carries(probe) && !carrier::is_named(&self.deciding, probe)
    }
}

pub(crate) fn judge<'a>(
    policies: &'a [Policy],
    subject: &Labels,
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
    options: &Options,
) -> Judgement<'a> {
    let unenforced = Decision { allow: true, why: Why::Unenforced, rules: RuleSet::default() };
    if options.enforcement == Enforcement::Never {
        return Judgement { decision: unenforced, default_deny: false, deciding: Vec::new() };
    }

    // 1. Rules about this subject in this direction, of policies that decide.
    let rules: Vec<&Rule> = policies
        .iter()
        .filter(|policy| policy.mode.counts_in(World::Live))
        .flat_map(|policy| &policy.rules)
        .filter(|rule| rule.direction == probe.direction && rule.selects(subject))
        .collect();

    // 2. Has anything switched default deny on?
    let because: Vec<PolicyName> =
        sorted(rules.iter().filter(|rule| rule.default_deny).map(|rule| rule.id.policy.clone()));
    let default_deny = options.enforcement == Enforcement::Always
        || subject.has_reserved("init")
        || !because.is_empty();

    // 3. Of the rules, those that match the packet, tier by tier and level by level.
    let matching: Vec<&Rule> =
        rules.into_iter().filter(|rule| matches(rule, ports, probe, options)).collect();
    let told = Told { ports, probe, default_deny, options };
    if let Some((why, deciding)) = walk(&matching, &told) {
        return Judgement { decision: decision(why, &deciding), default_deny, deciding };
    }

    // 4. No rule decides.
    let by_default =
        |decision: Decision| Judgement { decision, default_deny, deciding: Vec::new() };
    if !default_deny {
        return by_default(unenforced);
    }

    // 5. The own node may enter although no rule says so.
    if probe.direction == Direction::Ingress
        && probe.peer.has_reserved("host")
        && !subject.has_reserved("host")
        && options.allow_localhost == AllowLocalhost::Always
    {
        let rules = RuleSet::default();
        return by_default(Decision { allow: true, why: Why::LocalHost, rules });
    }
    let rules = RuleSet { rules: Vec::<RuleId>::new(), because };
    by_default(Decision { allow: false, why: Why::DefaultDeny, rules })
}

/// What is told about a packet besides the rules.
struct Told<'t> {
    ports: &'t BTreeMap<String, (u8, u16)>,
    probe: &'t Probe<'t>,
    default_deny: bool,
    options: &'t Options,
}

/// What the matching rules say together; `None` if they leave it to the default.
fn walk<'a>(matching: &[&'a Rule], told: &Told<'_>) -> Option<(Why, Vec<&'a Rule>)> {
    let levels = sorted(matching.iter().map(|rule| (rule.tier, rule.priority)));
    let mut passed = None;
    for (tier, priority) in levels {
        if passed == Some(tier) {
            continue;
        }
        let of = |action: Action| {
            matching
                .iter()
                .copied()
                .filter(|rule| (rule.tier, rule.priority, rule.action) == (tier, priority, action))
                .collect::<Vec<&'a Rule>>()
        };
        let (deny, allow, pass) = (of(Action::Deny), of(Action::Allow), of(Action::Pass));
        if !deny.is_empty() {
            return Some((Why::DenyRule, deny));
        }
        if !allow.is_empty() {
            return Some(allowed(&allow, told));
        }
        if !pass.is_empty() {
            passed = Some(tier);
        }
    }
    None
}

/// What allow rules of one level say together. If a demand of some cannot be
/// checked, they let through only what another of them lets through without.
/// What they contradict each other about is denied.
fn allowed<'a>(allow: &[&'a Rule], told: &Told<'_>) -> (Why, Vec<&'a Rule>) {
    let contradicted = |rule: &Rule| allow.iter().any(|other| contradict(rule, other, told));
    let demand = |rule: &Rule| match contradicted(rule) {
        true => Demand::Strict,
        false => unmet(rule, told.default_deny, told.options),
    };
    let with = |wanted: Demand| {
        allow.iter().copied().filter(|rule| demand(rule) == wanted).collect::<Vec<&'a Rule>>()
    };
    let (strict, plain) = (with(Demand::Strict), with(Demand::None));
    match (strict.is_empty(), plain.is_empty()) {
        (true, true) => (Why::Unsupported, with(Demand::Liftable)),
        (true, false) => (Why::Rule, plain),
        (false, _) => (Why::Unsupported, strict),
    }
}

/// Whether two rules that match the packet by the same peer and the same ports,
/// as they are written, ask for what cannot be done at once.
fn contradict(one: &Rule, other: &Rule, told: &Told<'_>) -> bool {
    let Told { ports, probe, options, .. } = told;
    conflict::disagreement(one, other).is_some()
        && conflict::peers(one).into_iter().any(|peer| {
            peer.is_none_or(|peer| peer.matches(probe.peer, options))
                && conflict::peers(other).contains(&peer)
        })
        && conflict::routes(one).into_iter().any(|route| {
            let shared = conflict::ports_of(route);
            shared.matches(
                &destination_ports(ports, probe),
                probe.protocol,
                probe.port,
                options.capabilities.icmp_types,
            ) && conflict::routes(other).contains(&route)
        })
}

/// A demand of a rule that cannot be checked.
#[derive(Eq, PartialEq)]
enum Demand {
    None,
    /// Another rule of its level without the demand is enough.
    Liftable,
    /// Nothing lifts it.
    Strict,
}

fn unmet(rule: &Rule, default_deny: bool, options: &Options) -> Demand {
    let can = options.capabilities;
    let authentication = rule.authentication.is_some_and(|mode| mode != Authentication::Disabled);
    // Without default deny, demands on the inside of connections are lifted.
    let inside = rule.layer7.as_ref().filter(|_| default_deny);
    if authentication && !can.authentication
        || inside.is_some_and(|inside| inside.is_dns() && !can.layer7)
    {
        Demand::Strict
    } else if inside.is_some() && !can.layer7 || rule.ports.has_icmp_types() && !can.icmp_types {
        Demand::Liftable
    } else {
        Demand::None
    }
}

fn decision(why: Why, rules: &[&Rule]) -> Decision {
    let rules = sorted(rules.iter().map(|rule| rule.id.clone()));
    Decision { allow: why == Why::Rule, why, rules: RuleSet { rules, because: Vec::new() } }
}

/// Whether a rule about the subject matches the packet.
pub(crate) fn matches(
    rule: &Rule,
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
    options: &Options,
) -> bool {
    let types = options.capabilities.icmp_types;
    rule.peers.matches(probe.peer, options)
        && rule.ports.matches(&destination_ports(ports, probe), probe.protocol, probe.port, types)
}

/// Names of ports are the destination's.
fn destination_ports(
    ports: &BTreeMap<String, (u8, u16)>,
    probe: &Probe<'_>,
) -> BTreeMap<String, (u8, u16)> {
    match probe.direction {
        Direction::Ingress => ports.clone(),
        Direction::Egress => named_ports(probe.peer),
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.dedup();
    items
}

#[cfg(test)]
mod tests;
