//! Policies as the service lists them: accepted or refused, and since when in force.

use api::proto::signet::v1::{Policy, Trial};
use api::time::timestamp;
use source::ObjectName;
use std::time::Duration;

use super::hexadecimal;
use crate::enforced::Since;
use crate::planner::{Plan, PolicyView};
use crate::state::ControlView;
use crate::trial::{Standing, monotonic};

/// Every policy that was read.
pub(crate) fn list(node: &str, control: &ControlView) -> Vec<Policy> {
    let Some(plan) = &control.newest else { return vec![] };
    plan.policies().iter().map(|view| row(node, control, plan, view)).collect()
}

fn row(node: &str, control: &ControlView, plan: &Plan, view: &PolicyView) -> Policy {
    let ObjectName { kind, namespace, name } = view.object.clone();
    let standing = standing(control, view);
    let (trial, left) = trial(standing);
    let reverted = matches!(standing, Some(Standing::Reverted { .. }));
    let since = in_force(control, plan, view).filter(|_| !reverted);
    let reason = match (&control.pending, standing) {
        (_, Some(Standing::Reverted { earlier })) => {
            let stays = if earlier { ", the version that was confirmed stays" } else { "" };
            format!("not confirmed within {} s{stays}", control.confirm_seconds)
        }
        (Some(pending), _) if view.accepted && since.is_none() => {
            format!("not in force yet: {pending}")
        }
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
        mode: if view.accepted { view.mode.as_str() } else { "" }.to_owned(),
        trial: trial.into(),
        trial_ends_in: left.and_then(|left| prost_types::Duration::try_from(left).ok()),
    }
}

/// Where the policy stands, if it is about this node.
fn standing(control: &ControlView, view: &PolicyView) -> Option<Standing> {
    let mut standings = control.standings.iter().filter(|_| view.accepted);
    let found = standings.find(|(name, _)| ObjectName::from(*name) == view.object);
    found.map(|(_, standing)| *standing)
}

/// As it is told, with what is left of a trial.
fn trial(standing: Option<Standing>) -> (Trial, Option<Duration>) {
    match standing {
        None => (Trial::None, None),
        Some(Standing::Confirmed) => (Trial::Confirmed, None),
        Some(Standing::OnTrial { until }) => {
            let left = until.saturating_sub(monotonic());
            (Trial::Running, Some(Duration::from_secs(left.into())))
        }
        Some(Standing::Reverted { .. }) => (Trial::Reverted, None),
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
