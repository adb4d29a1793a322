//! Random cases and seeded mutants, for differential tests here and elsewhere.
//!
//! Plain deterministic code: the same seed gives the same case on every
//! machine. The universe is small, so that rules collide: two namespaces, three
//! applications, a dozen ports, a handful of ranges and every reserved identity.

mod dice;
mod draw;
mod mutant;
mod universe;

use std::collections::BTreeMap;

use model::{Direction, IdentityBook, IdentityId, Labels, Reserved};

use crate::testing::dice::Dice;
use crate::testing::universe::Universe;
use crate::{
    AllowLocalhost, Capabilities, CidrMatch, CompileError, Decision, Enforcement, Mode, Options,
    Policy, Port, Ports, Probe, References, Rule, Table, compile, evaluate, refuses_carrier,
    shadow_of,
};

pub use mutant::{Mutant, compile_mutant};

/// The cluster of every case.
const CLUSTER: &str = "here";
/// Ports that rules and probes share, with the edges of the range.
const PORTS: [u16; 13] = [1, 79, 80, 81, 443, 1023, 1024, 4789, 8080, 8081, 8083, 8090, 65535];
/// Protocols of probes: TCP, UDP, SCTP, ICMP, ICMPv6, one that carries packets and one
/// that nobody knows.
const PROTOCOLS: [u8; 11] = [6, 6, 6, 6, 17, 17, 132, 1, 58, 47, 253];
/// How many packets a case asks about.
const PACKETS: usize = 8;

/// One packet to ask about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Direction, seen from the subject.
    pub direction: Direction,
    /// The other end.
    pub peer: IdentityId,
    /// IANA protocol number.
    pub protocol: u8,
    /// Destination port; the type for ICMP, where types are told apart; else 0.
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
        self.decide(&self.policies, packet)
    }

    /// What they would mean if policies in shadow mode were in force and retired ones
    /// away; `None` also where the subject is selected by neither.
    pub fn evaluate_shadow(&self, packet: &Packet) -> Option<Decision> {
        let mut others = self.policies.iter().filter(|policy| policy.mode != Mode::Enforce);
        let concerned = others.any(|policy| policy.rules.iter().any(|r| r.selects(&self.subject)));
        if !concerned || self.options.enforcement == Enforcement::Never {
            return None;
        }
        self.decide(&shadow_of(&self.policies)?, packet)
    }

    /// Whether a packet that carries packets is refused although policies let it out;
    /// `None`: it carries none.
    pub fn refuses_carrier(&self, packet: &Packet) -> Option<bool> {
        let probe = self.probe(packet)?;
        refuses_carrier(&self.policies, &self.subject, &self.ports, &probe, &self.options)
    }

    fn probe(&self, packet: &Packet) -> Option<Probe<'_>> {
        Some(Probe {
            direction: packet.direction,
            peer: self.identities.labels(packet.peer)?,
            protocol: packet.protocol,
            port: packet.port,
        })
    }

    fn decide(&self, policies: &[Policy], packet: &Packet) -> Option<Decision> {
        let probe = self.probe(packet)?;
        Some(evaluate(policies, &self.subject, &self.ports, &probe, &self.options))
    }
}

/// The case of a seed, with what the datapath can enforce today.
pub fn random_case(seed: u64) -> Case {
    case(seed, false)
}

/// The case of a seed, with everything the language has.
pub fn broad_case(seed: u64) -> Case {
    case(seed, true)
}

/// The case of a seed where some policies are in shadow mode, and some retired.
pub fn shadowed_case(seed: u64, broad: bool) -> Case {
    let mut case = case(seed, broad);
    let mut dice = Dice::new(!seed);
    for policy in &mut case.policies {
        policy.mode = dice.pick(&[Mode::Enforce, Mode::Shadow, Mode::Enforce, Mode::Retire]);
    }
    case
}

fn case(seed: u64, broad: bool) -> Case {
    let mut dice = Dice::new(seed);
    let options = options(&mut dice, broad);
    let policies = draw::policies(&mut dice);
    let references = References::of(&policies, &options);
    let universe = Universe::new(&references);
    let subject = universe.subject(&mut dice);
    let identities = universe.book();
    let packets = packets(&mut dice, &policies, &identities, &subject, &options);
    let ports = [("http", (6, 8080)), ("dns", (17, 443)), ("admin", (6, 8081))]
        .into_iter()
        .filter(|_| dice.chance(80))
        .map(|(name, port)| (name.to_owned(), port))
        .collect();
    Case { policies, options, identities, subject, ports, packets }
}

fn options(dice: &mut Dice, broad: bool) -> Options {
    let today = Capabilities { labels: true, ..Capabilities::DATAPATH };
    let capabilities = match (broad, dice.below(4)) {
        (true, 0) => Capabilities::ALL,
        (true, 1) => Capabilities { icmp_types: true, ..today },
        (true, 2) => Capabilities { layer7: true, ..today },
        _ => today,
    };
    Options {
        enforcement: match dice.below(20) {
            0 => Enforcement::Never,
            1 => Enforcement::Always,
            _ => Enforcement::Default,
        },
        allow_localhost: dice.pick(&[AllowLocalhost::Always, AllowLocalhost::Policy]),
        cluster: CLUSTER.to_owned(),
        default_local_cluster: dice.chance(80),
        cidr_match: dice.pick(&[
            None,
            None,
            Some(CidrMatch { nodes: true, pods: false }),
            Some(CidrMatch { nodes: true, pods: true }),
        ]),
        capabilities,
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
        let packet = packet(dice, &everybody, options.capabilities.icmp_types);
        if rules.is_empty() || dice.chance(40) {
            return packet;
        }
        let rule = rules[dice.below(rules.len())];
        aimed(dice, packet, rule, &everybody, options)
    };
    (0..PACKETS).map(draw).collect()
}

fn packet(dice: &mut Dice, everybody: &[(IdentityId, &Labels)], icmp_types: bool) -> Packet {
    let protocol = dice.pick(&PROTOCOLS);
    let peer =
        if dice.chance(8) { Reserved::Host.id() } else { everybody[dice.below(everybody.len())].0 };
    Packet {
        direction: dice.pick(&[Direction::Ingress, Direction::Egress]),
        peer,
        protocol,
        port: match protocol {
            6 | 17 | 132 => port(dice),
            1 | 58 if icmp_types => dice.pick(&[0, 3, 8, 128, 129]),
            _ => 0,
        },
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
    let typed = options.capabilities.icmp_types || matches!(numbers, [6 | 17 | 132, ..]);
    let port = match entry.port {
        _ if !typed => 0,
        Port::Range(first, last) => dice.pick(&[first, last]),
        Port::Named(_) => dice.pick(&[8080, 443, 8081]),
        Port::Any => port(dice),
    };
    Packet { protocol: numbers[dice.below(numbers.len())], port, ..packet }
}

#[cfg(test)]
mod tests;
