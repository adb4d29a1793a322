//! What this node should enforce, from what is known about the cluster and the
//! pods' interfaces here.
//!
//! Pure: equal inputs and the same earlier plan give the same plan. Whatever is
//! missing, contradictory or does not fit leaves its endpoint out, which the
//! datapath drops, and is said in [`Plan::endpoints`] or [`Plan::problems`].
//! Knows nothing about maps or about how the inputs are read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use datapath::{Desired, Limits};
use ipnet::IpNet;
use model::{EndpointRecord, IdentityBook, IdentityId, LabelFilter, Reserved};
use source::Snapshot;

use crate::numbers::Numbers;
use crate::trial::NodePolicies;

mod addresses;
mod endpoints;
mod host;
mod kept;
mod last_good;
mod meaning;
mod people;
mod policies;
mod refusals;
mod services;
mod setback;
mod tables;

pub use crate::numbers::{HOST_ENDPOINT, HOST_TABLE};
pub use addresses::{AddressBook, Holder};
pub use endpoints::{EndpointView, LeftOut};
pub use host::HostView;
pub(crate) use host::subject_labels;
pub use last_good::LastGood;
pub use policies::PolicyView;
pub use services::ServiceView;
pub use setback::{Outcome, Setback};
pub use tables::{PlannedTable, Subject};

use kept::Kept;
use meaning::Meaning;
use people::{Everybody, PodLabels};

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
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
    /// Every port of every service with an address of its own.
    pub services: Vec<ServiceView>,
    /// Policies that were refused and have no earlier version, one sentence each.
    pub unprotected: Vec<String>,
    /// Of whom the policies are not in force.
    pub setbacks: Vec<Setback>,
    /// Services that do not fit, in a sentence.
    pub misfit: Option<String>,
    /// What else an operator should look at, one sentence each.
    pub problems: Vec<String>,
    /// The cluster it was made from.
    pub snapshot: Arc<Snapshot>,
    endpoint_numbers: Numbers,
    table_numbers: Numbers,
    inputs: Inputs,
    options: PlanOptions,
    meaning: Meaning,
    labels: PodLabels,
    address_problems: Vec<String>,
    shortfalls: Vec<policies::Shortfall>,
    policies: OnceLock<Vec<PolicyView>>,
}

impl Plan {
    /// Every policy that was read, accepted or refused. Made when somebody asks: it
    /// concerns every policy, whatever has changed.
    pub fn policies(&self) -> &[PolicyView] {
        self.policies.get_or_init(|| {
            let node = self.host.as_ref().map(|host| (self.options.node.as_str(), host));
            let amiss = policies::Amiss { shortfalls: &self.shortfalls, setbacks: &self.setbacks };
            policies::views(&self.snapshot, &amiss, &self.endpoints, node)
        })
    }

    /// Whether everybody of this node whom a policy is about is judged by it.
    pub fn enforces(&self, policy: &policy::Policy) -> bool {
        !self.setbacks.iter().any(|setback| setback.concerns(policy))
    }

    /// The object of the node it is for, if the cluster has one.
    pub fn node(&self) -> Option<&model::Node> {
        self.snapshot.nodes.get(&self.options.node)
    }

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
/// unchanged tables are kept, and `last_good` what is in force.
pub fn plan(
    inputs: &Inputs,
    options: &PlanOptions,
    before: Option<&Plan>,
    last_good: &LastGood,
) -> Plan {
    let snapshot = &inputs.snapshot;
    let mut problems = Vec::new();
    let meaning = Meaning::of(inputs, options);
    let kept = Kept::of(before, inputs, options, &meaning);
    let labels = kept
        .labels
        .map_or_else(|| PodLabels::of(snapshot, &meaning, options), |before| before.labels.clone());
    let everybody = Everybody { inputs, options, labels: &labels };
    let identities = kept.people.map_or_else(
        || everybody.identities(&meaning, before.map(|before| &before.identities)),
        |before| Arc::clone(&before.identities),
    );

    let mut joined = endpoints::join(inputs, options, before);
    let sources = addresses::Sources {
        inputs,
        options,
        labels: &labels,
        identities: &identities,
        meaning: &meaning,
    };
    let (book, address_problems) = addresses::gather(&sources, &mut joined.endpoints, kept.people);
    problems.extend(address_problems.iter().cloned());
    let mut endpoints = joined.endpoints;
    endpoints::identify(&mut endpoints, &labels, &identities);
    refusals::leave_out(snapshot, &inputs.installed, &mut endpoints);

    let tables = tables::compile(
        &tables::Task {
            snapshot,
            policies: &meaning.policies,
            identities: &identities,
            options,
            before,
            last_good,
            kept: kept::Tables::of(before, options, &meaning, &identities),
        },
        &mut endpoints,
        &mut problems,
    );
    endpoints::fit(&mut endpoints, options.limits, last_good);
    let mut setbacks = tables.setbacks.clone();
    let host = host::compile(
        &host::Task {
            inputs,
            in_force: &meaning.of_node_now,
            fallback: &meaning.of_node_after,
            identities: &identities,
            options,
            before,
            last_good,
        },
        &mut setbacks,
    );

    let room = services::Room {
        services: options.limits.services,
        backends: options.limits.backends,
        last_good,
    };
    let (services, service_views, misfit) = services::plan(snapshot, &book, &room, &mut problems);
    let desired = Desired {
        endpoints: endpoints.iter().filter_map(EndpointView::installed).collect(),
        host: host::desired(host.as_ref(), book.of_the_node()),
        addresses: book.identities(),
        prefixes: kept.people.map_or_else(
            || prefixes(snapshot, &meaning, &identities),
            |before| before.desired.prefixes.clone(),
        ),
        tables: tables
            .used(&endpoints)
            .into_iter()
            .chain(host.iter().flat_map(HostView::tables))
            .collect(),
        services,
    };
    let shortfalls = policies::shortfalls(&meaning.policies, &options.policy, &endpoints);
    problems.extend(shortfalls.iter().map(|(_, text)| text.clone()).collect::<BTreeSet<_>>());
    Plan {
        desired,
        host,
        endpoints,
        identities,
        addresses: book,
        tables: tables.planned,
        services: service_views,
        unprotected: refusals::problems(snapshot),
        setbacks,
        misfit,
        problems,
        snapshot: Arc::clone(snapshot),
        endpoint_numbers: joined.numbers,
        table_numbers: tables.numbers,
        inputs: inputs.clone(),
        options: options.clone(),
        meaning,
        labels,
        address_problems,
        shortfalls,
        policies: OnceLock::new(),
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
