//! What this node should enforce, from what is known about the cluster and the
//! pods' interfaces here.
//!
//! Pure: equal inputs and the same earlier plan give the same plan. Whatever is
//! missing, contradictory or does not fit leaves its endpoint out, which the
//! datapath drops, and is said in [`Plan::endpoints`] or [`Plan::problems`].
//! Knows nothing about maps or about how the inputs are read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::{Desired, Limits};
use ipnet::IpNet;
use model::{
    EndpointRecord, IdentityBook, IdentityId, Label, LabelFilter, Labels, PodName, Reserved,
    identity_labels,
};
use source::Snapshot;

use crate::numbers::Numbers;
use crate::trial::NodePolicies;

mod addresses;
mod endpoints;
mod host;
mod policies;
mod refusals;
mod services;
mod tables;

pub use crate::numbers::{HOST_ENDPOINT, HOST_TABLE};
pub use addresses::{AddressBook, Holder};
pub use endpoints::{EndpointView, LeftOut};
pub use host::HostView;
pub(crate) use host::subject_labels;
pub use policies::PolicyView;
pub use services::ServiceView;
pub use tables::{PlannedTable, Subject};

/// What a plan is made for.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Name of this node.
    pub node: String,
    /// The meaning of what policies leave open.
    pub policy: policy::Options,
    /// Which labels make an identity.
    pub filter: LabelFilter,
    /// What fits into the kernel.
    pub limits: Limits,
}

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The cluster.
    pub snapshot: Arc<Snapshot>,
    /// The pods' interfaces on this node.
    pub records: Vec<EndpointRecord>,
    /// Addresses of the node's own interfaces.
    pub host_addresses: BTreeSet<IpAddr>,
    /// [`EndpointView::content`] of the endpoints that are in force.
    pub installed: BTreeSet<[u8; 32]>,
    /// What judges the node itself.
    pub node_policies: NodePolicies,
}

/// What this node should enforce, and how it came to that.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For the datapath.
    pub desired: Desired,
    /// The node itself; `None`: nobody judges it.
    pub host: Option<HostView>,
    /// Every interface that a record names, installed or left out.
    pub endpoints: Vec<EndpointView>,
    /// Every identity that can be met.
    pub identities: Arc<IdentityBook>,
    /// Who is behind each address.
    pub addresses: AddressBook,
    /// Tables with their subjects, by number.
    pub tables: BTreeMap<u32, PlannedTable>,
    /// Every policy that was read, accepted or refused.
    pub policies: Vec<PolicyView>,
    /// Every port of every service with an address of its own.
    pub services: Vec<ServiceView>,
    /// Policies that were refused and have no earlier version, one sentence each.
    pub unprotected: Vec<String>,
    /// What else an operator should look at, one sentence each.
    pub problems: Vec<String>,
    /// The cluster it was made from.
    pub snapshot: Arc<Snapshot>,
    endpoint_numbers: Numbers,
    table_numbers: Numbers,
}

impl Plan {
    /// The endpoints it installs, by [`EndpointView::content`].
    pub fn installed(&self) -> BTreeSet<[u8; 32]> {
        let installed = self.endpoints.iter().filter(|endpoint| endpoint.installed().is_some());
        installed.map(EndpointView::content).collect()
    }

    /// The interface with this endpoint number.
    pub fn endpoint(&self, id: u32) -> Option<&EndpointView> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }
}

/// Makes the plan for a node; `before` is the last one, whose numbers and
/// unchanged tables are kept.
pub fn plan(inputs: &Inputs, options: &PlanOptions, before: Option<&Plan>) -> Plan {
    let snapshot = &inputs.snapshot;
    let mut problems = Vec::new();
    let meaning = Meaning::of(inputs, options);
    let labels = pod_labels(snapshot, &meaning, options);
    let identities = identities(&Everybody { inputs, options, labels: &labels }, &meaning, before);

    let mut joined = endpoints::join(inputs, options, before);
    let book = addresses::gather(
        &addresses::Sources {
            inputs,
            options,
            labels: &labels,
            identities: &identities,
            meaning: &meaning,
        },
        &mut joined.endpoints,
        &mut problems,
    );
    let mut endpoints = joined.endpoints;
    endpoints::identify(&mut endpoints, snapshot, &labels, &identities);
    refusals::leave_out(snapshot, &inputs.installed, &mut endpoints);

    let same_meaning = before.filter(|before| {
        before.snapshot.policies == snapshot.policies
            && before.snapshot.catalogue == snapshot.catalogue
            && before.identities == identities
    });
    let tables = tables::compile(
        &tables::Task {
            snapshot,
            policies: &meaning.policies,
            identities: &identities,
            options,
            before,
            same_meaning,
        },
        &mut endpoints,
        &mut problems,
    );
    endpoints::fit(&mut endpoints, options.limits, before);
    let host = host::compile(
        &host::Task {
            inputs,
            in_force: &meaning.of_node_now,
            fallback: &meaning.of_node_after,
            identities: &identities,
            options,
            before,
        },
        &mut problems,
    );

    let (services, service_views) = services::plan(snapshot, &book, &mut problems);
    let desired = Desired {
        endpoints: endpoints.iter().filter_map(EndpointView::installed).collect(),
        host: host::desired(host.as_ref(), book.of_the_node()),
        addresses: book.identities(),
        prefixes: prefixes(snapshot, &meaning, &identities),
        tables: tables
            .used(&endpoints)
            .into_iter()
            .chain(host.iter().flat_map(HostView::tables))
            .collect(),
        services,
    };
    let shortfalls = policies::shortfalls(&meaning.policies, &options.policy, &endpoints);
    let node = host.as_ref().map(|host| (options.node.as_str(), host));
    let policies = policies::views(snapshot, &shortfalls, &endpoints, node);
    problems.extend(shortfalls.into_iter().map(|(_, text)| text).collect::<BTreeSet<_>>());
    Plan {
        desired,
        host,
        endpoints,
        identities,
        addresses: book,
        tables: tables.planned,
        policies,
        services: service_views,
        unprotected: refusals::problems(snapshot),
        problems,
        snapshot: Arc::clone(snapshot),
        endpoint_numbers: joined.numbers,
        table_numbers: tables.numbers,
    }
}

