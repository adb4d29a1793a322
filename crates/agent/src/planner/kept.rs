//! What of an earlier plan holds for the next one: whatever follows from inputs that
//! are the same would come out the same, and is not made again.
//!
//! Only ever a shortcut: `the_next_plan_is_the_one_that_would_be_made_first` compares
//! each plan of a random history with one that knows nothing of what was before.

use std::sync::Arc;

use model::{IdentityBook, Labels};
use policy::Policy;

use super::meaning::Meaning;
use super::{Inputs, Plan, PlanOptions};

/// The earlier plan, as far as it still holds.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    /// What labels every pod has.
    pub labels: Option<&'a Plan>,
    /// Who has which identity, and who is behind each address and range.
    pub people: Option<&'a Plan>,
}

impl<'a> Kept<'a> {
    pub fn of(
        before: Option<&'a Plan>,
        inputs: &Inputs,
        options: &PlanOptions,
        meaning: &Meaning,
    ) -> Self {
        let now = &inputs.snapshot;
        let labels = before.filter(|before| {
            let was = &before.snapshot;
            before.options == *options
                && was.pods.is(&now.pods)
                && was.namespaces == now.namespaces
                && before.meaning.references.same_ports(&meaning.references)
        });
        let people = labels.filter(|before| {
            let was = &before.snapshot;
            before.meaning.references == meaning.references
                && before.meaning.host == meaning.host
                && before.inputs.records == inputs.records
                && before.inputs.host_addresses == inputs.host_addresses
                && was.nodes == now.nodes
                && was.apiservers == now.apiservers
        });
        Self { labels, people }
    }
}

/// Tables that hold for the next plan, too.
pub(super) struct Tables<'a> {
    /// The earlier plan, if peers are who they were.
    before: Option<&'a Plan>,
    /// Policies that are not as they were: the earlier and the present versions.
    changed: Vec<&'a Policy>,
}

impl<'a> Tables<'a> {
    pub fn of(
        before: Option<&'a Plan>,
        options: &PlanOptions,
        meaning: &'a Meaning,
        identities: &Arc<IdentityBook>,
    ) -> Self {
        let before = before.filter(|before| {
            before.options == *options && Arc::ptr_eq(&before.identities, identities)
        });
        let changed = before.map(|before| changed(&before.meaning.policies, &meaning.policies));
        Self { before, changed: changed.unwrap_or_default() }
    }

    /// The earlier plan, if its table of this subject would be made again.
    pub fn of_subject(&self, subject: &Labels) -> Option<&'a Plan> {
        let is_about = |policy: &&Policy| policy.rules.iter().any(|rule| rule.selects(subject));
        self.before.filter(|_| !self.changed.iter().any(is_about))
    }
}

/// Both versions of every policy that is not the same in two lists, sorted by name.
fn changed<'a>(was: &'a [Policy], is: &'a [Policy]) -> Vec<&'a Policy> {
    let (mut was, mut is) = (was.iter().peekable(), is.iter().peekable());
    let mut changed = Vec::new();
    loop {
        let order = match (was.peek(), is.peek()) {
            (None, None) => return changed,
            (Some(old), Some(new)) if old == new => {
                was.next();
                is.next();
                continue;
            }
            (Some(old), Some(new)) => old.name.cmp(&new.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
        };
        if order.is_le() {
            changed.extend(was.next());
        }
        if order.is_ge() {
            changed.extend(is.next());
        }
    }
}

#[cfg(test)]
mod tests;
