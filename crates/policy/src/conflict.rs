//! Rules that cannot be put together: for the same peers and the same ports they
//! ask for what no proxy can do at once (facts: `policy.md` section 1.5).
//!
//! What such rules share is denied, whatever else allows it; what they do not
//! share is left to them. The evaluator asks about two rules at a time
//! ([`disagreement`]), the compiler about all of them ([`narrowed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{Direction, Labels, RuleId};

use crate::layer7::Requests;
use crate::mode::World;
use crate::peer::Peer;
use crate::ports::{Port, PortMatch, Ports, Transport};
use crate::precedence::Tier;
use crate::rule::{Action, Peers, Policy, Rule};

/// What rules disagree about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Disagreement {
    /// What is read in connections.
    Requests,
    /// With which secret TLS of the sender is ended.
    TerminatingTls,
    /// With which secret TLS to the receiver is begun.
    OriginatingTls,
    /// Which listener of one priority gets connections.
    Listener,
    /// Which proof is demanded.
    Authentication,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "different kinds of `rules`",
            Self::TerminatingTls => "different `terminatingTLS`",
            Self::OriginatingTls => "different `originatingTLS`",
            Self::Listener => "different listeners of one priority",
            Self::Authentication => "different modes of `authentication`",
        })
    }
}

/// Rules that contradict each other.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Conflict {
    /// What they disagree about.
    pub about: Disagreement,
    /// The rules, sorted; one alone contradicts itself.
    pub rules: Vec<RuleId>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.rules.iter().map(|rule| format!("`{rule}`")).collect();
        match names.as_slice() {
            [one] => write!(f, "{one} contradicts itself")?,
            names => write!(f, "{} contradict each other", names.join(" and "))?,
        }
        write!(f, ": {} for the same peers and the same ports; nothing passes there", self.about)
    }
}

/// What reads connections.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Proxy {
    Http,
    Dns,
    Kafka,
    /// TLS handshakes only.
    Tls,
    /// A listener of another proxy.
    Listener,
}

/// What a rule hands connections to, if to anything.
pub(crate) fn proxy(rule: &Rule) -> Option<Proxy> {
    let layer7 = rule.layer7.as_ref()?;
    Some(match (&layer7.listener, &layer7.requests) {
        (Some(_), _) => Proxy::Listener,
        (None, Requests::Http(_)) => Proxy::Http,
        (None, Requests::Dns(_)) => Proxy::Dns,
        (None, Requests::Kafka(_)) => Proxy::Kafka,
        (None, Requests::Any) => Proxy::Tls,
    })
}

/// What two rules about the same peers and ports disagree about, if anything.
/// Requests can be read in what only TLS was read of before.
pub(crate) fn disagreement(one: &Rule, other: &Rule) -> Option<Disagreement> {
    fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one != other)
    }
    let merge = |one, other| {
        one == other
            || matches!((one, other), (Proxy::Tls, Proxy::Http) | (Proxy::Http, Proxy::Tls))
    };
    if proxy(one).zip(proxy(other)).is_some_and(|(one, other)| !merge(one, other)) {
        return Some(Disagreement::Requests);
    }
    let both = one.layer7.as_ref().zip(other.layer7.as_ref());
    if both.is_some_and(|(a, b)| differ(a.terminating_tls.as_ref(), b.terminating_tls.as_ref())) {
        return Some(Disagreement::TerminatingTls);
    }
    if both.is_some_and(|(a, b)| differ(a.originating_tls.as_ref(), b.originating_tls.as_ref())) {
        return Some(Disagreement::OriginatingTls);
    }
    let listeners = both.and_then(|(a, b)| a.listener.as_ref().zip(b.listener.as_ref()));
    if listeners.is_some_and(|(a, b)| a.priority == b.priority && a != b) {
        return Some(Disagreement::Listener);
    }
    differ(one.authentication, other.authentication).then_some(Disagreement::Authentication)
}

/// A protocol and ports as they are written; `None`: everything.
type Route<'r> = Option<(u8, &'r Port)>;

/// The routes of a rule, one by one.
pub(crate) fn routes(rule: &Rule) -> Vec<Route<'_>> {
    let list = match &rule.ports {
        Ports::All => return vec![None],
        Ports::OneOf(list) => list,
    };
    let each = |entry: &'_ PortMatch| entry.transport.numbers();
    list.iter()
        .flat_map(|entry| each(entry).iter().map(|number| Some((*number, &entry.port))))
        .collect()
}

/// A route as ports of a rule.
pub(crate) fn ports_of(route: Route<'_>) -> Ports {
    match route {
        None => Ports::All,
        Some((number, port)) => Ports::OneOf(vec![PortMatch {
            transport: Transport::Number(number),
            port: port.clone(),
        }]),
    }
}

/// The peers of a rule, one by one; `None`: anybody.
pub(crate) fn peers(rule: &Rule) -> Vec<Option<&Peer>> {
    match &rule.peers {
        Peers::Any => vec![None],
        Peers::OneOf(peers) => peers.iter().map(Some).collect(),
    }
}

/// Whether a rule asks for anything that another can contradict.
fn demands(rule: &Rule) -> bool {
    rule.action == Action::Allow && (rule.layer7.is_some() || rule.authentication.is_some())
}

/// What rules share: a level, a route and a peer.
type Shared<'r> = (Direction, Tier, u32, Route<'r>, Option<&'r Peer>);

