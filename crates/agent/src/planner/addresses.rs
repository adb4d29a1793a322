//! Who is behind each address of the cluster.
//!
//! The order of belief: a node's addresses are its own, whatever a pod claims;
//! this node's interfaces are what the CNI plugin recorded; other nodes' pods are
//! what their status says. An address that two pods claim is nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{IdentityBook, IdentityId, Labels, PodName, Reserved};

use super::endpoints::{EndpointView, LeftOut};
use super::{Inputs, Meaning, PlanOptions};

/// Who has an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A pod.
    Pod(PodName),
    /// This node, another one, the API server, or what stands on a node.
    Node(Reserved),
    /// Several pods claim it, so none has it.
    Contested,
}

/// Every known address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressBook(BTreeMap<IpAddr, (IdentityId, Holder)>);

impl AddressBook {
    /// Identity and holder of an address.
    pub fn get(&self, address: &IpAddr) -> Option<&(IdentityId, Holder)> {
        self.0.get(address)
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
    pub labels: &'a BTreeMap<PodName, Labels>,
    pub identities: &'a IdentityBook,
    pub meaning: &'a Meaning,
}

impl Sources<'_> {
    /// Identity of a pod at one of its addresses.
    fn of_pod(&self, pod: &PodName, address: IpAddr) -> Option<IdentityId> {
        self.identities.id(&self.meaning.at(self.labels.get(pod)?, address))
    }

    /// Identity of a node or of the API server.
    fn of_node(&self, address: IpAddr, reserved: Reserved) -> Option<IdentityId> {
        let found = (address, reserved);
        self.identities.id(&self.meaning.of_node(&self.inputs.snapshot, self.options, found))
    }
}

/// Makes the book. An endpoint of this node that claims what no pod can have is
/// left out.
pub(super) fn gather(
    sources: &Sources<'_>,
    endpoints: &mut [EndpointView],
    problems: &mut Vec<String>,
) -> AddressBook {
    let nodes = nodes(sources.inputs, sources.options);
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.left_out.is_none()) {
        let mut addresses = endpoint.record.addresses.iter();
        if let Some(address) = addresses.find(|address| !may_be_a_pods(**address, &nodes)) {
            endpoint.left_out = Some(LeftOut::NotAPodsAddress(*address));
        }
    }
    let claims = pods(sources, endpoints, &nodes, problems);
    let mut book = BTreeMap::new();
    for (address, pods) in claims {
        let pods: Vec<PodName> = pods.into_iter().collect();
        let entry = if let [pod] = pods.as_slice() {
            let identity = sources.of_pod(pod, address);
            (identity.unwrap_or(Reserved::Unmanaged.id()), Holder::Pod(pod.clone()))
        } else {
            let names: Vec<String> = pods.iter().map(ToString::to_string).collect();
            problems.push(format!(
                "{address} is claimed by pods {}: it is treated as unmanaged",
                names.join(" and ")
            ));
            (Reserved::Unmanaged.id(), Holder::Contested)
        };
        book.insert(address, entry);
    }
    for (address, reserved) in nodes {
        // An API server that is a pod is that pod; a health endpoint that is one is
        // of an installation that has gone.
        if !is_a_nodes_own(reserved)
            && let Some((_, holder)) = book.get(&address)
        {
            if reserved != Reserved::KubeApiserver {
                let pod = holder_name(holder);
                let text =
                    format!("a node says that {address} is `{}`: it is {pod}", reserved.name());
                problems.push(text);
            }
            continue;
        }
        let identity = sources.of_node(address, reserved).unwrap_or(reserved.id());
        book.insert(address, (identity, Holder::Node(reserved)));
    }
    AddressBook(book)
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

/// Which pods claim each address.
fn pods(
    sources: &Sources<'_>,
    endpoints: &[EndpointView],
    nodes: &BTreeMap<IpAddr, Reserved>,
    problems: &mut Vec<String>,
) -> BTreeMap<IpAddr, BTreeSet<PodName>> {
    let Sources { inputs, options, .. } = sources;
    let mut claims: BTreeMap<IpAddr, BTreeSet<PodName>> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.left_out.is_none()) {
        for address in &endpoint.record.addresses {
            claims.entry(*address).or_default().insert(endpoint.record.pod.clone());
        }
    }
    let elsewhere = inputs
        .snapshot
        .pods
        .values()
        .filter(|pod| !pod.host_network && !pod.node.is_empty() && pod.node != options.node);
    for pod in elsewhere {
        for address in &pod.addresses {
            if may_be_a_pods(*address, nodes) {
                claims.entry(*address).or_default().insert(pod.name.clone());
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
        Holder::Pod(pod) => format!("pod {pod}"),
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
