//! Policies that decide, and policies that only show what they would decide.
//!
//! Two worlds are told apart: what decides about packets, and its shadow, where
//! every packet gets what it would get if the modes were resolved: policies in
//! shadow mode in force, retired ones away. Knows nothing about rules.

use crate::rule::Policy;

/// What a policy takes part in.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Mode {
    /// Decides, and is in force in the shadow, too.
    #[default]
    Enforce,
    /// Decides nothing; is in force in the shadow.
    Shadow,
    /// Decides still; is away in the shadow.
    Retire,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::Shadow, Self::Retire];

    /// `enforce`, `shadow`, `retire`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Retire => "retire",
        }
    }

    /// Whether a policy of this mode is in force there.
    pub fn counts_in(self, world: World) -> bool {
        match self {
            Self::Enforce => true,
            Self::Shadow => world == World::Shadow,
            Self::Retire => world == World::Live,
        }
    }
}

/// Where a policy can be in force.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum World {
    /// What decides.
    Live,
    /// What would decide.
    Shadow,
}

/// The policies of the shadow as if they were enforced; `None`: every policy is,
/// and the shadow is what decides.
pub fn shadow_of(policies: &[Policy]) -> Option<Vec<Policy>> {
    policies.iter().any(|policy| policy.mode != Mode::Enforce).then(|| {
        let counted = policies.iter().filter(|policy| policy.mode.counts_in(World::Shadow));
        counted.map(|policy| Policy { mode: Mode::Enforce, ..policy.clone() }).collect()
    })
}
