//! The loop that makes the kernel enforce what the cluster says.
//!
//! Look, plan, install; what cannot be installed leaves the last good plan in
//! force, is said in the status, and is tried again. Runs on a thread of its own
//! and is the only one that writes the kernel's maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datapath::{
    Applied, ApplyError, Counters, Desired, Fault, Fill, InForce, MapError, UplinkState,
};
use model::{EndpointRecord, LabelFilter};
use source::{Changes, Directory, Snapshot};

use crate::accepted::Memory;
use crate::catalogue::{Catalogue, Journal};
use crate::chain::chain;
use crate::config::AgentConfig;
use crate::control::node::OwnNode;
use crate::events;
use crate::flow::{Names, Steps};
use crate::health::HealthView;
use crate::peers::Announcement;
use crate::planner::{Inputs, LastGood, Plan, PlanOptions, plan};
use crate::state::{ControlView, NodeState};
use crate::trial;
use crate::uplinks::Devices;

mod node;

/// The bound on staleness when no change is signalled.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often connections that ended are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// How often the kernel's counters are read.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The longest the loop sleeps: how long a stop may take.
const WAIT: Duration = Duration::from_millis(200);

/// Between two tries to install the same plan.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// The kernel, as the loop uses it.
pub trait Kernel {
    /// Installs a desired state whole, or not at all.
    fn apply(&mut self, desired: &Desired) -> Result<Applied, ApplyError>;
    /// Removes connections that ended.
    fn expire_connections(&mut self) -> Result<u32, MapError>;
    /// Judges packets of the node itself on these devices and no others.
    fn guard_uplinks(&mut self, uplinks: &BTreeMap<u32, String>) -> Vec<UplinkState>;
    /// The kernel's counts.
    fn counters(&self) -> Result<Counters, MapError>;
    /// The revision in force.
    fn revision(&self) -> u32;
    /// What an earlier agent left in force.
    fn in_force(&self) -> InForce;
    /// What is not as it was installed; puts it right where it can.
    fn check(&mut self, desired: Option<&Desired>) -> Vec<Fault>;
    /// Whether the last check saw what only the next can be sure of.
    fn is_unsure(&self) -> bool;
    /// How full the maps are.
    fn fill(&self) -> Result<Vec<Fill>, MapError>;
    /// Bytes that the maps take.
    fn memory(&self) -> u64;
}

impl Kernel for datapath::Datapath {
    fn apply(&mut self, desired: &Desired) -> Result<Applied, ApplyError> {
        Self::apply(self, desired)
    }

    fn expire_connections(&mut self) -> Result<u32, MapError> {
        Self::expire_connections(self)
    }

    fn guard_uplinks(&mut self, uplinks: &BTreeMap<u32, String>) -> Vec<UplinkState> {
        Self::guard_uplinks(self, uplinks)
    }

    fn counters(&self) -> Result<Counters, MapError> {
        Self::counters(self)
    }

    fn revision(&self) -> u32 {
        Self::revision(self)
    }

    fn in_force(&self) -> InForce {
        Self::in_force(self)
    }

    fn check(&mut self, desired: Option<&Desired>) -> Vec<Fault> {
        Self::check(self, desired)
    }

    fn is_unsure(&self) -> bool {
        Self::is_unsure(self)
    }

    fn fill(&self) -> Result<Vec<Fill>, MapError> {
        Self::fill(self)
    }

    fn memory(&self) -> u64 {
        Self::memory(self)
    }
}

mod health;
mod setbacks;

/// Something that is due from time to time.
#[derive(Clone, Copy, Debug)]
struct Timer {
    every: Duration,
    due: Instant,
}

impl Timer {
    fn new(every: Duration, now: Instant) -> Self {
        Self { every, due: now }
    }

    /// Whether it is due; if so, the next time is set.
    fn fires(&mut self, now: Instant) -> bool {
        let fires = now >= self.due;
        if fires {
            self.due = now + self.every;
        }
        fires
    }
}

