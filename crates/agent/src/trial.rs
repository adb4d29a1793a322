//! Node policies on trial: what is new must be confirmed within a time, or it is
//! undone. Nobody is locked out for longer by a policy that shuts him out.
//!
//! Is told what the cluster says and what time it is. The kernel ends a
//! trial by itself; this says what is planned before and after. Whether a version
//! is the same is asked of its meaning, never of its text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{Labels, PolicyName};
use policy::{Policy, Subject, World};
use source::Snapshot;

mod file;

pub use file::{TrialError, load, save};

/// One version of a policy.
#[derive(Clone, Debug)]
pub struct Version {
    /// The document it was read from.
    pub text: Arc<str>,
    /// What it means.
    pub policy: Policy,
}

/// A version on trial.
#[derive(Clone, Debug)]
struct Trial {
    version: Version,
    /// Seconds of `CLOCK_MONOTONIC`.
    until: u32,
}

/// Where a policy of this node stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// In force for good.
    Confirmed,
    /// In force until this second of `CLOCK_MONOTONIC`.
    OnTrial {
        /// The end.
        until: u32,
    },
    /// Not confirmed in time.
    Reverted {
        /// Whether an earlier version that was confirmed is in force instead.
        earlier: bool,
    },
}

/// Policies that select the node, and what has been said about them.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    /// Also of policies that are away: whoever comes back unchanged is not asked for.
    confirmed: BTreeMap<PolicyName, Version>,
    /// What the cluster has.
    present: BTreeSet<PolicyName>,
    reverted: BTreeMap<PolicyName, Version>,
    trials: BTreeMap<PolicyName, Trial>,
}

/// What judges the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePolicies {
    /// Now.
    pub in_force: Vec<Policy>,
    /// After the trial.
    pub fallback: Vec<Policy>,
    /// The end of the trial, in seconds of `CLOCK_MONOTONIC`; `None`: there is none.
    pub confirm_by: Option<u32>,
}

/// Policies of a cluster that select a node with these labels.
pub fn of_the_node(snapshot: &Snapshot, labels: &Labels) -> BTreeMap<PolicyName, Version> {
    let selects = |policy: &Policy| {
        let mut rules = policy.rules.iter();
        rules.any(|rule| matches!(rule.subject, Subject::Nodes(_)) && rule.selects(labels))
    };
    let selected = snapshot.policies.iter().filter(|policy| selects(policy));
    let versions = selected.map(|policy| {
        let text = snapshot.node_policies.get(&policy.name).cloned().unwrap_or_default();
        (policy.name.clone(), Version { text, policy: policy.clone() })
    });
    versions.collect()
}

impl Trials {
    /// Takes note of what the cluster says now. What is neither confirmed nor
    /// known as reverted is on trial for `seconds` from `now` on. Whether anything
    /// is new.
    pub fn look(&mut self, present: BTreeMap<PolicyName, Version>, now: u32, seconds: u32) -> bool {
        let names: BTreeSet<PolicyName> = present.keys().cloned().collect();
        let mut changed = self.present != names;
        self.present = names;
        self.reverted.retain(|name, _| present.contains_key(name));
        self.trials.retain(|name, _| present.contains_key(name));
        for (name, version) in present {
            let same =
                |known: Option<&Version>| known.is_some_and(|known| known.policy == version.policy);
            if same(self.trials.get(&name).map(|trial| &trial.version)) {
                continue;
            }
            if !same(self.confirmed.get(&name)) && self.shuts_nobody_out(&name, &version.policy) {
                self.confirmed.insert(name.clone(), version);
                self.trials.remove(&name);
                self.reverted.remove(&name);
                changed = true;
                continue;
            }
            if same(self.confirmed.get(&name)) {
                changed |= self.trials.remove(&name).is_some();
                changed |= self.reverted.remove(&name).is_some();
            } else if same(self.reverted.get(&name)) {
                changed |= self.trials.remove(&name).is_some();
            } else {
                self.reverted.remove(&name);
                let until = now.saturating_add(seconds);
                self.trials.insert(name, Trial { version, until });
                changed = true;
            }
        }
        changed
    }

