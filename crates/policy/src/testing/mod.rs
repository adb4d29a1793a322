//! Random cases and seeded mutants, for differential tests here and elsewhere.
//!
//! Plain deterministic code: the same seed gives the same case on every
//! machine. The universe is small, so that rules collide: two namespaces, three
//! applications, a dozen ports and every reserved identity.

mod dice;
mod mutant;

use std::collections::BTreeMap;

use model::{
    Direction, IdentityBook, IdentityId, Label, Labels, PolicyKind, PolicyName, Reserved, RuleId,
};

use crate::testing::dice::Dice;
use crate::{
    Action, AllowLocalhost, CompileError, Decision, Enforcement, Entity, Operator, Options, Peer,
    Peers, Policy, Port, PortMatch, Ports, Probe, Requirement, Rule, Selector, SelectorKey, Table,
    Tier, Transport, clusterwide_peer, compile, evaluate, namespaced_peer, namespaced_subject,
};

pub use mutant::{Mutant, compile_mutant};

/// The cluster of every case.
const CLUSTER: &str = "here";
/// Ports that rules and probes share, with the edges of the range.
const PORTS: [u16; 12] = [1, 79, 80, 81, 443, 1023, 1024, 8080, 8081, 8083, 8090, 65535];
/// Protocols of probes: TCP, UDP, SCTP, ICMP, ICMPv6 and one that nobody knows.
const PROTOCOLS: [u8; 10] = [6, 6, 6, 6, 17, 17, 132, 1, 58, 253];
/// How many packets a case asks about.
const PACKETS: usize = 24;

/// One packet to ask about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Direction, seen from the subject.
    pub direction: Direction,
    /// The other end.
    pub peer: IdentityId,
    /// IANA protocol number.
    pub protocol: u8,
    /// Destination port; 0 for protocols that have none.
    pub port: u16,
}

/// A whole question: policies, everybody they may be about, and packets.
#[derive(Clone, Debug)]
pub struct Case {
    /// The policies.
    pub policies: Vec<Policy>,
    /// The installation's choices.
    pub options: Options,
    /// Everybody.
    pub identities: IdentityBook,
    /// Whose table is meant.
    pub subject: Labels,
    /// The subject's named ports.
    pub ports: BTreeMap<String, (u8, u16)>,
    /// What to ask.
    pub packets: Vec<Packet>,
}

impl Case {
    /// The subject's table.
    pub fn compile(&self) -> Result<Table, CompileError> {
        compile(&self.policies, &self.subject, &self.ports, &self.identities, &self.options)
    }

    /// What the rules mean for a packet; `None` if the peer is not of this case.
    pub fn evaluate(&self, packet: &Packet) -> Option<Decision> {
        let probe = Probe {
            direction: packet.direction,
            peer: self.identities.labels(packet.peer)?,
            protocol: packet.protocol,
            port: packet.port,
        };
        Some(evaluate(&self.policies, &self.subject, &self.ports, &probe, &self.options))
    }
}

/// The case of a seed.
pub fn random_case(seed: u64) -> Case {
    let mut dice = Dice::new(seed);
    let pods = pods();
    let identities = IdentityBook::new(pods.clone());
    let subject = match dice.below(40) {
        0 => Reserved::Host.identity().labels,
        1 | 2 => Reserved::Init.identity().labels,
        at if at < 16 => pods[at % pods.len()].clone(),
        // Mostly of the namespace that most policies are in.
        at => pods[at % 6].clone(),
    };
    let options = options(&mut dice);
    let policies: Vec<Policy> = (0..dice.below(7)).map(|index| policy(&mut dice, index)).collect();
    let packets = packets(&mut dice, &policies, &identities, &subject, &options);
    let ports = [("http", (6, 8080)), ("dns", (17, 443)), ("admin", (6, 8081))]
        .into_iter()
        .filter(|_| dice.chance(80))
        .map(|(name, port)| (name.to_owned(), port))
        .collect();
    Case { policies, options, identities, subject, ports, packets }
}

/// Every pod: two namespaces, three applications, with and without a tier; and
/// one of another cluster.
fn pods() -> Vec<Labels> {
    let mut pods = Vec::new();
    for (namespace, team) in [("a", "red"), ("b", "blue")] {
        for app in ["x", "y", "z"] {
            for tier in [None, Some("db")] {
                pods.push(pod(namespace, team, app, tier, CLUSTER));
            }
        }
    }
    pods.push(pod("a", "red", "x", None, "there"));
    pods
}