/// What was read last.
#[derive(Default)]
struct Seen {
    snapshot: Option<Arc<Snapshot>>,
    records: Vec<EndpointRecord>,
    host_addresses: BTreeSet<IpAddr>,
    /// When that look began, in nanoseconds of `CLOCK_MONOTONIC`.
    look_ns: u64,
}

/// The control loop of a node.
pub struct Control<K> {
    kernel: K,
    state: Arc<NodeState>,
    options: PlanOptions,
    directory: Directory,
    memory: Memory,
    endpoints_dir: PathBuf,
    announcement: Announcement,
    catalogue: Catalogue,
    journal: Journal,
    seen: Seen,
    node: OwnNode,
    view: ControlView,
    /// What to go on with where nothing better can be made.
    last_good: LastGood,
    health: HealthView,
    clock: Steps,
    /// Whether plans were made since memory was given back.
    untrimmed: bool,
    /// When the newest plan is tried again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    /// Problems of the newest plan that were logged already.
    logged: BTreeSet<String>,
}

impl<K: Kernel> Control<K> {
    /// A loop that has not looked yet. A catalogue that cannot be read is left
    /// behind: old records then show no rule names.
    pub fn new(kernel: K, config: &AgentConfig, state: Arc<NodeState>) -> Self {
        let (journal, catalogue, error) = Journal::open(config.state_dir.join("rules.json"));
        if let Some(error) = error {
            tracing::warn!(error = chain(&error), "the rule catalogue starts empty");
        }
        let (node, unknown) = OwnNode::recall(config);
        let mut view = ControlView {
            standings: node.standings(),
            confirm_seconds: config.host_policy_confirm_seconds,
            ..ControlView::default()
        };
        view.enforced.inherit(kernel.revision());
        let last_good = LastGood::of_kernel(kernel.in_force(), |id| catalogue.get(id).cloned());
        let mut directory = Directory::new(&config.cluster_dir);
        let (memory, forgotten) = Memory::recall(config.accepted_dir(), &mut directory);
        let mut control = Self {
            kernel,
            state,
            options: PlanOptions {
                node: config.node.clone(),
                policy: config.policy.clone(),
                filter: LabelFilter::default(),
                limits: config.datapath.limits,
            },
            directory,
            memory,
            endpoints_dir: config.endpoints_dir(),
            announcement: Announcement::of(config),
            catalogue,
            journal,
            seen: Seen::default(),
            node,
            view,
            last_good,
            health: HealthView::default(),
            clock: Steps::new(),
            untrimmed: false,
            retry: None,
            logged: BTreeSet::new(),
        };
        control.state.set_control(control.view.clone());
        control.state.peers().set(control.announcement.peers(&BTreeMap::new()));
        for error in forgotten {
            control.fail(chain(&error));
        }
        if let Some(error) = unknown {
            control.fail(chain(&error));
        }
        control
    }

    /// Looks and enforces once, whatever was signalled.
    pub fn start(&mut self) {
        self.look();
        self.end_trials();
        self.enforce(Instant::now());
        self.state.set_considered(self.seen.look_ns);
    }

