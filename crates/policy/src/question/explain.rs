//! Why an answer is what it is: the rules that were considered, in words, and
//! for a denial the smallest rule that would allow it.

use model::{Direction, Label, Labels, PolicyName, RuleId};

use crate::mode::World;
use crate::options::Options;
use crate::peer::Peer;
use crate::ports::{Port, PortMatch, Ports, Transport};
use crate::question::answer::{CARRIES_PACKETS, Side, SideAnswer, Verdict};
use crate::question::suggest;
use crate::rule::{Action, Peers, Policy, Rule};

/// How an answer came about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Explanation {
    /// Remarks where no policy is asked.
    pub remarks: Vec<String>,
    /// What was considered at each end, the sender's first.
    pub ends: Vec<EndExplained>,
}

/// What was considered at one end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndExplained {
    /// Which end.
    pub direction: Direction,
    /// Rules about the end, those that are asked first in front.
    pub rules: Vec<Considered>,
    /// Policies whose rules in this direction are not about the end.
    pub elsewhere: Vec<(PolicyName, String)>,
    /// What came of it, in words.
    pub outcome: String,
    /// What would have to be written, or changed, to let it pass.
    pub fix: Option<String>,
}

/// One rule, and why it matches or does not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Considered {
    /// The rule.
    pub rule: RuleId,
    /// What it does where it matches.
    pub action: Action,
    /// Why it does not match; `None`: it does.
    pub not: Option<String>,
    /// Whether it is among those that decide.
    pub decides: bool,
}

pub(super) fn explain(
    policies: &[Policy],
    options: &Options,
    egress: Option<(&Side, &SideAnswer)>,
    ingress: Option<(&Side, &SideAnswer)>,
) -> Explanation {
    let ends = egress
        .into_iter()
        .chain(ingress)
        .map(|(side, answer)| end(policies, options, side, answer))
        .collect();
    Explanation { remarks: Vec::new(), ends }
}

fn end(policies: &[Policy], options: &Options, side: &Side, answer: &SideAnswer) -> EndExplained {
    let mut about: Vec<&Rule> = Vec::new();
    let mut elsewhere = Vec::new();
    for policy in policies.iter().filter(|policy| policy.mode.counts_in(World::Live)) {
        let rules = || policy.rules.iter().filter(|rule| rule.direction == side.direction);
        let before = about.len();
        about.extend(rules().filter(|rule| rule.selects(&side.subject.labels)));
        if let (true, Some(rule)) = (about.len() == before, rules().next()) {
            let why = unmet(rule.subject.selector(), &side.subject.labels);
            elsewhere.push((policy.name.clone(), why));
        }
    }
    about.sort_by_key(|rule| (rule.tier, rule.priority, rule.action, rule.id.clone()));
    let rules = about
        .iter()
        .map(|rule| Considered {
            rule: rule.id.clone(),
            action: rule.action,
            not: why_not(rule, side, options),
            decides: answer.rules.contains(&rule.id),
        })
        .collect();
    let fix = (answer.verdict == Verdict::Denied).then(|| suggest::fix(side, answer));
    EndExplained { direction: side.direction, rules, elsewhere, outcome: outcome(answer), fix }
}

fn outcome(answer: &SideAnswer) -> String {
    let names: Vec<String> = answer.rules.iter().map(|rule| format!("`{rule}`")).collect();
    let because: Vec<String> = answer.because.iter().map(|name| format!("`{name}`")).collect();
    match answer.reason {
        "unenforced" => {
            "allowed: no policy switches default deny on here, and no rule matches".to_owned()
        }
        "rule" if names.is_empty() => "allowed: a pod's own node may always enter".to_owned(),
        "rule" => format!("allowed by {}", names.join(", ")),
        "deny-rule" => format!("denied by {}", names.join(", ")),
        "default-deny" if because.is_empty() => {
            "denied: nothing allows it, and everything here is denied by default".to_owned()
        }
        "default-deny" => format!(
            "denied: no rule allows it, and {} switched default deny on",
            because.join(", ")
        ),
        "auth-required" => {
            format!("denied: {} demands proof that the ends cannot give", names.join(", "))
        }
        CARRIES_PACKETS => "denied: it carries packets that nobody judges, and no rule that lets \
                            it out names its protocol or, to a node, its port"
            .to_owned(),
        other => match &answer.contradiction {
            Some(about) => {
                let verb = match names.len() {
                    1 => "contradicts itself",
                    _ => "contradict each other",
                };
                let names = names.join(" and ");
                format!("denied: {names} {verb} ({about} for the same peers and ports)")
            }
            None => format!("denied: {other}"),
        },
    }
}

