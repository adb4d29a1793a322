//! The compiler: policies and a subject to the subject's [`Table`].
//!
//! For each direction: choose the rules that select the subject, sort the
//! identities by which of the rules they match, fold each such group's rules
//! into entries (see `fold`), and write them for every identity of the group.
//! Rules for any peer are a group of their own; the kernel joins the two.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{Direction, IdentityBook, IdentityId, Labels, PolicyName, RuleId, RuleSet, RuleSetId};

use crate::fold::{Prefix, Ruling, fold, prefixes};
use crate::options::{AllowLocalhost, Enforcement, Options};
use crate::ports::{Port, Ports};
use crate::precedence;
use crate::rule::{Action, Peers, Policy, Rule};
use crate::table::{Entry, Key, Table, Why};

/// Why policies have no table.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Precedences have room for so many levels only.
    #[error("`{rule}` has priority {priority}, which is beyond its tier")]
    Priority {
        /// The rule.
        rule: RuleId,
        /// What it asks for.
        priority: u32,
    },

    /// A name of a port in an egress rule means the peer's ports.
    #[error("`{rule}` names the port `{port}`: in egress rules ports are numbers")]
    EgressPortName {
        /// The rule.
        rule: RuleId,
        /// The name.
        port: String,
    },

    /// Refused whole: half a table would allow what the other half denies.
    #[error(
        "the table needs more than {limit} entries: use broader selectors or fewer port ranges"
    )]
    TooManyEntries {
        /// What the options allow.
        limit: usize,
    },
}

/// Compiles what `policies` mean for one subject.
///
/// `ports` are the subject's named container ports, `identities` all that its
/// peers can be.
pub fn compile(
    policies: &[Policy],
    subject: &Labels,
    ports: &BTreeMap<String, (u8, u16)>,
    identities: &IdentityBook,
    options: &Options,
) -> Result<Table, CompileError> {
    let mut draft = Draft { entries: BTreeMap::new(), limit: options.max_entries };
    for direction in [Direction::Ingress, Direction::Egress] {
        let rules = chosen(policies, subject, direction, options);
        let switched_on: BTreeSet<PolicyName> = rules
            .iter()
            .filter(|rule| rule.default_deny)
            .map(|rule| rule.id.policy.clone())
            .collect();
        let default_deny = match options.enforcement {
            Enforcement::Never => false,
            Enforcement::Always => true,
            Enforcement::Default => subject.has_reserved("init") || !switched_on.is_empty(),
        };
        let localhost = default_deny
            && direction == Direction::Ingress
            && options.allow_localhost == AllowLocalhost::Always
            && !subject.has_reserved("host");

        draft.put(Key::everything(direction), default_entry(default_deny, switched_on))?;
        let rulings = rulings(&rules, ports)?;
        for (claims, peers) in lanes(&rules, identities, options, localhost) {
            let mut own: Vec<(Prefix, Ruling)> =
                claims.rules.iter().flat_map(|rule| rulings[*rule].iter().cloned()).collect();
            if claims.localhost {
                own.push((Prefix::EVERYTHING, LOCALHOST));
            }
            for (prefix, ruling) in fold(own) {
                let entry = named(&ruling, &rules);
                for peer in &peers {
                    draft.put(key(direction, *peer, prefix), entry.clone())?;
                }
            }
        }
    }
    Ok(draft.table(RuleSet::id))
}

/// The rules that are about this subject in this direction, sorted by name.
fn chosen<'a>(
    policies: &'a [Policy],
    subject: &Labels,
    direction: Direction,
    options: &Options,
) -> Vec<&'a Rule> {
    if options.enforcement == Enforcement::Never {
        return Vec::new();
    }
    let mut rules: Vec<&Rule> = policies
        .iter()
        .flat_map(|policy| &policy.rules)
        .filter(|rule| rule.direction == direction && rule.selects(subject))
        .collect();
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    rules
}

/// What each rule says, by prefix.
fn rulings(
    rules: &[&Rule],
    ports: &BTreeMap<String, (u8, u16)>,
) -> Result<Vec<Vec<(Prefix, Ruling)>>, CompileError> {
    rules
        .iter()
        .enumerate()
        .map(|(position, rule)| {
            if let (Direction::Egress, Some(port)) = (rule.direction, port_name(&rule.ports)) {
                return Err(CompileError::EgressPortName { rule: rule.id.clone(), port });
            }
            let precedence =
                precedence::of(rule.tier, rule.priority, rule.action).ok_or_else(|| {
                    CompileError::Priority { rule: rule.id.clone(), priority: rule.priority }
                })?;
            let (allow, why) = match rule.action {
                Action::Allow => (true, Why::Rule),
                Action::Deny => (false, Why::DenyRule),
            };
            let ruling = Ruling { allow, why, precedence, rules: vec![position] };
            Ok(prefixes(&rule.ports, ports)
                .into_iter()
                .map(|prefix| (prefix, ruling.clone()))
                .collect())
        })
        .collect()
}

