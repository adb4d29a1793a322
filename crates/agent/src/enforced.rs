//! Since when, and by which revision, each policy and table has been in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::PolicyName;
use policy::Table;

use crate::planner::Plan;

/// When something came into force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Since {
    /// By which revision.
    pub revision: u32,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct Enforced {
    plan: Option<Arc<Plan>>,
    revision: u32,
    /// `None`: somebody whom its present form is about is not judged by it.
    policies: BTreeMap<PolicyName, Option<Since>>,
    tables: BTreeMap<u32, Since>,
}

impl Enforced {
    /// The plan in force; `None`: this agent has enforced none yet.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// The revision in force.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// What was in force before this agent.
    pub fn inherit(&mut self, revision: u32) {
        self.revision = revision;
    }

    /// Since when the present form of a policy has been in force.
    pub fn policy(&self, name: &PolicyName) -> Option<Since> {
        self.policies.get(name).copied().flatten()
    }

    /// Since when the present content of a table has been in force.
    pub fn table(&self, number: u32) -> Option<Since> {
        self.tables.get(&number).copied()
    }

    /// Whether an endpoint is installed.
    pub fn has_endpoint(&self, id: u32) -> bool {
        let installed = self.plan.iter().flat_map(|plan| plan.desired.endpoints.values());
        installed.into_iter().any(|endpoint| endpoint.id == id)
    }

    /// Notes that a plan came into force.
    pub fn advance(&mut self, plan: Arc<Plan>, revision: u32, time_ns: u64) {
        let now = Since { revision, time_ns };
        let before = self.plan.take();
        let policy_before = |name: &PolicyName| {
            let policies = &before.as_ref()?.snapshot.policies;
            let index = policies.binary_search_by(|policy| policy.name.cmp(name)).ok()?;
            policies.get(index)
        };
        let policies = plan.snapshot.policies.iter().map(|policy| {
            let unchanged = policy_before(&policy.name) == Some(policy);
            let since = self.policy(&policy.name).filter(|_| unchanged);
            // What was in force before a setback still is.
            let new = plan.enforces(policy).then_some(now);
            (policy.name.clone(), since.or(new))
        });
        let policies = policies.collect();
        let table_before = |number: &u32| before.as_ref()?.desired.tables.get(number);
        let same = |a: &Arc<Table>, b: &Arc<Table>| Arc::ptr_eq(a, b) || a == b;
        let tables = plan.desired.tables.iter().map(|(number, table)| {
            let unchanged = table_before(number).is_some_and(|before| same(before, table));
            let since = self.tables.get(number).copied().filter(|_| unchanged);
            (*number, since.unwrap_or(now))
        });
        let tables = tables.collect();
        *self = Self { plan: Some(plan), revision, policies, tables };
    }
}
