//! What the agent's threads tell each other and the API.
//!
//! Each part has one writer. Nothing here waits: a reader takes the last value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use api::events::AgentEvents;
use api::peer::Peers;
use api::proto::flow::AgentEvent;
use datapath::{Counters, ServiceCounters, Sweeps, UplinkState};
use model::PolicyName;
use tokio::sync::oneshot;

use crate::enforced::Enforced;
use crate::flow::Names;
use crate::health::HealthView;
use crate::ledger::Totals;
use crate::planner::{Plan, Setback};
use crate::trial::Standing;

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the node.
    pub node: String,
    /// Name of the cluster.
    pub cluster: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// What the kernel lets the datapath do.
    pub features: datapath::Features,
    /// When the agent started.
    pub started: Instant,
}

/// Where enforcement stands.
#[derive(Clone, Debug, Default)]
pub struct ControlView {
    /// The newest plan.
    pub newest: Option<Arc<Plan>>,
    /// What is in force.
    pub enforced: Enforced,
    /// Why the newest plan is not in force, if it is not.
    pub pending: Option<String>,
    /// The last thing that went wrong, and when (nanoseconds since the epoch).
    pub last_error: Option<(String, u64)>,
    /// Of whom the newest plan's policies are not in force, and since when that is known
    /// (nanoseconds since the epoch).
    pub setbacks: Vec<(Setback, u64)>,
    /// Policies that select the node itself, and where each stands.
    pub standings: BTreeMap<PolicyName, Standing>,
    /// How long a trial of them is, in seconds.
    pub confirm_seconds: u32,
    /// Devices on which the node itself is judged.
    pub uplinks: Vec<UplinkState>,
}

/// A wish to make node policies permanent.
#[derive(Debug)]
pub struct Confirmation {
    /// Which; none: all that are on trial.
    pub names: Vec<String>,
    /// Whom to tell what was confirmed, or why it was not, or is not in force.
    pub reply: oneshot::Sender<Result<Vec<PolicyName>, String>>,
}

/// Where the reading of records stands.
#[derive(Clone, Debug, Default)]
pub struct RecordsView {
    /// Accounts of the allowed connections.
    pub traces: Totals,
    /// Accounts of the dropped packets.
    pub drops: Totals,
    /// Flows made.
    pub flows: u64,
    /// Records that could not be read: written by another version.
    pub undecodable: u64,
}

/// The state of a node's agent.
#[derive(Debug)]
pub struct NodeState {
    /// What does not change.
    pub facts: Facts,
    control: RwLock<Arc<ControlView>>,
    names: RwLock<Arc<Names>>,
    records: Mutex<RecordsView>,
    counters: Mutex<Option<(Instant, Arc<Counters>)>>,
    health: Mutex<HealthView>,
    agent_events: Arc<AgentEvents>,
    peers: Peers,
    confirmations: Mutex<Vec<Confirmation>>,
    considered_ns: AtomicU64,
}

/// A poisoned lock means that a thread died between two assignments of whole
/// values: what is there is one of them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeState {
    /// The state of an agent that has done nothing yet.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            control: RwLock::default(),
            names: RwLock::default(),
            records: Mutex::default(),
            counters: Mutex::default(),
            health: Mutex::default(),
            agent_events: Arc::default(),
            peers: Peers::default(),
            confirmations: Mutex::default(),
            considered_ns: AtomicU64::new(0),
        }
    }

    /// When the look began after which all that it found was put in force or refused,
    /// in nanoseconds of `CLOCK_MONOTONIC`; 0: none did.
    pub fn considered_ns(&self) -> u64 {
        self.considered_ns.load(Ordering::Acquire)
    }

    /// For the control thread only.
    pub fn set_considered(&self, look_ns: u64) {
        self.considered_ns.store(look_ns, Ordering::Release);
    }

    /// What this agent did, for who asks.
    pub fn agent_events(&self) -> &Arc<AgentEvents> {
        &self.agent_events
    }

    /// Which nodes serve flows, as far as this one knows.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Notes something that the agent does now.
    pub fn note(&self, event: AgentEvent) {
        let node = api::flow::node_name(&self.facts.cluster, &self.facts.node);
        self.agent_events.push(&node, api::time::now_ns(), event);
    }

    /// Wishes that are granted at the control thread's next turn.
    pub fn confirm(&self, wish: Confirmation) {
        lock(&self.confirmations).push(wish);
    }

    /// For the control thread only.
    pub fn confirmations(&self) -> Vec<Confirmation> {
        std::mem::take(&mut *lock(&self.confirmations))
    }

    /// Where enforcement stands.
    pub fn control(&self) -> Arc<ControlView> {
        Arc::clone(&self.control.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the control thread only.
    pub fn set_control(&self, view: ControlView) {
        *self.control.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// What numbers in records mean.
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the control thread only.
    pub fn set_names(&self, names: Names) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    /// Where the reading of records stands.
    pub fn records(&self) -> RecordsView {
        lock(&self.records).clone()
    }

    /// For the record thread only.
    pub fn set_records(&self, view: RecordsView) {
        *lock(&self.records) = view;
    }

    /// What is amiss, and how much of everything is used.
    pub fn health(&self) -> HealthView {
        lock(&self.health).clone()
    }

    /// For the control thread only.
    pub fn set_health(&self, view: HealthView) {
        *lock(&self.health) = view;
    }

    /// The kernel's counters, and when they were read.
    pub fn counters(&self) -> Option<(Instant, Arc<Counters>)> {
        lock(&self.counters).clone()
    }

    /// For the control thread only.
    pub fn set_counters(&self, read: Instant, counters: Counters) {
        *lock(&self.counters) = Some((read, Arc::new(counters)));
    }

    /// Packets dropped by reason.
    pub fn drops(&self) -> BTreeMap<u8, u64> {
        self.counters().map(|(_, counters)| counters.dropped_by_reason.clone()).unwrap_or_default()
    }

    /// Records by what is known of their process.
    pub fn attributed(&self) -> BTreeMap<Option<&'static str>, u64> {
        self.counters().map(|(_, counters)| counters.attributed.clone()).unwrap_or_default()
    }

    /// Drops of endpoints that are here of which no record tells.
    pub fn suppressed(&self) -> u64 {
        self.counters().map_or(0, |(_, counters)| counters.suppressed)
    }

    /// What the kernel freed on its own while no agent did.
    pub fn sweeps(&self) -> Sweeps {
        self.counters().map(|(_, counters)| counters.sweeps).unwrap_or_default()
    }

    /// What became of attempts to reach services, as read last.
    pub fn services(&self) -> ServiceCounters {
        self.counters().map(|(_, counters)| counters.services).unwrap_or_default()
    }
}
