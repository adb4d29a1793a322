//! Policies as the service lists them: accepted or refused, and since when in force.

use api::proto::signet::v1::Policy;
use api::time::timestamp;
use source::ObjectName;

use super::hexadecimal;
use crate::enforced::Since;
use crate::planner::{Plan, PolicyView};
use crate::state::ControlView;

/// Every policy that was read.
pub(super) fn list(node: &str, control: &ControlView) -> Vec<Policy> {
    let Some(plan) = &control.newest else { return vec![] };
    plan.policies.iter().map(|view| row(node, control, plan, view)).collect()
}

fn row(node: &str, control: &ControlView, plan: &Plan, view: &PolicyView) -> Policy {
    let ObjectName { kind, namespace, name } = view.object.clone();
    let since = in_force(control, plan, view);
    let reason = match &control.pending {
        Some(pending) if view.accepted && since.is_none() => format!("not in force yet: {pending}"),
        _ => view.reason.clone(),
    };
    Policy {
        node: node.to_owned(),
        kind,
        namespace: namespace.unwrap_or_default(),
        name,
        accepted: view.accepted,
        reason,
        revision: since.map_or(0, |since| since.revision),
        since: since.map(|since| timestamp(since.time_ns)),
        digest: if view.subjects.is_empty() { String::new() } else { hexadecimal(&view.digest) },
        rules: view.rules.clone(),
        subjects: view.subjects.clone(),
        source: view.file.clone(),
    }
}

/// Since when the policy, as the newest plan has it, has been in force.
fn in_force(control: &ControlView, plan: &Plan, view: &PolicyView) -> Option<Since> {
    let of = |plan: &Plan| {
        let mut policies = plan.snapshot.policies.iter();
        policies.find(|policy| ObjectName::from(&policy.name) == view.object).cloned()
    };
    let policy = of(plan)?;
    let enforced = of(control.enforced.plan()?)?;
    control.enforced.policy(&policy.name).filter(|_| enforced == policy)
}