    /// Whether a policy that is new needs no confirmation: one in shadow mode decides
    /// nothing, and one whose retirement alone is new decides what it did.
    fn shuts_nobody_out(&self, name: &PolicyName, policy: &Policy) -> bool {
        let decides = |policy: &Policy| policy.mode.counts_in(World::Live);
        let as_before = |known: &Version| {
            decides(&known.policy)
                && known.policy == Policy { mode: known.policy.mode, ..policy.clone() }
        };
        !decides(policy) || self.confirmed.get(name).is_some_and(as_before)
    }

    /// What was confirmed, of what the cluster has.
    fn confirmed(&self) -> impl Iterator<Item = (&PolicyName, &Version)> {
        self.confirmed.iter().filter(|(name, _)| self.present.contains(*name))
    }

    /// Ends the trials whose time is over; their names.
    pub fn expire(&mut self, now: u32) -> Vec<PolicyName> {
        let over = self.trials.iter().filter(|(_, trial)| trial.until <= now);
        let over: Vec<PolicyName> = over.map(|(name, _)| name.clone()).collect();
        for name in &over {
            if let Some(trial) = self.trials.remove(name) {
                self.reverted.insert(name.clone(), trial.version);
            }
        }
        over
    }

    /// Makes policies permanent: those that are named, on trial or reverted; without
    /// names all that are on trial. Their names.
    pub fn confirm(&mut self, names: &[String]) -> Vec<PolicyName> {
        let meant = |name: &PolicyName| {
            let full = name.to_string();
            let has = |text: &String| {
                full == *text || full.ends_with(&format!("/{text}")) && !text.is_empty()
            };
            names.iter().any(has)
        };
        let of = |known: Vec<&PolicyName>| -> Vec<PolicyName> {
            let all = known.into_iter().filter(|name| names.is_empty() || meant(name));
            all.cloned().collect()
        };
        let mut confirmed = of(self.trials.keys().collect());
        if !names.is_empty() {
            confirmed.extend(of(self.reverted.keys().collect()));
        }
        for name in &confirmed {
            let trial = self.trials.remove(name).map(|trial| trial.version);
            if let Some(version) = trial.or(self.reverted.remove(name)) {
                self.confirmed.insert(name.clone(), version);
            }
        }
        confirmed.sort();
        confirmed
    }

    /// Every policy of this node, and where it stands.
    pub fn standings(&self) -> BTreeMap<PolicyName, Standing> {
        let confirmed = self.confirmed().map(|(name, _)| (name, Standing::Confirmed));
        let reverted = self.reverted.keys().map(|name| {
            let earlier = self.confirmed.contains_key(name);
            (name, Standing::Reverted { earlier })
        });
        let trials = self.trials.iter();
        let trials = trials.map(|(name, trial)| (name, Standing::OnTrial { until: trial.until }));
        let all = confirmed.chain(reverted).chain(trials);
        all.map(|(name, standing)| (name.clone(), standing)).collect()
    }

    /// What judges the node, now and after the trial.
    pub fn policies(&self) -> NodePolicies {
        let mut in_force: BTreeMap<&PolicyName, &Version> = self.confirmed().collect();
        let fallback = in_force.values().map(|version| version.policy.clone()).collect();
        in_force.extend(self.trials.iter().map(|(name, trial)| (name, &trial.version)));
        NodePolicies {
            in_force: in_force.values().map(|version| version.policy.clone()).collect(),
            fallback,
            confirm_by: self.trials.values().map(|trial| trial.until).min(),
        }
    }
}

/// Seconds of `CLOCK_MONOTONIC`, by which the kernel ends trials.
pub fn monotonic() -> u32 {
    u32::try_from(monotonic_now().as_secs()).unwrap_or(u32::MAX)
}

/// `CLOCK_MONOTONIC`: the same for every process of the host.
pub fn monotonic_now() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests;
