//! The compiler: policies and a subject to the subject's [`Table`].
//!
//! For each direction: choose the rules that select the subject, sort the
//! identities by which of the rules they match, fold each such group's rules
//! into entries (see `fold`), and write them for every identity of the group.
//! Rules for any peer are a group of their own; the kernel joins the two.
//!
//! A rule that passes breaks that join: then the groups of peers hold the rules
//! for anybody too, and are the whole answer (see `passing`).

mod draft;
mod lanes;

use std::collections::{BTreeMap, BTreeSet};

use model::{Direction, IdentityBook, Labels, PolicyName, RuleId, RuleSet};

use crate::cidr::{CidrMatch, cidr_label};
use crate::compile::draft::{Draft, NamedEntry};
use crate::compile::lanes::{Claims, Lanes};
use crate::conflict;
use crate::fold::{Prefix, Ruling, fold, prefixes};
use crate::mode::{Mode, World};
use crate::options::{AllowLocalhost, Enforcement, Options};
use crate::passing::{self, Voice};
use crate::peer::Peer;
use crate::population::Population;
use crate::precedence::{self, Effect, Tier};
use crate::rule::{Peers, Policy, Rule};
use crate::table::{Key, Table, Why};
use crate::unsupported::effect;

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

    /// Without it, addresses in the range would pass for others.
    #[error("`{rule}` names the range {range}, which has no identity here")]
    UnknownRange {
        /// The rule.
        rule: RuleId,
        /// The range.
        range: String,
    },

    /// The same for ports by name, nodes by label and addresses in the cluster.
    #[error(
        "`{rule}` names ports or nodes, or addresses in the cluster, and identities here do not \
         say who has them"
    )]
    Unlabelled {
        /// The rule.
        rule: RuleId,
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
/// peers can be. For several subjects a [`Compiler`] is faster.
pub fn compile(
    policies: &[Policy],
    subject: &Labels,
    ports: &BTreeMap<String, (u8, u16)>,
    identities: &IdentityBook,
    options: &Options,
) -> Result<Table, CompileError> {
    Compiler::new(policies, identities, options).table(subject, ports)
}

/// Policies and everybody they may be about, ready to compile for many subjects.
pub struct Compiler<'a> {
    policies: &'a [Policy],
    options: &'a Options,
    population: Population<'a>,
    /// Labels of the ranges that have an identity.
    ranges: BTreeSet<&'a str>,
}

impl<'a> Compiler<'a> {
    /// Prepares to compile.
    pub fn new(policies: &'a [Policy], identities: &'a IdentityBook, options: &'a Options) -> Self {
        let population = Population::new(identities);
        let ranges = population
            .ends()
            .iter()
            .flat_map(|(_, labels)| labels.iter())
            .filter(|label| label.source == model::Source::Cidr)
            .map(|label| label.key.as_str())
            .collect();
        Self { policies, options, population, ranges }
    }

    /// The table of a subject whose named container ports are `ports`.
    pub fn table(
        &self,
        subject: &Labels,
        ports: &BTreeMap<String, (u8, u16)>,
    ) -> Result<Table, CompileError> {
        self.table_of(self.policies, subject, ports)
    }

    /// The table that some policies alone would make, among the same peers.
    pub fn table_of(
        &self,
        policies: &[Policy],
        subject: &Labels,
        ports: &BTreeMap<String, (u8, u16)>,
    ) -> Result<Table, CompileError> {
        let mut draft = Draft::new(self.options.max_entries);
        self.write(World::Live, policies, (subject, ports), &mut draft)?;
        if !self.has_shadow(policies, subject) {
            return Ok(draft.table(RuleSet::id));
        }
        // What decides nothing must not keep from being in force what does.
        let refused = self.write(World::Shadow, policies, (subject, ports), &mut draft).err();
        if refused.is_some() {
            draft.forget_shadow();
        }
        let table = draft.table(RuleSet::id);
        Ok(match refused {
            Some(why) => table.without_shadow(why),
            None => table,
        })
    }

