//! Rules that never decide, because another matches all that they match first.
//!
//! Judged by what is written: what it does not see is not reported.

use policy::{Action, Peer, Peers, Port, PortMatch, Ports, Rule, Selector, Subject, Tier};

/// Longer lists are not compared: a remark is not worth the time.
const MOST_PAIRS: usize = 10_000;

/// Whether `other` decides whatever `rule` matches.
pub(super) fn hides(other: &Rule, rule: &Rule) -> bool {
    rank(other) < rank(rule)
        && other.action != Action::Pass
        && other.layer7.is_none()
        && other.direction == rule.direction
        && covers_subject(&other.subject, &rule.subject)
        && covers_peers(&other.peers, &rule.peers)
        && covers_ports(&other.ports, &rule.ports)
}

/// What decides first is smaller.
pub(super) fn rank(rule: &Rule) -> (Tier, u32, Action) {
    (rule.tier, rule.priority, rule.action)
}

/// Whether the first is about everybody whom the second is about.
pub(super) fn covers_subject(one: &Subject, other: &Subject) -> bool {
    match (one, other) {
        (Subject::Endpoints(one), Subject::Endpoints(other))
        | (Subject::Nodes(one), Subject::Nodes(other)) => covers(one, other),
        _ => false,
    }
}

fn covers(one: &Selector, other: &Selector) -> bool {
    one.requirements().all(|requirement| other.contains(requirement))
}

fn covers_peers(one: &Peers, other: &Peers) -> bool {
    match (one, other) {
        (Peers::Any, _) => true,
        (Peers::OneOf(_), Peers::Any) => false,
        (Peers::OneOf(some), Peers::OneOf(more)) => {
            some.len().saturating_mul(more.len()) <= MOST_PAIRS
                && !more.is_empty()
                && more.iter().all(|peer| some.iter().any(|one| covers_peer(one, peer)))
        }
    }
}

fn covers_peer(one: &Peer, other: &Peer) -> bool {
    match (one, other) {
        (Peer::Endpoints(one), Peer::Endpoints(other) | Peer::LocalEndpoints(other))
        | (Peer::LocalEndpoints(one), Peer::LocalEndpoints(other)) => covers(one, other),
        (Peer::Cidr(one), Peer::Cidr(other)) => {
            one.except.is_empty() && one.reach >= other.reach && one.net.contains(&other.net)
        }
        (one, other) => one == other,
    }
}

fn covers_ports(one: &Ports, other: &Ports) -> bool {
    match (one, other) {
        (Ports::All, _) => true,
        (Ports::OneOf(_), Ports::All) => false,
        (Ports::OneOf(some), Ports::OneOf(more)) => {
            !more.is_empty()
                && more.iter().all(|port| some.iter().any(|one| covers_port(one, port)))
        }
    }
}

fn covers_port(one: &PortMatch, other: &PortMatch) -> bool {
    let protocols = one.transport.numbers();
    other.transport.numbers().iter().all(|number| protocols.contains(number))
        && match (&one.port, &other.port) {
            (Port::Any, _) => true,
            (Port::Range(first, last), Port::Range(from, to)) => first <= from && to <= last,
            (one, other) => one == other,
        }
}
