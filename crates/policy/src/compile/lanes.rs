//! Peers grouped by the rules they match.

use std::collections::BTreeMap;

use model::{Direction, IdentityId};

use crate::options::Options;
use crate::population::Population;
use crate::references::named_ports;
use crate::rule::{Peers, Rule};

/// Which rules a group of peers matches, and what else tells it from others.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Claims {
    /// Positions of rules, sorted.
    pub rules: Vec<usize>,
    /// Whether it is the own node, which is let in.
    pub localhost: bool,
    /// Its named ports, if a rule asks for names.
    pub ports: BTreeMap<String, (u8, u16)>,
}

/// The groups of one direction.
pub(super) struct Lanes {
    /// What is said about anybody.
    pub anybody: Claims,
    /// Groups that match more than that.
    pub peers: BTreeMap<Claims, Vec<IdentityId>>,
}

impl Lanes {
    pub fn new(
        rules: &[&Rule],
        population: &Population<'_>,
        options: &Options,
        localhost: bool,
    ) -> Self {
        let ends = population.ends();
        let mut matched: Vec<Vec<usize>> = vec![Vec::new(); ends.len()];
        let mut anybody = Claims::default();
        // Rules for anybody whose ports depend on the peer.
        let mut by_name = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let names = rule.direction == Direction::Egress && rule.ports.names().next().is_some();
            match &rule.peers {
                Peers::Any => {
                    anybody.rules.push(at);
                    if names {
                        by_name.push(at);
                    }
                }
                Peers::OneOf(peers) => {
                    for peer in peers {
                        for &end in population.matching(peer, options).iter() {
                            let list =
                                usize::try_from(end).ok().and_then(|end| matched.get_mut(end));
                            if let Some(list) = list.filter(|list| list.last() != Some(&at)) {
                                list.push(at);
                            }
                        }
                    }
                }
            }
        }
        let egress_names = rules
            .iter()
            .any(|rule| rule.direction == Direction::Egress && rule.ports.names().next().is_some());
        let mut peers: BTreeMap<Claims, Vec<IdentityId>> = BTreeMap::new();
        for ((id, labels), mut rules) in ends.iter().zip(matched) {
            let ports = if egress_names { named_ports(labels) } else { BTreeMap::new() };
            if !ports.is_empty() && !by_name.is_empty() {
                rules.extend(&by_name);
                rules.sort_unstable();
            }
            let localhost = localhost && labels.has_reserved("host");
            if rules.is_empty() && !localhost {
                continue;
            }
            peers.entry(Claims { rules, localhost, ports }).or_default().push(*id);
        }
        Self { anybody, peers }
    }
}