    /// Both directions of one world.
    fn write(
        &self,
        world: World,
        policies: &[Policy],
        (subject, ports): (&Labels, &BTreeMap<String, (u8, u16)>),
        draft: &mut Draft,
    ) -> Result<(), CompileError> {
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules = self.chosen(world, policies, subject, direction);
            let conflicts = conflict::narrowed(&rules);
            let side = Side::new(self, &rules, &conflicts, subject, ports, direction)?;
            side.write(world, draft)?;
        }
        Ok(())
    }

    /// Whether the subject is selected by a policy that is in force in one world only.
    fn has_shadow(&self, policies: &[Policy], subject: &Labels) -> bool {
        let mut others = policies.iter().filter(|policy| policy.mode != Mode::Enforce);
        self.options.enforcement != Enforcement::Never
            && others.any(|policy| policy.rules.iter().any(|rule| rule.selects(subject)))
    }

    /// The rules that are about a subject in a direction, sorted by name.
    fn chosen<'r>(
        &self,
        world: World,
        policies: &'r [Policy],
        subject: &Labels,
        direction: Direction,
    ) -> Vec<&'r Rule> {
        if self.options.enforcement == Enforcement::Never {
            return Vec::new();
        }
        let mut rules: Vec<&Rule> = policies
            .iter()
            .filter(|policy| policy.mode.counts_in(world))
            .flat_map(|policy| &policy.rules)
            .filter(|rule| rule.direction == direction && rule.selects(subject))
            .collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        rules
    }

    /// Refuses a rule that would miss whom it means: identities must carry what
    /// it mentions.
    fn check_labels(&self, rule: &Rule) -> Result<(), CompileError> {
        let peers = match &rule.peers {
            Peers::Any => &[][..],
            Peers::OneOf(peers) => peers,
        };
        let by_name = rule.direction == Direction::Egress && rule.ports.names().next().is_some();
        let by_label = |peer: &Peer| match peer {
            Peer::Nodes(_) => true,
            Peer::Cidr(range) => {
                let also = CidrMatch::of(range.reach, self.options);
                also.nodes || also.pods
            }
            _ => false,
        };
        if !self.options.capabilities.labels && (by_name || peers.iter().any(by_label)) {
            return Err(CompileError::Unlabelled { rule: rule.id.clone() });
        }
        for peer in peers {
            let Peer::Cidr(range) = peer else { continue };
            for net in range.nets() {
                if !self.ranges.contains(cidr_label(net).key.as_str()) {
                    let (rule, range) = (rule.id.clone(), net.to_string());
                    return Err(CompileError::UnknownRange { rule, range });
                }
            }
        }
        Ok(())
    }
}

/// One direction of one subject.
struct Side<'c> {
    compiler: &'c Compiler<'c>,
    ports: &'c BTreeMap<String, (u8, u16)>,
    direction: Direction,
    rules: Vec<&'c Rule>,
    /// What each rule does where it matches, and its precedence.
    effects: Vec<(Effect, u32)>,
    default: Ruling,
    switched_on: BTreeSet<PolicyName>,
    localhost: bool,
}

