//! Compilers with one bug each. A differential test that does not catch every
//! one of them is too weak.
//!
//! The bugs are made around the real compiler, by changing what goes in or what
//! comes out, so that nothing of them is in production code.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::{Direction, RuleSet, RuleSetId};

use crate::rule::{Action, Peers, Rule, Subject};
use crate::table::{Entry, Key, masked};
use crate::testing::Case;
use crate::{
    AllowLocalhost, Capabilities, CidrPeer, CompileError, Enforcement, Entity, NamePattern,
    Operator, Peer, Policy, Port, PortMatch, Ports, Reach, References, Requirement, Selector,
    SelectorKey, Table, Tier, Transport, Why,
};

/// One bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say which bug it is")]
pub enum Mutant {
    DenyIsForgotten,
    AllowWinsTies,
    TiersAreForgotten,
    FoldingIsSkipped,
    DecidersAreLost,
    RangeEndsEarly,
    RangeEndsLate,
    RangeStartsLate,
    PortMaskIsShort,
    NamedPortIsForgotten,
    AnyProtocolIncludesIcmp,
    AnyProtocolLacksSctp,
    PeerNamespaceIsForgotten,
    PeerClusterIsForgotten,
    SubjectNamespaceIsForgotten,
    MissingKeyFailsNotIn,
    EmptyPeersMeanAnybody,
    EmptyPortsMeanAll,
    WorldIsOneIdentity,
    DefaultDenyIsForgotten,
    OpenPolicyDeniesByDefault,
    CausesOfDefaultDenyAreLost,
    EnforcementModeIsForgotten,
    LocalhostIsForgotten,
    LocalhostWinsOverDeny,
    PassIsForgotten,
    PassAllows,
    PassedEntriesAreWeak,
    InsideIsForgotten,
    AuthenticationIsForgotten,
    NodesAreEndpoints,
    ExceptionIsForgotten,
    RangeReachesEverybody,
    RangeReachesTheWorldOnly,
    RangeIsExact,
    NameIsAnyName,
    NodeLabelsAreForgotten,
    NamedPortOfPeerIsForgotten,
    IcmpTypesAreForgotten,
    ConflictsAreForgotten,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 40] = [
        Self::DenyIsForgotten,
        Self::AllowWinsTies,
        Self::TiersAreForgotten,
        Self::FoldingIsSkipped,
        Self::DecidersAreLost,
        Self::RangeEndsEarly,
        Self::RangeEndsLate,
        Self::RangeStartsLate,
        Self::PortMaskIsShort,
        Self::NamedPortIsForgotten,
        Self::AnyProtocolIncludesIcmp,
        Self::AnyProtocolLacksSctp,
        Self::PeerNamespaceIsForgotten,
        Self::PeerClusterIsForgotten,
        Self::SubjectNamespaceIsForgotten,
        Self::MissingKeyFailsNotIn,
        Self::EmptyPeersMeanAnybody,
        Self::EmptyPortsMeanAll,
        Self::WorldIsOneIdentity,
        Self::DefaultDenyIsForgotten,
        Self::OpenPolicyDeniesByDefault,
        Self::CausesOfDefaultDenyAreLost,
        Self::EnforcementModeIsForgotten,
        Self::LocalhostIsForgotten,
        Self::LocalhostWinsOverDeny,
        Self::PassIsForgotten,
        Self::PassAllows,
        Self::PassedEntriesAreWeak,
        Self::InsideIsForgotten,
        Self::AuthenticationIsForgotten,
        Self::NodesAreEndpoints,
        Self::ExceptionIsForgotten,
        Self::RangeReachesEverybody,
        Self::RangeReachesTheWorldOnly,
        Self::RangeIsExact,
        Self::NameIsAnyName,
        Self::NodeLabelsAreForgotten,
        Self::NamedPortOfPeerIsForgotten,
        Self::IcmpTypesAreForgotten,
        Self::ConflictsAreForgotten,
    ];
}

