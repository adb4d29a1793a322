//! The order in which rules decide, and the one number that carries it into
//! the kernel (facts: `policy.md` section 1.8).
//!
//! A higher number wins. The upper 24 bits hold the level, inverted, so that an
//! earlier tier and a smaller priority give a higher number; the low byte puts
//! deny above allow within a level. Numbers between the two are left to
//! redirections, zero to the default.

use crate::rule::Action;

/// Groups of policies that are asked one after the other.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Tier {
    /// Cluster administrators, before everybody else.
    Admin,
    /// Owners of namespaces and applications.
    Normal,
    /// What holds where nobody else decides.
    Baseline,
}

/// Levels in one tier; priorities are below it.
const LEVELS_PER_TIER: u32 = 1 << 20;
/// The last level, below every tier: the default.
const LAST_LEVEL: u32 = (1 << 24) - 1;
const DENY: u32 = 255;
const ALLOW: u32 = 1;

/// Precedence of the default.
pub(crate) const DEFAULT: u32 = 0;
/// Precedence of the implicit admission of the own node: just above the default.
pub(crate) const LOCALHOST: u32 = (LAST_LEVEL - (LAST_LEVEL - 1)) << 8 | ALLOW;

/// Precedence of a rule; `None` for a priority outside its tier.
pub(crate) fn of(tier: Tier, priority: u32, action: Action) -> Option<u32> {
    if priority >= LEVELS_PER_TIER {
        return None;
    }
    let tier = match tier {
        Tier::Admin => 0,
        Tier::Normal => 1,
        Tier::Baseline => 2,
    };
    let level = tier * LEVELS_PER_TIER + priority;
    let low = match action {
        Action::Deny => DENY,
        Action::Allow => ALLOW,
    };
    Some((LAST_LEVEL - level) << 8 | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedences_are_ordered_as_rules_are() {
        let descending = [
            of(Tier::Admin, 0, Action::Deny),
            of(Tier::Admin, 0, Action::Allow),
            of(Tier::Admin, 1, Action::Deny),
            of(Tier::Normal, 0, Action::Deny),
            of(Tier::Normal, 0, Action::Allow),
            of(Tier::Baseline, 5, Action::Allow),
            Some(LOCALHOST),
            Some(DEFAULT),
        ];
        assert!(descending.iter().all(Option::is_some));
        assert!(descending.is_sorted_by(|a, b| a > b), "{descending:?}");
    }

    #[test]
    fn a_priority_beyond_its_tier_has_no_precedence() {
        assert_eq!(of(Tier::Admin, LEVELS_PER_TIER, Action::Allow), None);
    }

    #[test]
    fn localhost_is_one_level_above_the_default() {
        assert_eq!(LOCALHOST, 0x101);
    }
}
