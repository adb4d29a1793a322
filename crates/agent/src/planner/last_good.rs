//! What is in force, to go on with where nothing better can be made: what the plan that
//! came into force last put there or, for an agent that has just started, what the
//! kernel holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::{Frontend, InForce, Trial};
use model::{RuleSet, RuleSetId};
use policy::Table;

use super::tables::Subject;
use super::{HOST_TABLE, Plan};

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    tables: BTreeMap<u32, GoodTable>,
    /// The table of each endpoint, by the endpoint's number.
    endpoints: BTreeMap<u32, u32>,
    /// The node's trial, if a table judges it.
    host: Option<Option<Trial>>,
    /// Ports of services, and services' own addresses.
    frontends: BTreeSet<Frontend>,
    addresses: BTreeSet<IpAddr>,
    /// Another version's state judges, which this one cannot read.
    foreign: bool,
}

/// A table in force.
#[derive(Clone, Debug)]
pub(super) struct GoodTable {
    pub table: Arc<Table>,
    /// How many entries the kernel has room for where it is.
    pub room: u32,
    /// Whom it judges; `None`: whoever it is that it judges in the kernel.
    subject: Option<Subject>,
}

/// How the node itself is judged.
pub(super) struct GoodHost {
    pub table: Arc<Table>,
    /// What judges after the trial, and when that is over.
    pub fallback: Option<(Arc<Table>, u32)>,
}

impl LastGood {
    /// What an earlier agent left; `names` knows its sets of rules.
    pub fn of_kernel(in_force: InForce, names: impl Fn(RuleSetId) -> Option<RuleSet>) -> Self {
        let InForce { tables, endpoints, host, frontends, addresses, foreign } = in_force;
        let tables = tables.into_iter().map(|(number, found)| {
            let table = Arc::new(Table::of_places(found.places, &names));
            (number, GoodTable { table, room: found.room, subject: None })
        });
        let tables = tables.collect();
        let host = host.map(|subject| subject.trial);
        Self { tables, endpoints, host, frontends, addresses, foreign }
    }

    /// What a plan that has come into force put there. Tables that were there before
    /// it have the room that they had.
    pub fn of_plan(plan: &Plan, before: &Self) -> Self {
        let tables = plan.desired.tables.iter().map(|(number, table)| {
            let room = before.room(*number).unwrap_or(plan.options.limits.table_entries);
            let subject = plan.tables.get(number).map(|planned| planned.subject.clone());
            (*number, GoodTable { table: Arc::clone(table), room, subject })
        });
        let endpoints = plan.desired.endpoints.values().map(|it| (it.id, it.table));
        Self {
            tables: tables.collect(),
            endpoints: endpoints.collect(),
            host: plan.desired.host.subject.map(|subject| subject.trial),
            frontends: plan.desired.services.frontends.keys().copied().collect(),
            addresses: plan.desired.services.addresses.clone(),
            foreign: false,
        }
    }

    /// Whether an endpoint is in force.
    pub(super) fn has_endpoint(&self, id: u32) -> bool {
        self.endpoints.contains_key(&id)
    }

    /// Whether an address is known as a service's, or one of its ports is.
    pub(super) fn has_service(&self, address: IpAddr, port: Option<Frontend>) -> bool {
        match port {
            None => self.addresses.contains(&address),
            Some(frontend) => self.frontends.contains(&frontend),
        }
    }

    /// Whether something is in force that nothing is known of.
    pub fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The table with a number, whomever it judges: a change needs room beside it.
    pub(super) fn table(&self, number: u32) -> Option<&GoodTable> {
        self.tables.get(&number)
    }

    fn room(&self, number: u32) -> Option<u32> {
        self.table(number).map(|table| table.room)
    }

    /// The table of a subject, which has this number and these endpoints.
    pub(super) fn of_subject(
        &self,
        number: u32,
        subject: &Subject,
        endpoints: impl IntoIterator<Item = u32>,
    ) -> Option<&GoodTable> {
        let judges = |id: u32| self.endpoints.get(&id) == Some(&number);
        self.table(number).filter(|good| match &good.subject {
            Some(known) => known == subject,
            None => endpoints.into_iter().any(judges),
        })
    }

    /// How the node itself is judged; `None`: by nobody.
    pub(super) fn of_the_node(&self) -> Option<GoodHost> {
        let trial = self.host?;
        let table = |number| Some(Arc::clone(&self.table(number)?.table));
        let fallback = match trial {
            None => None,
            Some(Trial { fallback, confirm_by }) => Some((table(fallback)?, confirm_by)),
        };
        Some(GoodHost { table: table(HOST_TABLE)?, fallback })
    }
}