/// What a compiler with this bug makes of the case.
pub fn compile_mutant(mutant: Mutant, case: &Case) -> Result<Table, CompileError> {
    let mut case = case.clone();
    match mutant {
        Mutant::EnforcementModeIsForgotten => case.options.enforcement = Enforcement::Default,
        Mutant::LocalhostIsForgotten => case.options.allow_localhost = AllowLocalhost::Policy,
        Mutant::DenyIsForgotten => {
            for policy in &mut case.policies {
                policy.rules.retain(|rule| rule.action == Action::Allow);
            }
        }
        Mutant::IcmpTypesAreForgotten => case.options.capabilities.icmp_types = false,
        // Whoever can do all of it asks for none of it, unless it is contradicted.
        Mutant::ConflictsAreForgotten if case.options.capabilities == Capabilities::ALL => {
            for rule in case.policies.iter_mut().flat_map(|policy| &mut policy.rules) {
                (rule.layer7, rule.authentication) = (None, None);
            }
        }
        Mutant::FoldingIsSkipped => return unfolded(&case),
        Mutant::RangeIsExact => {
            let known: Vec<IpNet> = References::of(&case.policies, &case.options)
                .ranges()
                .map(|(net, _)| net)
                .collect();
            for range in case.policies.iter_mut().flat_map(ranges) {
                let inside =
                    known.iter().filter(|net| **net != range.net && range.net.contains(*net));
                range.except.extend(inside);
            }
        }
        Mutant::DecidersAreLost
        | Mutant::PortMaskIsShort
        | Mutant::PassedEntriesAreWeak
        | Mutant::CausesOfDefaultDenyAreLost
        | Mutant::LocalhostWinsOverDeny => return Ok(damage(mutant, &case.compile()?)),
        in_rules => {
            let rules = case.policies.iter_mut().flat_map(|policy| &mut policy.rules);
            rules.for_each(|rule| misread(in_rules, rule));
        }
    }
    case.compile()
}

fn ranges(policy: &mut Policy) -> impl Iterator<Item = &mut CidrPeer> {
    policy
        .rules
        .iter_mut()
        .flat_map(|rule| match &mut rule.peers {
            Peers::Any => &mut [][..],
            Peers::OneOf(peers) => peers.as_mut_slice(),
        })
        .filter_map(|peer| match peer {
            Peer::Cidr(range) => Some(range),
            _ => None,
        })
}

/// Bugs in what a rule is taken to say.
fn misread(mutant: Mutant, rule: &mut Rule) {
    match mutant {
        Mutant::AllowWinsTies => {
            rule.priority = rule.priority * 2 + u32::from(rule.action == Action::Deny);
        }
        Mutant::TiersAreForgotten => (rule.tier, rule.priority) = (Tier::Normal, 0),
        Mutant::SubjectNamespaceIsForgotten => {
            if let Subject::Endpoints(selector) = &mut rule.subject {
                drop_namespace(selector);
            }
        }
        Mutant::PassIsForgotten if rule.action == Action::Pass => rule.ports = Ports::OneOf(vec![]),
        Mutant::PassAllows if rule.action == Action::Pass => rule.action = Action::Allow,
        Mutant::InsideIsForgotten => rule.layer7 = None,
        Mutant::AuthenticationIsForgotten => rule.authentication = None,
        Mutant::NodesAreEndpoints => {
            if let Subject::Nodes(selector) = &rule.subject {
                rule.subject = Subject::Endpoints(selector.clone());
            }
        }
        Mutant::EmptyPeersMeanAnybody if rule.peers == Peers::OneOf(Vec::new()) => {
            rule.peers = Peers::Any;
        }
        Mutant::EmptyPortsMeanAll if rule.ports == Ports::OneOf(Vec::new()) => {
            rule.ports = Ports::All;
        }
        Mutant::NamedPortOfPeerIsForgotten => {
            if let (Direction::Egress, Ports::OneOf(list)) = (rule.direction, &mut rule.ports) {
                list.retain(|entry| !matches!(entry.port, Port::Named(_)));
            }
        }
        Mutant::DefaultDenyIsForgotten => rule.default_deny = false,
        Mutant::OpenPolicyDeniesByDefault => rule.default_deny = true,
        in_parts => {
            if let Peers::OneOf(peers) = &mut rule.peers {
                peers.iter_mut().for_each(|peer| misread_peer(in_parts, peer));
            }
            misread_ports(in_parts, &mut rule.ports);
        }
    }
}

fn misread_peer(mutant: Mutant, peer: &mut Peer) {
    match (mutant, &mut *peer) {
        (
            Mutant::PeerNamespaceIsForgotten,
            Peer::Endpoints(selector) | Peer::LocalEndpoints(selector),
        ) => drop_namespace(selector),
        (
            Mutant::MissingKeyFailsNotIn,
            Peer::Endpoints(selector) | Peer::LocalEndpoints(selector),
        ) => {
            let negated: Vec<SelectorKey> = selector
                .requirements()
                .filter(|requirement| matches!(requirement.operator, Operator::NotIn(_)))
                .map(|requirement| requirement.key.clone())
                .collect();
            for key in negated {
                selector.insert(Requirement { key, operator: Operator::Exists });
            }
        }
        (Mutant::PeerClusterIsForgotten, Peer::LocalEndpoints(selector)) => {
            *peer = Peer::Endpoints(selector.clone());
        }
        (Mutant::ExceptionIsForgotten, Peer::Cidr(range)) => range.except.clear(),
        (Mutant::RangeReachesEverybody, Peer::Cidr(range)) => range.reach = Reach::Everybody,
        (Mutant::RangeReachesTheWorldOnly, Peer::Cidr(range)) => range.reach = Reach::World,
        (Mutant::NameIsAnyName, Peer::Name(pattern)) => {
            if let Ok(wider) = NamePattern::pattern("*.example.com") {
                *pattern = wider;
            }
        }
        (Mutant::NodeLabelsAreForgotten, Peer::Nodes(selector)) => *selector = Selector::default(),
        (Mutant::WorldIsOneIdentity, Peer::Entity(Entity::World)) => {
            let world = SelectorKey::parse("reserved:world");
            let only = Requirement { key: world, operator: Operator::Exists };
            *peer = Peer::Endpoints([only].into_iter().collect());
        }
        _ => {}
    }
}

