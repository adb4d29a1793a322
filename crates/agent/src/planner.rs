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
    EndpointRecord, IdentityBook, IdentityId, LabelFilter, Labels, PodName, Reserved,
    identity_labels,
};
use source::Snapshot;

use crate::numbers::Numbers;

mod addresses;
mod endpoints;
mod policies;
mod refusals;
mod services;
mod tables;

pub use addresses::{AddressBook, Holder};
pub use endpoints::{EndpointView, LeftOut};
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
}

/// What this node should enforce, and how it came to that.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For the datapath.
    pub desired: Desired,
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
    let meaning = Meaning::of(snapshot, options);
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

    let (services, service_views) = services::plan(snapshot, &book, &mut problems);
    let desired = Desired {
        endpoints: endpoints.iter().filter_map(EndpointView::installed).collect(),
        addresses: book.identities(),
        prefixes: prefixes(snapshot, &meaning, &identities),
        tables: tables.used(&endpoints),
        services,
    };
    let shortfalls = policies::shortfalls(&meaning.policies, &options.policy, &endpoints);
    let policies = policies::views(snapshot, &shortfalls, &endpoints);
    problems.extend(shortfalls.into_iter().map(|(_, text)| text).collect::<BTreeSet<_>>());
    Plan {
        desired,
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
    references: policy::References,
}

impl Meaning {
    fn of(snapshot: &Snapshot, options: &PlanOptions) -> Self {
        let policies = policy::resolve(&snapshot.policies, &snapshot.catalogue);
        let references = policy::References::of(&policies, &options.policy);
        Self { policies, references }
    }

    /// Labels of a pod at one of its addresses, as a peer.
    fn at(&self, labels: &Labels, address: IpAddr) -> Labels {
        self.references.at_address(labels, address)
    }

    /// Labels of another node at one of its addresses, as a peer.
    fn of_node(&self, node: &model::Node, address: IpAddr, cluster: &str) -> Labels {
        let base = Reserved::RemoteNode.identity().labels;
        self.at(&self.references.of_node(&base, &node.labels, cluster), address)
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
        for node in snapshot.nodes.values().filter(|node| node.name != self.options.node) {
            let cluster = &self.options.policy.cluster;
            let addresses = node.addresses.iter();
            sets.extend(addresses.map(|address| meaning.of_node(node, *address, cluster)));
        }
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
    let book = IdentityBook::new(everybody.sets(meaning));
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
