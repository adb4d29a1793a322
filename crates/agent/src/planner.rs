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
mod tables;

pub use addresses::{AddressBook, Holder};
pub use endpoints::{EndpointView, LeftOut};
pub use policies::PolicyView;
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
    let labels = pod_labels(snapshot, options);
    let identities = identities(&labels, before);

    let mut joined = endpoints::join(inputs, options, before);
    let book = addresses::gather(
        &addresses::Sources { inputs, options, labels: &labels, identities: &identities },
        &mut joined.endpoints,
        &mut problems,
    );
    let mut endpoints = joined.endpoints;
    endpoints::identify(&mut endpoints, snapshot, &labels, &identities);
    refusals::leave_out(snapshot, &inputs.installed, &mut endpoints);

    let same_meaning = before.filter(|before| {
        before.snapshot.policies == snapshot.policies && before.identities == identities
    });
    let tables = tables::compile(
        &tables::Task { snapshot, identities: &identities, options, before, same_meaning },
        &mut endpoints,
        &mut problems,
    );
    endpoints::fit(&mut endpoints, options.limits, before);

    let desired = Desired {
        endpoints: endpoints.iter().filter_map(EndpointView::installed).collect(),
        addresses: book.identities(),
        prefixes: prefixes(snapshot),
        tables: tables.used(&endpoints),
    };
    let policies = policies::views(snapshot, &endpoints);
    Plan {
        desired,
        endpoints,
        identities,
        addresses: book,
        tables: tables.planned,
        policies,
        unprotected: refusals::problems(snapshot),
        problems,
        snapshot: Arc::clone(snapshot),
        endpoint_numbers: joined.numbers,
        table_numbers: tables.numbers,
    }
}

/// Identity labels of every pod that has an identity of its own. Pods without an
/// address yet are among them, so that their right is compiled when it comes.
fn pod_labels(snapshot: &Snapshot, options: &PlanOptions) -> BTreeMap<PodName, Labels> {
    let pods = snapshot.pods.values().filter(|pod| !pod.host_network);
    pods.map(|pod| {
        let namespace = snapshot.namespace(&pod.name.namespace);
        let cluster = &options.policy.cluster;
        (pod.name.clone(), identity_labels(pod, &namespace, cluster, &options.filter))
    })
    .collect()
}

/// The book of all identities; the earlier one when nothing changed.
fn identities(labels: &BTreeMap<PodName, Labels>, before: Option<&Plan>) -> Arc<IdentityBook> {
    let book = IdentityBook::new(labels.values().cloned());
    match before {
        Some(before) if *before.identities == book => Arc::clone(&before.identities),
        _ => Arc::new(book),
    }
}

/// Inside a pod range but known to nobody is not the world.
fn prefixes(snapshot: &Snapshot) -> BTreeMap<IpNet, IdentityId> {
    let ranges = snapshot.nodes.values().flat_map(|node| &node.pod_cidrs);
    ranges.map(|range| (*range, Reserved::Unmanaged.id())).collect()
}

#[cfg(test)]
mod tests;