impl<'c> Side<'c> {
    /// `conflicts` is what rules contradict each other about: no demand is
    /// stronger than the one that cannot be met.
    fn new(
        compiler: &'c Compiler<'c>,
        rules: &[&'c Rule],
        conflicts: &'c [Rule],
        subject: &Labels,
        ports: &'c BTreeMap<String, (u8, u16)>,
        direction: Direction,
    ) -> Result<Self, CompileError> {
        let options = compiler.options;
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
        let mut effects = Vec::with_capacity(rules.len() + conflicts.len());
        let own = rules.iter().map(|rule| (*rule, None));
        let all = own.chain(conflicts.iter().map(|rule| (rule, Some(Effect::UnsupportedStrong))));
        for (rule, known) in all.clone() {
            compiler.check_labels(rule)?;
            let effect = known.unwrap_or_else(|| effect(rule, options.capabilities, default_deny));
            let precedence = precedence::of(rule.tier, rule.priority, effect).ok_or_else(|| {
                CompileError::Priority { rule: rule.id.clone(), priority: rule.priority }
            })?;
            effects.push((effect, precedence));
        }
        let why = if default_deny { Why::DefaultDeny } else { Why::Unenforced };
        let default = Ruling {
            allow: !default_deny,
            why,
            precedence: precedence::DEFAULT,
            rules: Vec::new(),
        };
        let localhost = default_deny
            && direction == Direction::Ingress
            && options.allow_localhost == AllowLocalhost::Always
            && !subject.has_reserved("host");
        let rules = all.map(|(rule, _)| rule).collect();
        Ok(Self { compiler, ports, direction, rules, effects, default, switched_on, localhost })
    }

    fn write(&self, world: World, draft: &mut Draft) -> Result<(), CompileError> {
        draft.put(world, Key::everything(self.direction), self.entry(&self.default))?;
        let passes = self.effects.iter().any(|(effect, _)| *effect == Effect::Pass);
        let lanes = Lanes::new(
            &self.rules,
            &self.compiler.population,
            self.compiler.options,
            self.localhost,
        );
        let any = &lanes.anybody;
        for (prefix, ruling) in self.fold(any, passes, precedence::DEFAULT) {
            let key = Key { peer: None, ..key(self.direction, prefix) };
            draft.put(world, key, self.entry(&ruling))?;
        }
        for (claims, peers) in &lanes.peers {
            let whole = Claims {
                rules: union(&claims.rules, if passes { &any.rules } else { &[] }),
                ..claims.clone()
            };
            for (prefix, ruling) in self.fold(&whole, passes, precedence::COMPLETE) {
                let entry = self.entry(&ruling);
                for peer in peers {
                    let key = Key { peer: Some(*peer), ..key(self.direction, prefix) };
                    draft.put(world, key, entry.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Entries of one group of peers; where rules pass, all of one precedence.
    fn fold(&self, claims: &Claims, passes: bool, precedence: u32) -> BTreeMap<Prefix, Ruling> {
        let mut own: Vec<(Prefix, Ruling, usize)> = Vec::new();
        for &at in &claims.rules {
            let ruling = self.ruling(at);
            for prefix in self.prefixes(self.rules[at], claims) {
                own.push((prefix, ruling.clone(), at));
            }
        }
        let localhost = claims.localhost.then_some((Prefix::EVERYTHING, LOCALHOST));
        if !passes {
            return fold(
                own.into_iter()
                    .map(|(prefix, ruling, _)| (prefix, ruling))
                    .chain(localhost)
                    .collect(),
            );
        }
        let voice = |(prefix, ruling, at): (Prefix, Ruling, usize)| {
            let tier = match self.rules[at].tier {
                Tier::Admin => 0,
                Tier::Normal => 1,
                Tier::Baseline => 2,
            };
            (prefix, Voice { tier, passes: self.effects[at].0 == Effect::Pass, ruling })
        };
        let own_node = |(prefix, ruling)| (prefix, Voice { tier: 3, passes: false, ruling });
        let voices = own.into_iter().map(voice).chain(localhost.map(own_node)).collect();
        passing::fold(voices, &self.default, precedence)
    }

    fn ruling(&self, at: usize) -> Ruling {
        let (effect, precedence) = self.effects[at];
        let (allow, why) = match effect {
            Effect::Deny => (false, Why::DenyRule),
            Effect::UnsupportedStrong | Effect::UnsupportedWeak => (false, Why::Unsupported),
            Effect::Allow | Effect::Pass => (true, Why::Rule),
        };
        Ruling { allow, why, precedence, rules: vec![at] }
    }

    /// What a rule covers for a group: names of ports are the destination's.
    fn prefixes(&self, rule: &Rule, claims: &Claims) -> BTreeSet<Prefix> {
        let named = match self.direction {
            Direction::Ingress => self.ports,
            Direction::Egress => &claims.ports,
        };
        prefixes(&rule.ports, named, self.compiler.options.capabilities.icmp_types)
    }

    fn entry(&self, ruling: &Ruling) -> NamedEntry {
        let mut rules: Vec<RuleId> =
            ruling.rules.iter().map(|at| self.rules[*at].id.clone()).collect();
        rules.sort();
        rules.dedup();
        let because = match ruling.why {
            Why::DefaultDeny => self.switched_on.iter().cloned().collect(),
            _ => Vec::new(),
        };
        NamedEntry::new(ruling, RuleSet { rules, because })
    }
}

fn union(some: &[usize], more: &[usize]) -> Vec<usize> {
    some.iter().chain(more).copied().collect::<BTreeSet<usize>>().into_iter().collect()
}

const LOCALHOST: Ruling = Ruling {
    allow: true,
    why: Why::LocalHost,
    precedence: precedence::LOCALHOST,
    rules: Vec::new(),
};

fn key(direction: Direction, prefix: Prefix) -> Key {
    Key {
        direction,
        peer: None,
        protocol: prefix.protocol,
        port: prefix.port,
        port_bits: prefix.bits,
    }
}

#[cfg(test)]
mod tests;
