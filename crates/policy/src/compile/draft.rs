//! A table in the making: entries whose rules are still names, not numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{RuleSet, RuleSetId};

use crate::compile::CompileError;
use crate::fold::Ruling;
use crate::mode::World;
use crate::table::{Entry, Key, Table, Why};

/// An entry whose rules are still names, not a number.
#[derive(Clone)]
pub(super) struct NamedEntry {
    pub allow: bool,
    pub why: Why,
    pub precedence: u32,
    pub rules: Rc<RuleSet>,
}

impl NamedEntry {
    pub fn new(ruling: &Ruling, rules: RuleSet) -> Self {
        Self {
            allow: ruling.allow,
            why: ruling.why,
            precedence: ruling.precedence,
            rules: Rc::new(rules),
        }
    }
}

/// A table in the making.
pub(super) struct Draft {
    live: BTreeMap<Key, NamedEntry>,
    shadow: BTreeMap<Key, NamedEntry>,
    limit: usize,
}

impl Draft {
    pub fn new(limit: usize) -> Self {
        Self { live: BTreeMap::new(), shadow: BTreeMap::new(), limit }
    }

    /// Adds an entry. A rule that covers everything replaces the default.
    pub fn put(&mut self, world: World, key: Key, entry: NamedEntry) -> Result<(), CompileError> {
        let entries = match world {
            World::Live => &mut self.live,
            World::Shadow => &mut self.shadow,
        };
        entries.insert(key, entry);
        if entries.len() > self.limit {
            return Err(CompileError::TooManyEntries { limit: self.limit });
        }
        Ok(())
    }

    /// Takes back the shadow, of which no more is known than why.
    pub fn forget_shadow(&mut self) {
        self.shadow.clear();
    }

    /// Numbers the sets of rules. Of two sets that want the same number the one
    /// that sorts first gets it, whatever else the table holds.
    pub fn table(self, number: impl Fn(&RuleSet, u32) -> RuleSetId) -> Table {
        let limit = self.limit;
        let all = self.live.values().chain(self.shadow.values());
        let sets: BTreeSet<&RuleSet> = all.map(|entry| &*entry.rules).collect();
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
        let numbered = |entries: &BTreeMap<Key, NamedEntry>| -> BTreeMap<Key, Entry> {
            let numbered = entries.iter().map(|(key, entry)| {
                let NamedEntry { allow, why, precedence, rules } = entry;
                let rules = ids.get(&**rules).copied().unwrap_or_default();
                let (allow, why, precedence) = (*allow, *why, *precedence);
                let specificity = key.prefix_len();
                (*key, Entry { allow, why, precedence, rules, specificity })
            });
            numbered.collect()
        };
        let (live, shadow) = (numbered(&self.live), numbered(&self.shadow));
        let table = Table::new(live, rule_sets).with_shadow(shadow);
        if table.len() > limit {
            // What decides fits alone: that was checked with every entry.
            return table.without_shadow(CompileError::TooManyEntries { limit });
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use model::{Direction, PolicyKind, PolicyName};

    use super::*;

    fn policy(name: &str) -> PolicyName {
        let kind = PolicyKind::CiliumNetworkPolicy;
        PolicyName { kind, namespace: Some("a".into()), name: name.into() }
    }

    /// Three sets that all want number 7 get three numbers, the same in every run.
    #[test]
    fn sets_that_want_the_same_number_are_told_apart() {
        let entry = |name: &str| {
            let set = RuleSet { rules: vec![], because: vec![policy(name)] };
            NamedEntry { allow: true, why: Why::Rule, precedence: 1, rules: Rc::new(set) }
        };
        let key =
            |port| Key { protocol: 6, port, port_bits: 16, ..Key::everything(Direction::Ingress) };
        let mut draft = Draft::new(10);
        for (port, name) in [(1, "c"), (2, "a"), (3, "b"), (4, "a")] {
            draft.put(World::Live, key(port), entry(name)).unwrap();
        }
        let table = draft.table(|_, attempt| RuleSetId(7 + attempt));
        let numbers: Vec<u32> = table.entries().map(|(_, entry)| entry.rules.0).collect();
        assert_eq!(numbers, [9, 7, 8, 7]);
        for (id, set) in table.rule_sets() {
            assert_eq!(table.rule_set(id), Some(set));
        }
    }
}