/// The policies with what they refer to written out, and what they mention
/// besides labels.
pub(crate) struct Meaning {
    policies: Vec<policy::Policy>,
    /// Those that judge the node itself, which may be earlier versions.
    of_node_now: Vec<policy::Policy>,
    /// The same after a trial.
    of_node_after: Vec<policy::Policy>,
    references: policy::References,
    /// The node itself as a peer.
    host: Labels,
}

impl Meaning {
    fn of(inputs: &Inputs, options: &PlanOptions) -> Self {
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
    fn at(&self, labels: &Labels, address: IpAddr) -> Labels {
        self.references.at_address(labels, address)
    }

    /// Labels of a node or of the API server at one of its addresses, as a peer. A
    /// node that serves the API is both.
    fn of_node(
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

/// Identity labels of every pod that has an identity of its own. Pods without an
/// address yet are among them, so that their right is compiled when it comes.
fn pod_labels(
    snapshot: &Snapshot,
    meaning: &Meaning,
    options: &PlanOptions,
) -> BTreeMap<PodName, Labels> {
    let pods = snapshot.pods.values().filter(|pod| !pod.host_network);
    pods.map(|pod| {
        let namespace = snapshot.namespace(&pod.name.namespace);
        let labels = identity_labels(pod, &namespace, &options.policy.cluster, &options.filter);
        (pod.name.clone(), meaning.references.with_ports(&labels, &pod.ports))
    })
    .collect()
}

/// Whom identities are for.
struct Everybody<'a> {
    inputs: &'a Inputs,
    options: &'a PlanOptions,
    labels: &'a BTreeMap<PodName, Labels>,
}

impl Everybody<'_> {
    /// Every label set that can be met: pods, also at each of their addresses,
    /// other nodes, and the ranges that policies name.
    fn sets(&self, meaning: &Meaning) -> Vec<Labels> {
        let snapshot = &self.inputs.snapshot;
        let mut sets: Vec<Labels> = self.labels.values().cloned().collect();
        let recorded = self.inputs.records.iter().map(|record| (&record.pod, &record.addresses));
        let reported = snapshot.pods.values().map(|pod| (&pod.name, &pod.addresses));
        for (pod, addresses) in recorded.chain(reported) {
            let Some(labels) = self.labels.get(pod) else { continue };
            sets.extend(addresses.iter().map(|address| meaning.at(labels, *address)));
        }
        let nodes = addresses::nodes(self.inputs, self.options).into_iter();
        sets.extend(nodes.map(|found| meaning.of_node(snapshot, self.options, found)));
        sets.extend(meaning.references.ranges().map(|(_, labels)| labels));
        sets
    }
}

/// The book of all identities; the earlier one when nothing changed.
fn identities(
    everybody: &Everybody<'_>,
    meaning: &Meaning,
    before: Option<&Plan>,
) -> Arc<IdentityBook> {
    let book = IdentityBook::with_host(meaning.host.clone(), everybody.sets(meaning));
    match before {
        Some(before) if *before.identities == book => Arc::clone(&before.identities),
        _ => Arc::new(book),
    }
}

/// Ranges that policies name have identities of their own; but inside a pod
/// range, who is known to nobody is unmanaged, and never the world.
fn prefixes(
    snapshot: &Snapshot,
    meaning: &Meaning,
    identities: &IdentityBook,
) -> BTreeMap<IpNet, IdentityId> {
    let pod_ranges: Vec<IpNet> =
        snapshot.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
    let inside = |net: &IpNet| pod_ranges.iter().any(|range| range.contains(net));
    let named = meaning.references.ranges().filter(|(net, _)| !inside(net));
    let mut prefixes: BTreeMap<IpNet, IdentityId> =
        named.filter_map(|(net, labels)| Some((net, identities.id(&labels)?))).collect();
    prefixes.extend(pod_ranges.iter().map(|range| (*range, Reserved::Unmanaged.id())));
    prefixes
}

#[cfg(test)]
mod tests;