fn pod(namespace: &str, team: &str, app: &str, tier: Option<&str>, cluster: &str) -> Labels {
    let mut labels: Labels = [
        Label::k8s("app", app),
        Label::k8s("io.kubernetes.pod.namespace", namespace),
        Label::k8s("io.cilium.k8s.namespace.labels.team", team),
        Label::k8s("io.cilium.k8s.policy.cluster", cluster),
    ]
    .into_iter()
    .collect();
    if let Some(tier) = tier {
        labels.insert(Label::k8s("tier", tier));
    }
    labels
}

fn options(dice: &mut Dice) -> Options {
    Options {
        enforcement: match dice.below(20) {
            0 => Enforcement::Never,
            1 => Enforcement::Always,
            _ => Enforcement::Default,
        },
        allow_localhost: dice.pick(&[AllowLocalhost::Always, AllowLocalhost::Policy]),
        cluster: CLUSTER.to_owned(),
        default_local_cluster: dice.chance(80),
        ..Options::default()
    }
}

/// Half of the packets are drawn freely; the others are aimed at a rule about
/// the subject, or most would meet none.
fn packets(
    dice: &mut Dice,
    policies: &[Policy],
    identities: &IdentityBook,
    subject: &Labels,
    options: &Options,
) -> Vec<Packet> {
    let everybody: Vec<(IdentityId, &Labels)> = identities.iter().collect();
    let rules: Vec<&Rule> = policies
        .iter()
        .flat_map(|policy| &policy.rules)
        .filter(|rule| rule.selects(subject))
        .collect();
    let draw = |_| {
        let packet = packet(dice, &everybody);
        if rules.is_empty() || dice.chance(40) {
            return packet;
        }
        let rule = rules[dice.below(rules.len())];
        aimed(dice, packet, rule, &everybody, options)
    };
    (0..PACKETS).map(draw).collect()
}

fn packet(dice: &mut Dice, everybody: &[(IdentityId, &Labels)]) -> Packet {
    let protocol = dice.pick(&PROTOCOLS);
    let peer =
        if dice.chance(8) { Reserved::Host.id() } else { everybody[dice.below(everybody.len())].0 };
    Packet {
        direction: dice.pick(&[Direction::Ingress, Direction::Egress]),
        peer,
        protocol,
        port: if matches!(protocol, 6 | 17 | 132) { port(dice) } else { 0 },
    }
}

/// A port that rules name, or a neighbour, so that a bound off by one shows.
fn port(dice: &mut Dice) -> u16 {
    let port = dice.pick(&PORTS);
    match dice.below(4) {
        0 => port.saturating_add(1),
        1 => port.saturating_sub(1),
        _ => port,
    }
}

/// The packet, changed to match the rule where it can.
fn aimed(
    dice: &mut Dice,
    packet: Packet,
    rule: &Rule,
    everybody: &[(IdentityId, &Labels)],
    options: &Options,
) -> Packet {
    let matching: Vec<IdentityId> = everybody
        .iter()
        .filter(|(_, labels)| rule.peers.matches(labels, options))
        .map(|(id, _)| *id)
        .collect();
    let peer = match matching.len() {
        0 => packet.peer,
        len => matching[dice.below(len)],
    };
    let packet = Packet { direction: rule.direction, peer, ..packet };
    let Ports::OneOf(list) = &rule.ports else { return packet };
    let Some(entry) = list.first() else { return packet };
    let numbers = entry.transport.numbers();
    let port = match entry.port {
        Port::Range(first, last) => dice.pick(&[first, last]),
        Port::Named(_) => dice.pick(&[8080, 443, 8081]),
        Port::Any => port(dice),
    };
    Packet { protocol: numbers[dice.below(numbers.len())], port, ..packet }
}

/// Where a policy is, and so what its selectors are scoped to.
type Place = Option<&'static str>;

fn policy(dice: &mut Dice, index: usize) -> Policy {
    let place: Place = dice.pick(&[None, Some("a"), Some("a"), Some("b")]);
    let kind = match place {
        Some(_) => PolicyKind::CiliumNetworkPolicy,
        None => PolicyKind::CiliumClusterwideNetworkPolicy,
    };
    let name =
        PolicyName { kind, namespace: place.map(str::to_owned), name: format!("policy-{index}") };
    let open = [dice.chance(35), dice.chance(35)];
    let rules = (0..=dice.below(3)).map(|at| rule(dice, &name, place, at, open)).collect();
    Policy { name, rules }
}

