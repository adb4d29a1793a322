//! Who is behind each address of the cluster.
//!
//! The order of belief: a node's addresses are its own, whatever a pod claims;
//! this node's interfaces are what the CNI plugin recorded; other nodes' pods are
//! what their status says. An address that two pods claim is nobody's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{IdentityBook, IdentityId, Reserved};
use source::PackedPod;

use super::endpoints::{EndpointView, LeftOut};
use super::people::PodLabels;
use super::{Inputs, Meaning, Plan, PlanOptions};

/// Who has an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A pod.
    Pod(PackedPod),
    /// This node, another one, the API server, or what stands on a node.
    Node(Reserved),
    /// Several pods claim it, so none has it.
    Contested,
}

/// Every known address.
///
/// Copies share it; sorted by address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressBook(Arc<[(IpAddr, (IdentityId, Holder))]>);

impl AddressBook {
    /// Identity and holder of an address.
    pub fn get(&self, address: &IpAddr) -> Option<&(IdentityId, Holder)> {
        let at = self.0.binary_search_by(|(known, _)| known.cmp(address)).ok()?;
        self.0.get(at).map(|(_, holder)| holder)
    }

    /// Addresses of this node.
    pub(super) fn of_the_node(&self) -> impl Iterator<Item = IpAddr> {
        let own = |holder: &Holder| *holder == Holder::Node(Reserved::Host);
        self.0.iter().filter(move |(_, (_, holder))| own(holder)).map(|(address, _)| *address)
    }

    /// As the datapath is told.
    pub(super) fn identities(&self) -> BTreeMap<IpAddr, IdentityId> {
        self.0.iter().map(|(address, (identity, _))| (*address, *identity)).collect()
    }
}

/// What the book is made from.
pub(super) struct Sources<'a> {
    pub inputs: &'a Inputs,
    pub options: &'a PlanOptions,
    pub labels: &'a PodLabels,
    pub identities: &'a IdentityBook,
    pub meaning: &'a Meaning,
}

impl Sources<'_> {
    /// Identity of a pod, by its place among all, at one of its addresses.
    fn of_pod(&self, position: usize, address: IpAddr) -> Option<IdentityId> {
        self.identities.id(&self.meaning.at(self.labels.at(position)?, address))
    }

    /// Identity of a node or of the API server.
    fn of_node(&self, address: IpAddr, reserved: Reserved) -> Option<IdentityId> {
        let found = (address, reserved);
        self.identities.id(&self.meaning.of_node(&self.inputs.snapshot, self.options, found))
    }
}

/// Makes the book, and says what is odd about it. An endpoint of this node that claims
/// what no pod can have is left out. `kept` is a plan whose book still holds.
pub(super) fn gather(
    sources: &Sources<'_>,
    endpoints: &mut [EndpointView],
    kept: Option<&Plan>,
) -> (AddressBook, Vec<String>) {
    let nodes = nodes(sources.inputs, sources.options);
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.left_out.is_none()) {
        let mut addresses = endpoint.record.addresses.iter();
        if let Some(address) = addresses.find(|address| !may_be_a_pods(**address, &nodes)) {
            endpoint.left_out = Some(LeftOut::NotAPodsAddress(*address));
        }
    }
    if let Some(kept) = kept {
        return (kept.addresses.clone(), kept.address_problems.clone());
    }
    let mut problems = Vec::new();
    let pods = &sources.inputs.snapshot.pods;
    let mut claims = claims(sources, endpoints, &nodes, &mut problems);
    claims.sort_unstable();
    claims.dedup();
    let mut book: Vec<(IpAddr, (IdentityId, Holder))> = Vec::with_capacity(claims.len());
    for claims in claims.chunk_by(|one, other| one.0 == other.0) {
        let address = claims[0].0;
        let claimants = claims.iter().filter_map(|(_, position)| pods.packed().get(*position));
        if let [(_, position)] = claims {
            let identity = sources.of_pod(*position, address);
            let identity = identity.unwrap_or(Reserved::Unmanaged.id());
            let holders = claimants.map(|pod| (address, (identity, Holder::Pod(pod.clone()))));
            book.extend(holders);
        } else {
            let names: Vec<String> = claimants.map(|pod| pod.name().to_string()).collect();
            problems.push(format!(
                "{address} is claimed by pods {}: it is treated as unmanaged",
                names.join(" and ")
            ));
            book.push((address, (Reserved::Unmanaged.id(), Holder::Contested)));
        }
    }
    let of_pods = book.len();
    for (address, reserved) in nodes {
        let pods = &book[..of_pods];
        let of_a_pod = pods.binary_search_by(|(known, _)| known.cmp(&address));
        let identity = sources.of_node(address, reserved).unwrap_or(reserved.id());
        let entry = (address, (identity, Holder::Node(reserved)));
        match of_a_pod {
            Err(_) => book.push(entry),
            Ok(at) if is_a_nodes_own(reserved) => book[at] = entry,
            // An API server that is a pod is that pod; a health endpoint that is one is
            // of an installation that has gone.
            Ok(_) if reserved == Reserved::KubeApiserver => {}
            Ok(at) => {
                let pod = holder_name(&book[at].1.1);
                let text =
                    format!("a node says that {address} is `{}`: it is {pod}", reserved.name());
                problems.push(text);
            }
        }
    }
    book.sort_by_key(|(address, _)| *address);
    (AddressBook(book.into()), problems)
}

