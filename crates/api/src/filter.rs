//! Which flows a client wants to see.
//!
//! A flow passes if it matches one filter of the whitelist (or that is empty)
//! and none of the blacklist. Inside a filter every field that is set must match;
//! inside a field any of its values may. What this server cannot match is
//! refused by name, never ignored: a filter that silently matched everything
//! would show flows as if they had been asked for.
//!
//! A denial by policy is a drop (event type 1) and a verdict (5) in one: Cilium tells
//! it twice, this server once, as a drop. Who asks for verdicts gets it too; who does
//! not want verdicts still gets it as the drop that it is.

mod application;
mod expression;
mod lower;
mod pattern;
mod selector;
#[cfg(test)]
mod tests;

use crate::flow::{EMITTER, EVENT_DROP, EVENT_POLICY_VERDICT};
use crate::proto::flow::{CiliumEventType, DropReason, Flow, FlowFilter};

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
    /// Whether somebody asks for verdicts by name.
    verdicts: bool,
}

impl Filters {
    /// Checks both lists.
    pub fn new(whitelist: &[FlowFilter], blacklist: &[FlowFilter]) -> Result<Self, FilterError> {
        expression::few_enough(whitelist.iter().chain(blacklist))?;
        let lowered = |list: &[FlowFilter]| list.iter().map(lower::filter).collect();
        let allow: Result<Vec<Filter>, FilterError> = lowered(whitelist);
        let mut types = whitelist.iter().flat_map(|filter| &filter.event_type);
        let verdicts = types.any(|wanted| wanted.r#type == EVENT_POLICY_VERDICT);
        Ok(Self { allow: allow?, deny: lowered(blacklist)?, verdicts })
    }

    /// Whether every flow passes.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether this one does.
    pub fn matches(&self, flow: &Flow) -> bool {
        self.pass(flow)
            || self.verdicts && as_verdict(flow).is_some_and(|verdict| self.pass(&verdict))
    }

    fn pass(&self, flow: &Flow) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|filter| filter.matches(flow)))
            && !self.deny.iter().any(|filter| filter.matches(flow))
    }
}

/// A denial by policy as the verdict that Cilium would tell beside the drop. Of a flow
/// that Cilium itself made there is one already.
fn as_verdict(flow: &Flow) -> Option<Flow> {
    let ours = flow.emitter.as_ref().is_some_and(|emitter| emitter.name == EMITTER);
    let drop = flow.event_type.as_ref().is_some_and(|event| event.r#type == EVENT_DROP);
    let by_policy =
        matches!(flow.drop_reason_desc(), DropReason::PolicyDenied | DropReason::PolicyDeny);
    let event_type = Some(CiliumEventType { r#type: EVENT_POLICY_VERDICT, sub_type: 0 });
    (ours && drop && by_policy).then(|| Flow { event_type, ..flow.clone() })
}
