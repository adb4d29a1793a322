//! What the policies of a cluster mean here: references written out, and what they
//! mention besides labels.

use std::net::IpAddr;

use model::{Label, Labels, Reserved};
use source::Snapshot;

use super::{Inputs, PlanOptions, host};

/// The policies with what they refer to written out, and what they mention
/// besides labels.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub policies: Vec<policy::Policy>,
    /// Those that judge the node itself, which may be earlier versions.
    pub of_node_now: Vec<policy::Policy>,
    /// The same after a trial.
    pub of_node_after: Vec<policy::Policy>,
    pub references: policy::References,
    /// The node itself as a peer.
    pub host: Labels,
}

impl Meaning {
    pub fn of(inputs: &Inputs, options: &PlanOptions) -> Self {
        let Inputs { snapshot, node_policies, .. } = inputs;
        let resolve = |policies| policy::resolve(policies, &snapshot.catalogue);
        let policies = resolve(&snapshot.policies);
        let of_node_now = resolve(&node_policies.in_force);
        let of_node_after = resolve(&node_policies.fallback);
        let all = [policies.as_slice(), &of_node_now, &of_node_after].concat();
        let references = policy::References::of(&all, &options.policy);
        let host = host::peer_labels(inputs, options);
        Self { policies, of_node_now, of_node_after, references, host }
    }

    /// Labels of a pod at one of its addresses, as a peer.
    pub fn at(&self, labels: &Labels, address: IpAddr) -> Labels {
        self.references.at_address(labels, address)
    }

    /// Labels of a node or of the API server at one of its addresses, as a peer. A
    /// node that serves the API is both.
    pub fn of_node(
        &self,
        snapshot: &Snapshot,
        options: &PlanOptions,
        found: (IpAddr, Reserved),
    ) -> Labels {
        let (address, reserved) = found;
        match reserved {
            Reserved::Host => return self.at(&self.host, address),
            Reserved::Health | Reserved::Ingress => {
                return self.at(&reserved.identity().labels, address);
            }
            _ => {}
        }
        let mut nodes = snapshot.nodes.values().filter(|node| node.name != options.node);
        let node = nodes.find(|node| node.addresses.contains(&address));
        let mut ranges = snapshot.nodes.values().flat_map(|node| &node.pod_cidrs);
        let (mut labels, serves) = match node {
            Some(node) => {
                let base = Reserved::RemoteNode.identity().labels;
                let serves = node.addresses.iter().any(|at| snapshot.apiservers.contains(at));
                let cluster = &options.policy.cluster;
                (self.references.of_node(&base, &node.labels, cluster), serves)
            }
            // Where pods are, only a pod can serve.
            None if ranges.any(|range| range.contains(&address)) => {
                (Reserved::Unmanaged.identity().labels, false)
            }
            None => (Reserved::World.identity().labels, true),
        };
        if serves {
            labels.insert(Label::reserved(Reserved::KubeApiserver.name()));
        }
        self.at(&labels, address)
    }
}
