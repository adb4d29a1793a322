//! Telling of policies that are accepted and not in force.

use datapath::Applied;

use super::{Control, Kernel};
use crate::chain::chain;
use crate::events;
use crate::planner::{Outcome, Plan, Setback};

impl<K: Kernel> Control<K> {
    /// Installs a plan whole, or not at all. While another version's state judges, a
    /// plan that leaves somebody without a right is not worth taking over for: that
    /// version knows the last one.
    pub(super) fn install(&mut self, plan: &Plan) -> Result<Applied, String> {
        let lost = |setback: &&Setback| setback.outcome != Outcome::LastGoodStays;
        match plan.setbacks.iter().find(lost).filter(|_| self.last_good.is_foreign()) {
            Some(setback) => {
                Err(format!("{setback}; another version's policy stays in force meanwhile"))
            }
            None => self.kernel.apply(&plan.desired).map_err(|error| chain(&error)),
        }
    }

    /// Says whose policies are not in force: those that are news are counted, and are
    /// events; all of them are in the status until they are in force.
    pub(super) fn tell_setbacks(&mut self, before: Option<&Plan>, plan: &Plan) {
        let known = before.map_or(&[][..], |before| &before.setbacks);
        let now_ns = api::time::now_ns();
        for setback in plan.setbacks.iter().filter(|setback| !known.contains(setback)) {
            let text = setback.to_string();
            events::setback(plan, setback).into_iter().for_each(|event| self.state.note(event));
            self.state.note(events::other("refused", text.clone()));
            self.health.refusals += 1;
            self.view.last_error = Some((text, now_ns));
        }
        let known = before.and_then(|before| before.misfit.as_ref());
        if let Some(text) = plan.misfit.as_ref().filter(|text| Some(*text) != known) {
            self.state.note(events::other("refused", text.clone()));
            self.health.refusals += 1;
            self.view.last_error = Some((text.clone(), now_ns));
        }
        let since = |setback: &Setback| {
            let earlier = self.view.setbacks.iter().find(|(known, _)| known == setback);
            earlier.map_or(now_ns, |(_, since_ns)| *since_ns)
        };
        let setbacks = plan.setbacks.iter().map(|setback| (setback.clone(), since(setback)));
        self.view.setbacks = setbacks.collect();
        self.state.set_health(self.health.clone());
    }

    /// Why the node's own policies are not in force, if they are not.
    pub(super) fn setback_of_the_node(&self) -> Option<String> {
        let found = self.view.setbacks.iter().find(|(setback, _)| setback.of_the_node);
        found.map(|(setback, _)| setback.to_string())
    }
}

#[cfg(test)]
mod tests;
