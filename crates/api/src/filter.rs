//! Which flows a client wants to see.
//!
//! A flow passes if it matches one filter of the whitelist (or that is empty)
//! and none of the blacklist. Inside a filter every field that is set must match;
//! inside a field any of its values may. What this server cannot match is
//! refused by name, never ignored: a filter that silently matched everything
//! would show flows as if they had been asked for.

mod application;
mod expression;
mod lower;
mod pattern;
mod selector;
#[cfg(test)]
mod tests;

use crate::proto::flow::{Flow, FlowFilter};

/// Why a filter is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FilterError {
    /// An expression that cannot be a filter.
    #[error("filter field `{field}`: `{expression}`: {reason}")]
    Expression {
        /// Field of `FlowFilter`.
        field: &'static str,
        /// As it came.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The value means nothing.
    #[error("filter field `{field}`: `{value}` {reason}")]
    Invalid {
        /// Field of `FlowFilter`.
        field: &'static str,
        /// As it came.
        value: String,
        /// What it should have been.
        reason: &'static str,
    },
    /// Two fields that no flow can fulfil together.
    #[error("filter field `{field}` needs `event_type` to be absent or to include 129 (L7)")]
    OtherEventType {
        /// Field of `FlowFilter`.
        field: &'static str,
    },
}

/// One condition on a flow.
type Test = Box<dyn Fn(&Flow) -> bool + Send + Sync>;

/// All its tests must pass.
struct Filter(Vec<Test>);

impl Filter {
    fn matches(&self, flow: &Flow) -> bool {
        self.0.iter().all(|test| test(flow))
    }
}

/// A whitelist and a blacklist, checked and ready to use.
pub struct Filters {
    allow: Vec<Filter>,
    deny: Vec<Filter>,
}

impl Filters {
    /// Checks both lists.
    pub fn new(whitelist: &[FlowFilter], blacklist: &[FlowFilter]) -> Result<Self, FilterError> {
        expression::few_enough(whitelist.iter().chain(blacklist))?;
        let lowered = |list: &[FlowFilter]| list.iter().map(lower::filter).collect();
        let allow: Result<Vec<Filter>, FilterError> = lowered(whitelist);
        Ok(Self { allow: allow?, deny: lowered(blacklist)? })
    }

    /// Whether every flow passes.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether this one does.
    pub fn matches(&self, flow: &Flow) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|filter| filter.matches(flow)))
            && !self.deny.iter().any(|filter| filter.matches(flow))
    }
}