/// Every group of rules that share a level, a route and a peer and contradict
/// each other: positions by what they disagree about.
fn groups<'r>(rules: &[&'r Rule]) -> Vec<(Shared<'r>, BTreeMap<Disagreement, BTreeSet<usize>>)> {
    let mut by_route: BTreeMap<(Direction, Tier, u32, Route<'r>), BTreeSet<usize>> =
        BTreeMap::new();
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| demands(rule)) {
        for route in routes(rule) {
            let level = (rule.direction, rule.tier, rule.priority, route);
            by_route.entry(level).or_default().insert(at);
        }
    }
    let mut found = Vec::new();
    // Most routes end here, because all rules on them ask for the same.
    by_route.retain(|_, group| !contradictions(rules, group).is_empty());
    for ((direction, tier, priority, route), group) in by_route {
        let mut by_peer: BTreeMap<Option<&'r Peer>, BTreeSet<usize>> = BTreeMap::new();
        for at in group {
            for peer in peers(rules[at]) {
                by_peer.entry(peer).or_default().insert(at);
            }
        }
        for (peer, group) in by_peer {
            let contradictions = contradictions(rules, &group);
            if !contradictions.is_empty() {
                found.push(((direction, tier, priority, route, peer), contradictions));
            }
        }
    }
    found
}

/// Which of the rules contradict another of them, by what they disagree about.
fn contradictions(
    rules: &[&Rule],
    group: &BTreeSet<usize>,
) -> BTreeMap<Disagreement, BTreeSet<usize>> {
    let mut found: BTreeMap<Disagreement, BTreeSet<usize>> = BTreeMap::new();
    if group.len() < 2 {
        return found;
    }
    let rules = || group.iter().map(|at| (*at, rules[*at]));
    let inside = || rules().filter_map(|(at, rule)| Some((at, rule.layer7.as_ref()?)));

    let kinds = by_value(rules().filter_map(|(at, rule)| Some((proxy(rule)?, at))));
    if !kinds.keys().eq(&[Proxy::Http, Proxy::Tls]) {
        collect(&mut found, Disagreement::Requests, kinds);
    }
    let secrets = inside().filter_map(|(at, own)| Some((own.terminating_tls.as_ref()?, at)));
    collect(&mut found, Disagreement::TerminatingTls, by_value(secrets));
    let secrets = inside().filter_map(|(at, own)| Some((own.originating_tls.as_ref()?, at)));
    collect(&mut found, Disagreement::OriginatingTls, by_value(secrets));
    let listeners = inside().filter_map(|(at, own)| Some((own.listener.as_ref()?, at)));
    for listeners in by_value(listeners.map(|(one, at)| (one.priority, (one, at)))).into_values() {
        collect(&mut found, Disagreement::Listener, by_value(listeners.into_iter()));
    }
    let modes = rules().filter_map(|(at, rule)| Some((rule.authentication?, at)));
    collect(&mut found, Disagreement::Authentication, by_value(modes));
    found
}

fn by_value<K: Ord, V>(pairs: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (value, at) in pairs {
        groups.entry(value).or_default().push(at);
    }
    groups
}

/// Where there is more than one value, everybody who has one disagrees.
fn collect<K>(
    found: &mut BTreeMap<Disagreement, BTreeSet<usize>>,
    about: Disagreement,
    values: BTreeMap<K, Vec<usize>>,
) {
    if values.len() > 1 {
        found.entry(about).or_default().extend(values.into_values().flatten());
    }
}

/// What these rules about one subject share and contradict each other about:
/// each of them once more, for that only. It is to be denied.
pub(crate) fn narrowed(rules: &[&Rule]) -> Vec<Rule> {
    let mut shared: BTreeMap<(usize, Route<'_>), BTreeSet<Option<&Peer>>> = BTreeMap::new();
    for ((.., route, peer), contradictions) in groups(rules) {
        for at in contradictions.into_values().flatten() {
            shared.entry((at, route)).or_default().insert(peer);
        }
    }
    let narrow = |((at, route), peers): ((usize, Route<'_>), BTreeSet<Option<&Peer>>)| {
        let rule = rules[at];
        Rule {
            id: rule.id.clone(),
            tier: rule.tier,
            priority: rule.priority,
            subject: rule.subject.clone(),
            direction: rule.direction,
            action: rule.action,
            peers: match peers.contains(&None) {
                true => Peers::Any,
                false => Peers::OneOf(peers.into_iter().flatten().cloned().collect()),
            },
            ports: ports_of(route),
            default_deny: rule.default_deny,
            layer7: None,
            authentication: None,
            log: None,
        }
    };
    shared.into_iter().map(narrow).collect()
}

/// All that policies that decide, resolved, contradict each other about, for any of
/// these subjects.
pub fn conflicts<'l>(
    policies: &[Policy],
    subjects: impl IntoIterator<Item = &'l Labels>,
) -> BTreeSet<Conflict> {
    let deciding = policies.iter().filter(|policy| policy.mode.counts_in(World::Live));
    let all: Vec<&Rule> = deciding.flat_map(|policy| &policy.rules).collect();
    let possible: BTreeSet<usize> = groups(&all)
        .into_iter()
        .flat_map(|(_, contradictions)| contradictions.into_values().flatten())
        .collect();
    let mut found = BTreeSet::new();
    let mut seen: BTreeSet<Vec<usize>> = BTreeSet::new();
    for subject in subjects {
        if possible.is_empty() {
            break;
        }
        let about: Vec<usize> =
            possible.iter().copied().filter(|at| all[*at].selects(subject)).collect();
        if !seen.insert(about.clone()) {
            continue;
        }
        let rules: Vec<&Rule> = about.iter().map(|at| all[*at]).collect();
        for (about, group) in groups(&rules).into_iter().flat_map(|(_, found)| found) {
            let ids: BTreeSet<&RuleId> = group.iter().map(|at| &rules[*at].id).collect();
            found.insert(Conflict { about, rules: ids.into_iter().cloned().collect() });
        }
    }
    found
}
