//! The node itself: the table by which policies judge it, and the one that does
//! after a trial.
//!
//! What cannot be compiled leaves what was in force, also by an earlier agent: a node
//! that drops everything because of a fault in a policy could not be corrected any more.
//! Where nothing was in force, what was confirmed counts; only where that cannot be
//! compiled either does nobody judge the node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::{Host, HostSubject, Trial};
use model::{Direction, IdentityBook, Label, Labels, Reserved};
use policy::{Policy, Table};

use super::endpoints::default_deny;
use super::last_good::{GoodHost, LastGood};
use super::setback::{Outcome, Setback};
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
    /// What its table was made of; `None`: it is an earlier one.
    policies: Option<NodePolicies>,
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
    pub last_good: &'a LastGood,
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
pub(super) fn compile(task: &Task<'_>, setbacks: &mut Vec<Setback>) -> Option<HostView> {
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
        last.filter(|last| same_peers && last.labels == labels && last.is_made_of(policies))
    {
        return Some(last.clone());
    }
    let compiled = table(task, task.in_force, &labels, HOST_TABLE);
    let fallback = policies.confirm_by.map(|confirm_by| {
        let table = table(task, task.fallback, &labels, HOST_FALLBACK);
        table.map(|table| (table, confirm_by))
    });
    match (compiled, fallback.transpose()) {
        (Ok(table), Ok(fallback)) => {
            Some(HostView { labels, table, fallback, policies: Some(policies.clone()) })
        }
        (Err(reason), _) | (_, Err(reason)) => {
            let (outcome, view) = instead(task, &labels);
            setbacks.push(Setback { subject: labels, of_the_node: true, outcome, reason });
            view
        }
    }
}

/// What judges where the policies of the node cannot be enforced.
fn instead(task: &Task<'_>, labels: &Labels) -> (Outcome, Option<HostView>) {
    let view =
        |table, fallback| HostView { labels: labels.clone(), table, fallback, policies: None };
    if let Some(GoodHost { table, fallback }) = task.last_good.of_the_node() {
        return (Outcome::LastGoodStays, Some(view(table, fallback)));
    }
    // Of a node that was never judged, as after a reboot.
    let on_trial = task.inputs.node_policies.confirm_by.is_some() && !task.fallback.is_empty();
    match on_trial.then(|| table(task, task.fallback, labels, HOST_TABLE)) {
        Some(Ok(table)) => (Outcome::ConfirmedStays, Some(view(table, None))),
        Some(Err(_)) | None => (Outcome::NobodyJudges, None),
    }
}

fn table(
    task: &Task<'_>,
    policies: &[Policy],
    labels: &Labels,
    number: u32,
) -> Result<Arc<Table>, String> {
    let none = BTreeMap::new();
    let options = &task.options.policy;
    let compiled = policy::compile(policies, labels, &none, task.identities, options);
    let table = compiled.map_err(|error| error.to_string())?;
    let beside = task.last_good.table(number);
    match beside.filter(|last| *last.table == table) {
        Some(last) => Ok(Arc::clone(&last.table)),
        None => fitting(beside, table, task.options.limits.table_entries).map(Arc::new),
    }
}

impl HostView {
    fn is_made_of(&self, policies: &NodePolicies) -> bool {
        self.policies.as_ref() == Some(policies)
    }

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