    /// Runs until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        let mut changes = Changes::of(&[self.directory.path(), self.endpoints_dir.as_path()]);
        let now = Instant::now();
        let mut look = Timer::new(LOOK_EVERY, now);
        let mut expire = Timer::new(EXPIRE_EVERY, now);
        let mut count = Timer::new(COUNT_EVERY, now);
        let mut check = Timer::new(health::CHECK_EVERY, now);
        while !stop.load(Ordering::Relaxed) {
            let signalled = changes.wait(self.wait_at_most()).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot wait for changes");
                std::thread::sleep(WAIT);
                true
            });
            let now = Instant::now();
            let mut changed = (signalled || look.fires(now)) && self.look();
            changed |= self.end_trials();
            let wishes = self.state.confirmations();
            if !wishes.is_empty() {
                self.confirm(wishes, now);
            } else if changed || self.retry.is_some_and(|(due, _)| now >= due) {
                self.enforce(now);
            }
            self.state.set_considered(self.seen.look_ns);
            if expire.fires(now)
                && let Err(error) = self.kernel.expire_connections()
            {
                self.fail(chain(&error));
            }
            if count.fires(now) {
                self.count();
                self.look_at_the_clock();
            }
            if check.fires(now) {
                check.due = now + self.check();
            }
        }
    }

    fn wait_at_most(&self) -> Duration {
        let retry = self.retry.map(|(due, _)| due.saturating_duration_since(Instant::now()));
        retry.unwrap_or(WAIT).min(WAIT)
    }

    /// Reads what plans are made from; whether anything is new. What cannot be
    /// read stays as it was read last.
    fn look(&mut self) -> bool {
        let mut changed = false;
        let begun = trial::monotonic_now();
        let scanned = self.directory.scan();
        if scanned.is_ok() {
            self.health.source_read = Some(Instant::now());
            self.seen.look_ns = u64::try_from(begun.as_nanos()).unwrap_or(u64::MAX);
        }
        match scanned {
            Ok(Some(snapshot)) => {
                self.state.peers().set(self.announcement.peers(&snapshot.nodes));
                self.seen.snapshot = Some(snapshot);
                changed = true;
            }
            Ok(None) => {}
            Err(error) => self.fail(chain(&error)),
        }
        self.remember(changed);
        match cni::record::list(&self.endpoints_dir) {
            Ok(listing) => {
                for refused in &listing.refused {
                    self.report(chain(refused));
                }
                changed |= self.seen.records != listing.records;
                self.seen.records = listing.records;
            }
            Err(error) => self.fail(chain(&error)),
        }
        match Devices::list() {
            Ok(devices) => {
                let addresses = devices.addresses();
                changed |= self.seen.host_addresses != addresses;
                self.seen.host_addresses = addresses;
                self.guard(&devices);
            }
            Err(error) => self.fail(format!("cannot list the node's addresses: {error}")),
        }
        changed | self.look_at_trials()
    }

    /// Writes down what the cluster says before it is enforced: whatever is refused
    /// later, after a restart too, has this as its last good version.
    fn remember(&mut self, changed: bool) {
        let is_due = changed || self.memory.is_behind();
        if is_due
            && self.seen.snapshot.is_some()
            && let Err(error) = self.memory.keep(&self.directory.accepted())
        {
            self.report(chain(&error));
        }
    }

    /// Plans, and installs the plan. Nothing is installed before the cluster was
    /// seen once: what an earlier agent left is better than a guess.
    fn enforce(&mut self, now: Instant) {
        let Some(snapshot) = self.seen.snapshot.clone() else { return };
        let inputs = Inputs {
            snapshot,
            records: self.seen.records.clone(),
            host_addresses: self.seen.host_addresses.clone(),
            installed: self.memory.installed().clone(),
            node_policies: self.node.policies(),
        };
        let before = self.view.newest.clone();
        let plan = Arc::new(plan(&inputs, &self.options, before.as_deref(), &self.last_good));
        self.log_problems(&plan);
        self.tell_setbacks(before.as_deref(), &plan);
        // Names first: the first packet may be judged before `apply` returns.
        self.publish_names(&plan);
        match self.install(&plan) {
            Ok(applied) => {
                let Applied { revision, written } = applied;
                tracing::info!(
                    revision,
                    written,
                    endpoints = plan.desired.endpoints.len(),
                    tables = plan.desired.tables.len(),
                    "policy in force"
                );
                let events = events::between(self.view.enforced.plan().map(Arc::as_ref), &plan);
                events.into_iter().for_each(|event| self.state.note(event.at(revision)));
                self.view.enforced.advance(Arc::clone(&plan), revision, api::time::now_ns());
                self.last_good = LastGood::of_plan(&plan, &self.last_good);
                self.view.pending = None;
                self.retry = None;
                if let Err(error) = self.memory.note_installed(plan.installed()) {
                    self.report(chain(&error));
                }
            }
            Err(reason) => {
                let pause = self.retry.map_or(RETRY_FIRST, |(_, pause)| pause * 2);
                let pause = pause.min(RETRY_MOST);
                self.retry = Some((now + pause, pause));
                // A plan that is tried again and fails in the same way is no news.
                if self.view.pending.as_ref() != Some(&reason) {
                    let changed =
                        events::refused(self.view.enforced.plan().map(Arc::as_ref), &plan, &reason);
                    changed.into_iter().for_each(|event| self.state.note(event));
                    self.state.note(events::other("refused", reason.clone()));
                    self.health.refusals += 1;
                }
                self.view.pending = Some(reason.clone());
                self.fail(reason);
            }
        }
        self.view.newest = Some(plan);
        self.untrimmed = true;
        self.state.set_control(self.view.clone());
    }

    fn publish_names(&mut self, plan: &Arc<Plan>) {
        let sets = plan.desired.tables.values().flat_map(|table| table.rule_sets());
        let new = self.catalogue.update(sets);
        if !new.is_empty()
            && let Err(error) = self.journal.save(&self.catalogue, &new)
        {
            self.fail(chain(&error));
        }
        let mut plans = vec![Arc::clone(plan)];
        plans.extend(self.view.enforced.plan().cloned());
        plans.extend(self.view.newest.clone());
        self.state.set_names(Names::new(plans, Arc::new(self.catalogue.clone())));
    }

    fn log_problems(&mut self, plan: &Plan) {
        let mut present = BTreeSet::new();
        for endpoint in &plan.endpoints {
            if let Some(reason) = &endpoint.left_out {
                present.insert(format!("{} drops everything: {reason}", endpoint.record.pod));
            }
        }
        for refused in &plan.snapshot.refused {
            present.extend(refused.refusals.iter().map(ToString::to_string));
        }
        present.extend(plan.unprotected.iter().chain(&plan.problems).cloned());
        present.extend(plan.setbacks.iter().map(ToString::to_string).chain(plan.misfit.clone()));
        for problem in present.difference(&self.logged) {
            tracing::warn!(problem, "the plan has a problem");
        }
        if let Some(problem) = plan.unprotected.iter().find(|one| !self.logged.contains(*one)) {
            self.view.last_error = Some((problem.clone(), api::time::now_ns()));
        }
        self.logged = present;
    }

    fn count(&mut self) {
        let read = Instant::now();
        match self.kernel.counters() {
            Ok(counters) => self.state.set_counters(read, counters),
            Err(error) => self.report(chain(&error)),
        }
    }

    /// Tells what happened without being anybody's error here.
    pub fn tell(&mut self, kind: &str, text: String) {
        tracing::warn!(text, "told");
        self.state.note(events::other(kind, text.clone()));
        self.view.last_error = Some((text, api::time::now_ns()));
        self.state.set_control(self.view.clone());
    }

    /// Logs an error and shows it in the status.
    fn fail(&mut self, error: String) {
        tracing::error!(error, "enforcement is behind");
        self.health.errors += 1;
        self.state.note(events::other("error", error.clone()));
        self.state.set_health(self.health.clone());
        self.view.last_error = Some((error, api::time::now_ns()));
        self.state.set_control(self.view.clone());
    }

    /// As [`Self::fail`], but what is repeated at every look is logged once.
    fn report(&mut self, problem: String) {
        if self.view.last_error.as_ref().is_none_or(|(last, _)| *last != problem) {
            self.fail(problem);
        }
    }
}

#[cfg(test)]
mod tests;
