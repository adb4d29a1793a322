//! The order in which rules decide, and the one number that carries it into
//! the kernel (facts: `policy.md` section 1.8).
//!
//! A higher number wins. The upper 24 bits hold the level, inverted, so that an
//! earlier tier and a smaller priority give a higher number; the low byte puts
//! deny above allow within a level. Numbers between the two are left to
//! redirections, zero to the default.

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
const UNSUPPORTED_STRONG: u32 = 254;
const ALLOW: u32 = 1;
const UNSUPPORTED_WEAK: u32 = 0;

/// What the entry of a peer says that was made from all rules, where rules pass:
/// more than any entry for everybody (see `passing`).
pub(crate) const COMPLETE: u32 = u32::MAX;

/// Precedence of the default.
pub(crate) const DEFAULT: u32 = 0;
/// Precedence of the implicit admission of the own node: just above the default.
pub(crate) const LOCALHOST: u32 = (LAST_LEVEL - (LAST_LEVEL - 1)) << 8 | ALLOW;

/// What a rule does to a packet, once it is known what can be enforced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    Deny,
    /// Would allow under a condition that nothing else of its level lifts.
    UnsupportedStrong,
    Allow,
    /// Would allow under a condition that a plain rule of its level lifts.
    UnsupportedWeak,
    Pass,
}

impl Effect {
    fn low_byte(self) -> u32 {
        match self {
            Self::Deny => DENY,
            Self::UnsupportedStrong => UNSUPPORTED_STRONG,
            Self::Allow => ALLOW,
            Self::UnsupportedWeak | Self::Pass => UNSUPPORTED_WEAK,
        }
    }
}

/// Precedence of a rule; `None` for a priority outside its tier.
pub(crate) fn of(tier: Tier, priority: u32, effect: Effect) -> Option<u32> {
    if priority >= LEVELS_PER_TIER {
        return None;
    }
    let tier = match tier {
        Tier::Admin => 0,
        Tier::Normal => 1,
        Tier::Baseline => 2,
    };
    let level = tier * LEVELS_PER_TIER + priority;
    Some((LAST_LEVEL - level) << 8 | effect.low_byte())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedences_are_ordered_as_rules_are() {
        let descending = [
            of(Tier::Admin, 0, Effect::Deny),
            of(Tier::Admin, 0, Effect::UnsupportedStrong),
            of(Tier::Admin, 0, Effect::Allow),
            of(Tier::Admin, 0, Effect::UnsupportedWeak),
            of(Tier::Admin, 1, Effect::Deny),
            of(Tier::Normal, 0, Effect::Deny),
            of(Tier::Normal, 0, Effect::Allow),
            of(Tier::Baseline, 5, Effect::Allow),
            of(Tier::Baseline, 5, Effect::UnsupportedWeak),
            Some(LOCALHOST),
            Some(DEFAULT),
        ];
        assert!(descending.iter().all(Option::is_some));
        assert!(descending.is_sorted_by(|a, b| a > b), "{descending:?}");
    }

    #[test]
    fn a_priority_beyond_its_tier_has_no_precedence() {
        assert_eq!(of(Tier::Admin, LEVELS_PER_TIER, Effect::Allow), None);
    }

    #[test]
    fn localhost_is_one_level_above_the_default() {
        assert_eq!(LOCALHOST, 0x101);
    }
}
