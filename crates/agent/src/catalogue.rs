//! What the rule-set numbers in records stand for, across restarts.
//!
//! The kernel writes numbers, also of tables that are no longer planned, and
//! records wait in the ring while no agent runs. So names are kept until they
//! must make room, and are on disk before the kernel can use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{RuleSet, RuleSetId};

mod file;

pub use file::Journal;

/// How many sets are remembered beyond those in use.
const RETIRED_MAX: usize = 8192;

/// Names of rule sets, present and recent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Catalogue {
    /// With the last change at which the set was in use.
    sets: BTreeMap<RuleSetId, (Arc<RuleSet>, u64)>,
    /// Counts changes; not a revision of the datapath.
    change: u64,
}

impl Catalogue {
    /// What a number stands for.
    pub fn get(&self, id: RuleSetId) -> Option<&RuleSet> {
        self.sets.get(&id).map(|(set, _)| set.as_ref())
    }

    /// How many sets are known.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Makes these sets the ones in use; which are new and must reach the disk.
    ///
    /// A number that stood for another set stands for the new one from now on:
    /// numbers are digests, so this takes a collision.
    pub fn update<'a>(
        &mut self,
        used: impl IntoIterator<Item = (RuleSetId, &'a RuleSet)>,
    ) -> Vec<RuleSetId> {
        self.change += 1;
        let mut new = Vec::new();
        for (id, set) in used {
            match self.sets.get_mut(&id) {
                Some((known, change)) if **known == *set => *change = self.change,
                _ => {
                    new.push(id);
                    self.sets.insert(id, (Arc::new(set.clone()), self.change));
                }
            }
        }
        self.retire();
        new
    }

    /// Forgets the sets that have been out of use for longest, if there are many.
    fn retire(&mut self) {
        let mut retired: Vec<(u64, RuleSetId)> = self
            .sets
            .iter()
            .filter(|(_, (_, change))| *change != self.change)
            .map(|(id, (_, change))| (*change, *id))
            .collect();
        let excess = retired.len().saturating_sub(RETIRED_MAX);
        if excess > 0 {
            retired.sort_unstable();
            for (_, id) in &retired[..excess] {
                self.sets.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{PolicyKind, PolicyName};

    use super::*;

    fn because(name: &str) -> RuleSet {
        let policy = PolicyName {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some("a".into()),
            name: name.into(),
        };
        RuleSet { rules: vec![], because: vec![policy] }
    }

    #[test]
    fn a_set_out_of_use_is_still_known() {
        let (a, b) = (because("a"), because("b"));
        let mut catalogue = Catalogue::default();
        assert_eq!(catalogue.update([(RuleSetId(1), &a)]), [RuleSetId(1)]);
        assert_eq!(catalogue.update([(RuleSetId(2), &b)]), [RuleSetId(2)]);
        assert_eq!(catalogue.get(RuleSetId(1)), Some(&a));
        assert_eq!(catalogue.get(RuleSetId(2)), Some(&b));
        assert_eq!(catalogue.get(RuleSetId(3)), None);
    }

    #[test]
    fn what_is_known_already_need_not_be_written_again() {
        let a = because("a");
        let mut catalogue = Catalogue::default();
        assert_eq!(catalogue.update([(RuleSetId(1), &a)]), [RuleSetId(1)]);
        assert_eq!(catalogue.update([(RuleSetId(1), &a)]), []);
    }

    #[test]
    fn of_two_sets_with_one_number_the_one_in_use_counts() {
        let (a, b) = (because("a"), because("b"));
        let mut catalogue = Catalogue::default();
        catalogue.update([(RuleSetId(1), &a)]);
        assert_eq!(catalogue.update([(RuleSetId(1), &b)]), [RuleSetId(1)]);
        assert_eq!(catalogue.get(RuleSetId(1)), Some(&b));
    }

    #[test]
    fn memory_of_what_is_gone_is_bounded_and_the_oldest_goes_first() {
        let mut catalogue = Catalogue::default();
        let old = because("old");
        catalogue.update([(RuleSetId(1), &old)]);
        let many: Vec<(RuleSetId, RuleSet)> = (2..RETIRED_MAX as u32 + 2)
            .map(|n| (RuleSetId(n), because(&format!("p{n}"))))
            .collect();
        catalogue.update(many.iter().map(|(id, set)| (*id, set)));
        assert_eq!(catalogue.len(), RETIRED_MAX + 1);
        let now = because("now");
        catalogue.update([(RuleSetId(u32::MAX), &now)]);
        assert_eq!(catalogue.len(), RETIRED_MAX + 1);
        assert_eq!(catalogue.get(RuleSetId(1)), None);
        assert_eq!(catalogue.get(RuleSetId(u32::MAX)), Some(&now));
    }
}
