//! Policies that were accepted and are not in force all the same.

use std::fmt;

use model::Labels;
use policy::Policy;

/// Whose policies could not be brought into force, and what judges instead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setback {
    /// The labels by which policies select it.
    pub subject: Labels,
    /// Whether it is the node itself.
    pub of_the_node: bool,
    /// What judges instead.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

/// What judges where policies cannot be enforced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// What was in force before.
    LastGoodStays,
    /// The node policies that were confirmed.
    ConfirmedStays,
    /// A pod without an earlier right.
    DropsEverything,
    /// The node, which nobody could correct otherwise.
    NobodyJudges,
}

impl Setback {
    /// Whether a policy is about its subject.
    pub fn concerns(&self, policy: &Policy) -> bool {
        policy.rules.iter().any(|rule| rule.selects(&self.subject))
    }

    /// What is amiss, without what judges instead.
    pub fn what(&self) -> String {
        let Self { subject, of_the_node, outcome: _, reason } = self;
        let subject = match of_the_node {
            true => "the node".to_owned(),
            false => subject.to_strings().join(","),
        };
        format!("the policy of {subject} cannot be enforced: {reason}")
    }
}

impl Outcome {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LastGoodStays => "the last good one stays",
            Self::ConfirmedStays => "the confirmed one stays",
            Self::DropsEverything => "its pods drop everything",
            Self::NobodyJudges => "nobody judges the node",
        }
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.outcome.as_str())
    }
}