fn rule(dice: &mut Dice, policy: &PolicyName, place: Place, at: usize, open: [bool; 2]) -> Rule {
    let direction = dice.pick(&[Direction::Ingress, Direction::Egress]);
    let action = if dice.chance(58) { Action::Allow } else { Action::Deny };
    let (tier, priority) = match dice.below(12) {
        0 => (Tier::Admin, dice.below(3)),
        1 => (Tier::Baseline, dice.below(3)),
        _ => (Tier::Normal, 0),
    };
    let written = if dice.chance(60) { Selector::default() } else { selector(dice) };
    let subject = match place {
        Some(namespace) => namespaced_subject(written, namespace),
        None => written,
    };
    Rule {
        id: RuleId { policy: policy.clone(), path: format!("specs[{at}].{direction}[0]") },
        tier,
        priority: u32::try_from(priority).unwrap_or_default(),
        peers: peers(dice, place, &subject),
        subject,
        direction,
        action,
        ports: ports(dice, direction),
        default_deny: !open[usize::from(direction == Direction::Egress)],
    }
}

fn peers(dice: &mut Dice, place: Place, subject: &Selector) -> Peers {
    match dice.below(20) {
        0..=3 => Peers::Any,
        4 => Peers::OneOf(Vec::new()),
        5..=8 => Peers::OneOf(vec![Peer::Entity(dice.pick(&Entity::ALL))]),
        _ => {
            let selectors = (0..=dice.below(2)).map(|_| match dice.below(4) {
                0 => Selector::default(),
                _ => selector(dice),
            });
            let peers = selectors.map(|written| match place {
                Some(namespace) => namespaced_peer(written, namespace),
                None => clusterwide_peer(written, subject),
            });
            Peers::OneOf(peers.collect())
        }
    }
}

fn selector(dice: &mut Dice) -> Selector {
    (0..=dice.below(2)).map(|_| requirement(dice)).collect()
}

fn requirement(dice: &mut Dice) -> Requirement {
    let (key, values) = dice.pick(&[
        ("app", ["x", "y"]),
        ("k8s:app", ["y", "z"]),
        ("any:app", ["z", "x"]),
        ("tier", ["db", "web"]),
        ("io.kubernetes.pod.namespace", ["a", "b"]),
        ("k8s:io.kubernetes.pod.namespace", ["b", "a"]),
        ("io.cilium.k8s.namespace.labels.team", ["red", "blue"]),
        ("io.cilium.k8s.policy.cluster", ["here", "there"]),
        ("reserved:host", ["", "x"]),
        ("$world", ["", "x"]),
    ]);
    let both = || values.map(str::to_owned).into();
    let operator = match dice.below(8) {
        0 => Operator::Exists,
        1 => Operator::DoesNotExist,
        2 => Operator::In(both()),
        3 => Operator::NotIn(both()),
        4 => Operator::NotIn([values[0].to_owned()].into()),
        _ => Operator::In([values[0].to_owned()].into()),
    };
    Requirement { key: SelectorKey::parse(key), operator }
}

fn ports(dice: &mut Dice, direction: Direction) -> Ports {
    match dice.below(20) {
        0..=5 => Ports::All,
        6 => Ports::OneOf(Vec::new()),
        _ => Ports::OneOf((0..=dice.below(3)).map(|_| port_match(dice, direction)).collect()),
    }
}

fn port_match(dice: &mut Dice, direction: Direction) -> PortMatch {
    let transport = dice.pick(&[Transport::Any, Transport::Tcp, Transport::Udp, Transport::Sctp]);
    let (one, other) = (dice.pick(&PORTS), dice.pick(&PORTS));
    let port = match (dice.below(10), direction) {
        (0, _) => Port::Any,
        (1, Direction::Ingress) => Port::Named(dice.pick(&["http", "dns", "absent"]).to_owned()),
        (1..=4, _) => Port::Range(one.min(other), one.max(other)),
        _ => Port::Range(one, one),
    };
    PortMatch { transport, port }
}

#[cfg(test)]
mod tests;