/// Why a rule about the subject does not match; `None` if it does.
fn why_not(rule: &Rule, side: &Side, options: &Options) -> Option<String> {
    if !rule.peers.matches(&side.peer, options) {
        return Some(match &rule.peers {
            Peers::OneOf(peers) if peers.is_empty() => "it is about nobody".to_owned(),
            Peers::OneOf(peers) => {
                let each: Vec<String> =
                    peers.iter().map(|peer| why_not_peer(peer, &side.peer)).collect();
                format!("the other end is not meant: {}", each.join("; "))
            }
            Peers::Any => "the other end is not meant".to_owned(),
        });
    }
    if !rule.ports.matches(&side.named(), side.protocol, side.port, true) {
        return Some(match &rule.ports {
            Ports::OneOf(list) if list.is_empty() => "it names no port".to_owned(),
            Ports::OneOf(list) => {
                let each: Vec<String> = list.iter().map(ports).collect();
                format!("it is about {}, not {}", each.join(", "), asked(side.protocol, side.port))
            }
            Ports::All => "its ports do not match".to_owned(),
        });
    }
    None
}

fn why_not_peer(peer: &Peer, labels: &Labels) -> String {
    match peer {
        Peer::Endpoints(selector) | Peer::LocalEndpoints(selector) => {
            if selector.matches(labels) {
                "it is in another cluster".to_owned()
            } else {
                unmet(selector, labels)
            }
        }
        Peer::Nodes(selector) if labels.has_reserved("remote-node") => unmet(selector, labels),
        Peer::Nodes(_) => "it is no other node".to_owned(),
        Peer::Entity(entity) => format!("it is not `{}`", entity.name()),
        Peer::Cidr(range) => {
            let inside = crate::cidr::Place::of(labels) != crate::cidr::Place::World;
            match (inside, range.except.is_empty()) {
                (true, _) => format!(
                    "it is in the cluster, where {} does not reach by this kind's standard",
                    range.net
                ),
                (false, true) => format!("its address is not in {}", range.net),
                (false, false) => format!("its address is not in {}, or excepted", range.net),
            }
        }
        Peer::Name(pattern) => {
            format!("its address was not learnt for `{pattern}`: that needs a `dns` rule for it")
        }
        Peer::Group(_) => "it names a group of ranges that is not known".to_owned(),
        Peer::Service(_) => "it names a service that is not known".to_owned(),
    }
}

/// The first requirement that does not hold, and what is there instead.
fn unmet(selector: &crate::selector::Selector, labels: &Labels) -> String {
    for requirement in selector.requirements() {
        let alone: crate::selector::Selector = [requirement.clone()].into_iter().collect();
        if !alone.matches(labels) {
            let has = match labels.get(&requirement.key.key) {
                Some(Label { value, .. }) => format!("has `{value}`"),
                None => "has no such label".to_owned(),
            };
            return format!("it wants `{requirement}`, which {has}");
        }
    }
    "it is of another kind".to_owned()
}

fn ports(entry: &PortMatch) -> String {
    let protocol = match entry.transport {
        Transport::Any => "any protocol".to_owned(),
        Transport::Tcp => "TCP".to_owned(),
        Transport::Udp => "UDP".to_owned(),
        Transport::Sctp => "SCTP".to_owned(),
        Transport::Number(1) => "ICMP type".to_owned(),
        Transport::Number(58) => "ICMPv6 type".to_owned(),
        Transport::Number(number) => format!("protocol {number}"),
    };
    match &entry.port {
        Port::Any => protocol,
        Port::Range(first, last) if first == last => format!("{protocol} {first}"),
        Port::Range(first, last) => format!("{protocol} {first}-{last}"),
        Port::Named(name) => format!("{protocol} `{name}`"),
    }
}

fn asked(protocol: u8, port: u16) -> String {
    let name = suggest::protocol_name(protocol);
    match protocol {
        1 | 58 => format!("{name} type {port}"),
        6 | 17 | 132 => format!("{name} {port}"),
        _ => name,
    }
}