/// Addresses of nodes, of what stands on them, and of the API server.
pub(super) fn nodes(inputs: &Inputs, options: &PlanOptions) -> BTreeMap<IpAddr, Reserved> {
    let mut nodes: BTreeMap<IpAddr, Reserved> = BTreeMap::new();
    for node in inputs.snapshot.nodes.values() {
        nodes.extend(&node.reserved);
    }
    for node in inputs.snapshot.nodes.values().filter(|node| node.name != options.node) {
        nodes.extend(node.addresses.iter().map(|address| (*address, Reserved::RemoteNode)));
    }
    let api = inputs.snapshot.apiservers.iter();
    nodes.extend(api.map(|address| (*address, Reserved::KubeApiserver)));
    // Last, because what is this node is `host` whatever else it is.
    if let Some(own) = inputs.snapshot.nodes.get(&options.node) {
        nodes.extend(own.addresses.iter().map(|address| (*address, Reserved::Host)));
    }
    let own = inputs.host_addresses.iter();
    nodes.extend(own.map(|address| (address.to_canonical(), Reserved::Host)));
    nodes
}

/// Which pods claim which address: their places among all pods.
fn claims(
    sources: &Sources<'_>,
    endpoints: &[EndpointView],
    nodes: &BTreeMap<IpAddr, Reserved>,
    problems: &mut Vec<String>,
) -> Vec<(IpAddr, usize)> {
    let Sources { inputs, options, .. } = sources;
    let pods = &inputs.snapshot.pods;
    let mut claims = Vec::with_capacity(pods.len());
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.left_out.is_none()) {
        let Some(position) = pods.position(&endpoint.record.pod) else { continue };
        claims.extend(endpoint.record.addresses.iter().map(|address| (*address, position)));
    }
    for (position, pod) in pods.iter().enumerate() {
        if pod.host_network || pod.node.is_empty() || pod.node == options.node {
            continue;
        }
        for address in &pod.addresses {
            if may_be_a_pods(*address, nodes) {
                claims.push((*address, position));
            } else {
                problems.push(format!("pod {} claims {address}, which no pod can have", pod.name));
            }
        }
    }
    claims
}

/// Whether an address is of a node's own interfaces; else a pod may have it, too.
fn is_a_nodes_own(reserved: Reserved) -> bool {
    matches!(reserved, Reserved::Host | Reserved::RemoteNode)
}

fn holder_name(holder: &Holder) -> String {
    match holder {
        Holder::Pod(pod) => format!("pod {}", pod.name()),
        Holder::Node(reserved) => reserved.name().to_owned(),
        Holder::Contested => "claimed by several pods".to_owned(),
    }
}

/// Whether a pod can have the address: it names one machine, and none of the
/// nodes. The API server of some distributions is a pod.
fn may_be_a_pods(address: IpAddr, nodes: &BTreeMap<IpAddr, Reserved>) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let shared = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let node = nodes.get(&address).is_some_and(|holder| is_a_nodes_own(*holder));
    !(broadcast || shared || node)
}