fn drop_namespace(selector: &mut Selector) {
    selector.retain(|requirement| requirement.key.key != crate::scope::POD_NAMESPACE);
}

fn misread_ports(mutant: Mutant, ports: &mut Ports) {
    let Ports::OneOf(list) = ports else { return };
    if mutant == Mutant::AnyProtocolIncludesIcmp {
        let everything = PortMatch { transport: Transport::Any, port: Port::Any };
        if list.contains(&everything) {
            *ports = Ports::All;
        }
        return;
    }
    if mutant == Mutant::NamedPortIsForgotten {
        list.retain(|entry| !matches!(entry.port, Port::Named(_)));
    }
    if mutant == Mutant::AnyProtocolLacksSctp {
        let both = |entry: PortMatch| match entry.transport {
            Transport::Any => vec![
                PortMatch { transport: Transport::Tcp, ..entry.clone() },
                PortMatch { transport: Transport::Udp, ..entry },
            ],
            _ => vec![entry],
        };
        *list = std::mem::take(list).into_iter().flat_map(both).collect();
    }
    for entry in list {
        if let Port::Range(first, last) = entry.port {
            let (first, last) = match mutant {
                Mutant::RangeEndsEarly => (first, last.saturating_sub(1).max(first)),
                Mutant::RangeEndsLate => (first, last.saturating_add(1)),
                Mutant::RangeStartsLate => (first.saturating_add(1).min(last), last),
                _ => (first, last),
            };
            entry.port = Port::Range(first, last);
        }
    }
}

/// Bugs in what is written out.
fn damage(mutant: Mutant, table: &Table) -> Table {
    let mut rule_sets: BTreeMap<RuleSetId, RuleSet> =
        table.rule_sets().map(|(id, set)| (id, set.clone())).collect();
    if mutant == Mutant::DecidersAreLost {
        rule_sets.values_mut().for_each(|set| set.rules.truncate(1));
    }
    let entries = table.entries().map(|(mut key, mut entry)| {
        match mutant {
            Mutant::PortMaskIsShort if key.port_bits == 16 => {
                (key.port, key.port_bits) = (masked(key.port, 15), 15);
            }
            Mutant::PassedEntriesAreWeak if entry.precedence == u32::MAX => entry.precedence = 0,
            Mutant::CausesOfDefaultDenyAreLost if entry.why == Why::DefaultDeny => {
                entry.rules = RuleSetId::default();
            }
            Mutant::LocalhostWinsOverDeny if entry.why == Why::LocalHost => {
                entry.precedence = u32::MAX;
            }
            _ => {}
        }
        (key, entry)
    });
    Table::new(entries.collect(), rule_sets)
}

/// Each rule compiled alone and laid over the others: what a compiler writes
/// that does not let shorter prefixes reach longer ones.
fn unfolded(case: &Case) -> Result<Table, CompileError> {
    let whole = case.compile()?;
    let mut sets: BTreeMap<RuleSetId, RuleSet> =
        whole.rule_sets().map(|(id, set)| (id, set.clone())).collect();
    let mut entries: BTreeMap<Key, Entry> =
        whole.entries().filter(|(_, entry)| entry.precedence == 0).collect();
    let rules =
        case.policies.iter().flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
    for (policy, rule) in rules {
        let policy = Policy { rules: vec![rule.clone()].into(), ..policy.clone() };
        let alone = Case { policies: vec![policy], ..case.clone() }.compile()?;
        sets.extend(alone.rule_sets().map(|(id, set)| (id, set.clone())));
        for (key, entry) in alone.entries() {
            let present = entries.get(&key);
            if present.is_none_or(|present| present.precedence < entry.precedence) {
                entries.insert(key, entry);
            }
        }
    }
    Ok(Table::new(entries, sets))
}
