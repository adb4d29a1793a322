//! Whom a refused policy leaves without a right that anybody agreed to.
//!
//! A refused policy with an earlier version is that version. Without one nobody
//! knows what it would forbid: pods whose right was complete before keep that
//! right, and no other pod it may be about is installed.

use std::collections::BTreeSet;

use source::{Refused, Scope, Snapshot};

use super::endpoints::{EndpointView, LeftOut};

/// What a refusal means, in words; empty when it leaves nobody without a right.
pub(super) fn consequence(refused: &Refused) -> String {
    let whose = match &refused.scope {
        _ if !refused.kept.is_empty() => return String::new(),
        Scope::Nobody => return String::new(),
        Scope::Namespace(namespace) => format!("pods of namespace `{namespace}`"),
        Scope::Everybody => "pods".to_owned(),
    };
    format!(
        "no earlier version is known, so {whose} that were not installed before drop \
         everything until it is corrected or removed"
    )
}

/// Who is refused, in words.
fn subject(refused: &Refused) -> String {
    match &refused.object {
        Some(object) => format!("`{object}` in `{}`", refused.file),
        None => format!("`{}`", refused.file),
    }
}

/// What an operator must know about refusals that leave somebody without a right.
pub(super) fn problems(snapshot: &Snapshot) -> Vec<String> {
    let refused = snapshot.refused.iter().map(|refused| (refused, consequence(refused)));
    refused
        .filter(|(_, consequence)| !consequence.is_empty())
        .map(|(refused, consequence)| format!("{} is refused: {consequence}", subject(refused)))
        .collect()
}

/// Leaves out every endpoint that a policy may be missing for, unless it was
/// `installed` before.
pub(super) fn leave_out(
    snapshot: &Snapshot,
    installed: &BTreeSet<[u8; 32]>,
    endpoints: &mut [EndpointView],
) {
    for refused in snapshot.refused.iter().filter(|refused| refused.kept.is_empty()) {
        let concerned = endpoints.iter_mut().filter(|endpoint| {
            let concerned = match &refused.scope {
                Scope::Nobody => false,
                Scope::Namespace(namespace) => endpoint.record.pod.namespace == *namespace,
                Scope::Everybody => true,
            };
            concerned && endpoint.left_out.is_none() && !installed.contains(&endpoint.content())
        });
        for endpoint in concerned {
            endpoint.left_out = Some(LeftOut::RefusedPolicy(subject(refused)));
        }
    }
}