fn port_name(ports: &Ports) -> Option<String> {
    let Ports::OneOf(list) = ports else { return None };
    list.iter().find_map(|entry| match &entry.port {
        Port::Named(name) => Some(name.clone()),
        Port::Any | Port::Range(..) => None,
    })
}

/// Which rules a group of peers matches, by position.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Claims {
    rules: Vec<usize>,
    localhost: bool,
}

/// Peers grouped by the rules they match; `None` among them is any peer.
fn lanes(
    rules: &[&Rule],
    identities: &IdentityBook,
    options: &Options,
    localhost: bool,
) -> BTreeMap<Claims, Vec<Option<IdentityId>>> {
    let positions = |matches: &dyn Fn(&Rule) -> bool| -> Vec<usize> {
        rules.iter().enumerate().filter(|(_, rule)| matches(rule)).map(|(at, _)| at).collect()
    };
    let any = Claims { rules: positions(&|rule| rule.peers == Peers::Any), localhost: false };
    let mut lanes = BTreeMap::from([(any, vec![None])]);
    for (id, labels) in identities.iter() {
        let matched =
            positions(&|rule| rule.peers != Peers::Any && rule.peers.matches(labels, options));
        let localhost = localhost && labels.has_reserved("host");
        lanes.entry(Claims { rules: matched, localhost }).or_default().push(Some(id));
    }
    lanes
}

const LOCALHOST: Ruling = Ruling {
    allow: true,
    why: Why::LocalHost,
    precedence: precedence::LOCALHOST,
    rules: Vec::new(),
};

fn key(direction: Direction, peer: Option<IdentityId>, prefix: Prefix) -> Key {
    Key { direction, peer, protocol: prefix.protocol, port: prefix.port, port_bits: prefix.bits }
}

/// An entry whose rules are still names, not a number.
#[derive(Clone)]
struct NamedEntry {
    allow: bool,
    why: Why,
    precedence: u32,
    rules: Rc<RuleSet>,
}

fn default_entry(deny: bool, switched_on: BTreeSet<PolicyName>) -> NamedEntry {
    let (why, because) = match deny {
        true => (Why::DefaultDeny, switched_on.into_iter().collect()),
        false => (Why::Unenforced, Vec::new()),
    };
    let rules = Rc::new(RuleSet { rules: Vec::new(), because });
    NamedEntry { allow: !deny, why, precedence: precedence::DEFAULT, rules }
}

fn named(ruling: &Ruling, rules: &[&Rule]) -> NamedEntry {
    let mut names: Vec<RuleId> = ruling.rules.iter().map(|at| rules[*at].id.clone()).collect();
    names.dedup();
    NamedEntry {
        allow: ruling.allow,
        why: ruling.why,
        precedence: ruling.precedence,
        rules: Rc::new(RuleSet { rules: names, because: Vec::new() }),
    }
}

/// A table in the making.
struct Draft {
    entries: BTreeMap<Key, NamedEntry>,
    limit: usize,
}

impl Draft {
    /// Adds an entry. A rule that covers everything replaces the default.
    fn put(&mut self, key: Key, entry: NamedEntry) -> Result<(), CompileError> {
        self.entries.insert(key, entry);
        if self.entries.len() > self.limit {
            return Err(CompileError::TooManyEntries { limit: self.limit });
        }
        Ok(())
    }

    /// Numbers the sets of rules. Of two sets that want the same number the one
    /// that sorts first gets it, whatever else the table holds.
    fn table(self, number: impl Fn(&RuleSet, u32) -> RuleSetId) -> Table {
        let sets: BTreeSet<&RuleSet> = self.entries.values().map(|entry| &*entry.rules).collect();
        let mut ids: BTreeMap<&RuleSet, RuleSetId> = BTreeMap::new();
        let mut rule_sets: BTreeMap<RuleSetId, RuleSet> = BTreeMap::new();
        for set in sets {
            let mut attempt = 0;
            let mut id = number(set, attempt);
            while rule_sets.contains_key(&id) {
                attempt += 1;
                id = number(set, attempt);
            }
            ids.insert(set, id);
            if *set != RuleSet::default() {
                rule_sets.insert(id, set.clone());
            }
        }
        let entries = self
            .entries
            .iter()
            .map(|(key, entry)| {
                let NamedEntry { allow, why, precedence, rules } = entry;
                let rules = ids.get(&**rules).copied().unwrap_or_default();
                (*key, Entry { allow: *allow, why: *why, precedence: *precedence, rules })
            })
            .collect();
        Table::new(entries, rule_sets)
    }
}

#[cfg(test)]
mod tests;
