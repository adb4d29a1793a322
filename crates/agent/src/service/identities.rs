//! Identities as the service lists them.

use api::proto::signet::v1::Identity;

use crate::state::ControlView;

/// Every identity that can be met, sorted by number.
pub(super) fn list(node: &str, control: &ControlView) -> Vec<Identity> {
    let Some(plan) = &control.newest else { return vec![] };
    let mut identities: Vec<Identity> = plan
        .identities
        .iter()
        .map(|(id, labels)| Identity {
            id: id.into(),
            labels: labels.to_strings(),
            nodes: vec![node.to_owned()],
        })
        .collect();
    identities.sort_unstable_by_key(|identity| identity.id);
    identities
}
