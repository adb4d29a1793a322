//! The node itself: the table by which policies judge it, and the one that does
//! after a trial.
//!
//! What cannot be compiled leaves what was in force: a node that drops everything
//! because of a fault in a policy could not be corrected any more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::{Host, HostSubject, Trial};
use model::{Direction, IdentityBook, Label, Labels, Reserved};
use policy::{Policy, Table};

use super::endpoints::default_deny;
use super::tables::fitting;
use super::{Inputs, Plan, PlanOptions};
use crate::numbers::{HOST_FALLBACK, HOST_TABLE};
use crate::trial::NodePolicies;

/// The node, as policies judge it.
#[derive(Clone, Debug)]
pub struct HostView {
    /// The labels by which policies select it.
    pub labels: Labels,
    /// What judges it.
    pub table: Arc<Table>,
    /// What judges it after the trial, and when that is over, in seconds of
    /// `CLOCK_MONOTONIC`; `None`: it is not on trial.
    pub fallback: Option<(Arc<Table>, u32)>,
    policies: NodePolicies,
}

/// What the tables are compiled from.
pub(super) struct Task<'a> {
    pub inputs: &'a Inputs,
    /// Those of the inputs, with what they refer to written out.
    pub in_force: &'a [Policy],
    pub fallback: &'a [Policy],
    pub identities: &'a IdentityBook,
    pub options: &'a PlanOptions,
    pub before: Option<&'a Plan>,
}

/// The labels by which policies select the node.
pub(crate) fn subject_labels(snapshot: &source::Snapshot, options: &PlanOptions) -> Labels {
    match snapshot.nodes.get(&options.node) {
        Some(node) => node.subject_labels(&options.filter),
        None => Reserved::Host.identity().labels,
    }
}

/// Labels of the node as a peer, its addresses aside: it may serve the API.
pub(super) fn peer_labels(inputs: &Inputs, options: &PlanOptions) -> Labels {
    let mut labels = Reserved::Host.identity().labels;
    let own = inputs.snapshot.nodes.get(&options.node);
    let mut addresses =
        own.into_iter().flat_map(|node| &node.addresses).chain(&inputs.host_addresses);
    if addresses.any(|address| inputs.snapshot.apiservers.contains(&address.to_canonical())) {
        labels.insert(Label::reserved(Reserved::KubeApiserver.name()));
    }
    labels
}

/// The node's view; `None`: no policy selects it, or none that could be compiled.
pub(super) fn compile(task: &Task<'_>, problems: &mut Vec<String>) -> Option<HostView> {
    let policies = &task.inputs.node_policies;
    if policies.in_force.is_empty() {
        return None;
    }
    let labels = subject_labels(&task.inputs.snapshot, task.options);
    let last = task.before.and_then(|before| before.host.as_ref());
    let same_peers = task.before.is_some_and(|before| {
        std::ptr::eq(&*before.identities, task.identities)
            && before.snapshot.catalogue == task.inputs.snapshot.catalogue
    });
    if let Some(last) =
        last.filter(|last| same_peers && last.labels == labels && last.policies == *policies)
    {
        return Some(last.clone());
    }
    let compiled = table(task, task.in_force, &labels, last.map(|last| &last.table));
    let fallback = policies.confirm_by.map(|confirm_by| {
        let last = last.and_then(|last| last.fallback.as_ref());
        let table = table(task, task.fallback, &labels, last.map(|(table, _)| table));
        table.map(|table| (table, confirm_by))
    });
    match (compiled, fallback.transpose()) {
        (Ok(table), Ok(fallback)) => {
            Some(HostView { labels, table, fallback, policies: policies.clone() })
        }
        (Err(reason), _) | (_, Err(reason)) => {
            let stays = match last {
                Some(_) => "the last good one stays",
                None => "nobody judges the node",
            };
            problems.push(format!("the policy of the node cannot be enforced: {reason}; {stays}"));
            last.cloned()
        }
    }
}

fn table(
    task: &Task<'_>,
    policies: &[Policy],
    labels: &Labels,
    last: Option<&Arc<Table>>,
) -> Result<Arc<Table>, String> {
    let none = BTreeMap::new();
    let options = &task.options.policy;
    let compiled = policy::compile(policies, labels, &none, task.identities, options);
    let table = compiled.map_err(|error| error.to_string())?;
    match last {
        Some(last) if **last == table => Ok(Arc::clone(last)),
        Some(last) => fitting(last, table, task.options.limits.table_entries).map(Arc::new),
        None => Ok(Arc::new(table)),
    }
}

impl HostView {
    /// Whether default deny is on in this direction.
    pub fn default_deny(&self, direction: Direction) -> Option<bool> {
        default_deny(&self.table, direction)
    }

    /// Its tables, as the datapath is told.
    pub(super) fn tables(&self) -> impl Iterator<Item = (u32, Arc<Table>)> {
        let fallback = self.fallback.as_ref().map(|(table, _)| (HOST_FALLBACK, Arc::clone(table)));
        [(HOST_TABLE, Arc::clone(&self.table))].into_iter().chain(fallback)
    }
}

/// As the datapath is told.
pub(super) fn desired(view: Option<&HostView>, addresses: impl Iterator<Item = IpAddr>) -> Host {
    let subject = view.map(|view| HostSubject {
        identity: Reserved::Host.id(),
        table: HOST_TABLE,
        trial: view
            .fallback
            .as_ref()
            .map(|(_, confirm_by)| Trial { fallback: HOST_FALLBACK, confirm_by: *confirm_by }),
    });
    Host { addresses: addresses.collect(), subject }
}
