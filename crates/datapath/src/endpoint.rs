//! Endpoints as the kernel is told: pods, and the node itself.

use abi::{Address, Subject};
use zerocopy::FromZeros;

use crate::book::mapped;
use crate::desired::{Endpoint, HostSubject};

/// Whose room comes and goes with an endpoint.
pub(crate) fn sharers(id: u32) -> impl Iterator<Item = u32> {
    let behind = (id == abi::endpoint_id::HOST).then_some(abi::endpoint_id::BEHIND);
    std::iter::once(id).chain(behind)
}

/// The kernel's value for a pod.
pub(crate) fn pod_endpoint(endpoint: &Endpoint) -> abi::Endpoint {
    let none = [0; 16];
    let subject = Subject {
        identity: endpoint.identity.into(),
        table: endpoint.table,
        fallback: 0,
        confirm_by: 0,
    };
    abi::Endpoint {
        id: endpoint.id,
        from_revision: 0,
        before: subject,
        after: subject,
        ipv4: Address { bytes: endpoint.ipv4.map_or(none, |v4| mapped(v4.into())) },
        ipv6: Address { bytes: endpoint.ipv6.map_or(none, |v6| mapped(v6.into())) },
        // No pod has the node's own.
        netns_id: endpoint.netns_id.max(UNKNOWN_NAMESPACE),
        mac: endpoint.mac,
        pad: [0; 2],
    }
}

const UNKNOWN_NAMESPACE: i32 = -1;

/// The network namespace of the node, where the kernel looks for its sockets.
const OWN_NAMESPACE: i32 = -2;

/// The kernel's value for the node itself, which has more addresses than fit here.
pub(crate) fn host_endpoint(host: &HostSubject) -> abi::Endpoint {
    let HostSubject { identity, table, trial } = *host;
    let after = Subject {
        identity: identity.into(),
        table,
        fallback: trial.map_or(0, |trial| trial.fallback),
        confirm_by: trial.map_or(0, |trial| trial.confirm_by),
    };
    abi::Endpoint {
        id: abi::endpoint_id::HOST,
        before: after,
        after,
        netns_id: OWN_NAMESPACE,
        ..abi::Endpoint::new_zeroed()
    }
}

/// The same endpoint, where who it is stays as installed: that moves with a revision.
pub(crate) fn as_installed(
    wanted: abi::Endpoint,
    installed: Option<&abi::Endpoint>,
) -> abi::Endpoint {
    let Some(abi::Endpoint { from_revision, before, after, .. }) = installed.copied() else {
        return wanted;
    };
    abi::Endpoint { from_revision, before, after, ..wanted }
}
