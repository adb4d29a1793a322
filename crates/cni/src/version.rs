//! The versions of the CNI specification that the plugin speaks.

use std::fmt;

/// A version of the CNI specification.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// 0.4.0: the first with CHECK; each address of a result says its family.
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0: adds GC and STATUS, and the MTU to results.
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest: what is answered to those who do not say theirs.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As configurations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
