//! The node itself in the control loop: its uplinks, and its policies on trial.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use datapath::UplinkState;
use model::PolicyName;

use super::{Control, Kernel};
use crate::chain::chain;
use crate::config::AgentConfig;
use crate::planner::subject_labels;
use crate::state::Confirmation;
use crate::trial::{self, NodePolicies, Standing, Trials, monotonic};
use crate::uplinks::Devices;

/// What is kept about the node itself.
pub(super) struct OwnNode {
    /// Devices on which it is judged; none: those that look like uplinks.
    devices: Vec<String>,
    trials: Trials,
    trials_path: PathBuf,
    /// How long a trial is.
    confirm_seconds: u32,
    /// Whose clock trials are measured by.
    boot: String,
}

impl OwnNode {
    /// What an earlier agent left is recalled; if that fails, everything is new.
    pub(super) fn recall(config: &AgentConfig) -> (Self, Option<trial::TrialError>) {
        let trials_path = config.trials_path();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (trials, error) = match trial::load(&trials_path, boot.trim()) {
            Ok(trials) => (trials, None),
            Err(error) => (Trials::default(), Some(error)),
        };
        let node = Self {
            devices: config.host_devices.clone(),
            trials,
            trials_path,
            confirm_seconds: config.host_policy_confirm_seconds,
            boot: boot.trim().to_owned(),
        };
        (node, error)
    }

    /// Where each of its policies stands.
    pub(super) fn standings(&self) -> BTreeMap<PolicyName, Standing> {
        self.trials.standings()
    }

    /// What judges it.
    pub(super) fn policies(&self) -> NodePolicies {
        self.trials.policies()
    }
}

impl<K: Kernel> Control<K> {
    /// Puts the programs on the node's uplinks.
    pub(super) fn guard(&mut self, devices: &Devices) {
        let pods = self.seen.records.iter().map(|record| record.ifindex).collect();
        let uplinks = devices.uplinks(&self.node.devices, &pods);
        let mut states = self.kernel.guard_uplinks(&uplinks.guarded);
        states.extend(uplinks.refused.into_iter().map(|(interface, reason)| UplinkState {
            interface,
            ifindex: 0,
            missing: Some(reason),
        }));
        if self.view.uplinks == states {
            return;
        }
        for state in &states {
            let UplinkState { interface, missing, .. } = state;
            match missing {
                None => tracing::info!(interface, "uplink"),
                Some(reason) => tracing::warn!(interface, reason, "uplink is not guarded"),
            }
        }
        self.view.uplinks = states;
        self.state.set_control(self.view.clone());
    }

    /// Puts what is new about the node on trial; whether anything is.
    pub(super) fn look_at_trials(&mut self) -> bool {
        let Some(snapshot) = &self.seen.snapshot else { return false };
        let present = trial::of_the_node(snapshot, &subject_labels(snapshot, &self.options));
        // The second that has begun does not count.
        let now = monotonic().saturating_add(1);
        let changed = self.node.trials.look(present, now, self.node.confirm_seconds);
        if changed {
            self.keep_trials();
        }
        changed
    }

    /// Takes note of what the kernel has undone by now; whether it has.
    pub(super) fn end_trials(&mut self) -> bool {
        let over = self.node.trials.expire(monotonic());
        for name in &over {
            let seconds = self.node.confirm_seconds;
            tracing::warn!(policy = %name, seconds, "node policy reverted: not confirmed in time");
        }
        if !over.is_empty() {
            self.keep_trials();
        }
        !over.is_empty()
    }

    /// Makes permanent what is wished, and tells so when it is in force. What nobody
    /// could try cannot be confirmed.
    pub(super) fn confirm(&mut self, wishes: Vec<Confirmation>, now: Instant) {
        if let Some(setback) = self.setback_of_the_node() {
            for Confirmation { reply, .. } in wishes {
                let _ = reply.send(Err(format!("nothing is confirmed: {setback}")));
            }
            return self.enforce(now);
        }
        let granted: Vec<_> = wishes
            .into_iter()
            .map(|Confirmation { names, reply }| (self.node.trials.confirm(&names), reply))
            .collect();
        self.keep_trials();
        self.enforce(now);
        for (names, reply) in granted {
            for name in &names {
                tracing::info!(policy = %name, "node policy confirmed");
            }
            let pending = self.view.pending.clone().or_else(|| self.setback_of_the_node());
            let in_force = match pending {
                None => Ok(names),
                Some(pending) => Err(format!("confirmed, but not in force yet: {pending}")),
            };
            // Who asked may have gone away meanwhile.
            let _ = reply.send(in_force);
        }
    }

    /// Before anything of it is in force: a restart must not begin a trial anew.
    fn keep_trials(&mut self) {
        self.view.standings = self.node.trials.standings();
        let OwnNode { trials, trials_path, boot, .. } = &self.node;
        if let Err(error) = trial::save(trials_path, trials, boot) {
            self.fail(chain(&error));
        }
    }
}
