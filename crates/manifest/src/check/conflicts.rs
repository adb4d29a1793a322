//! Rules that contradict each other: each is legal, together nothing passes where
//! they meet.

use std::collections::BTreeSet;

use model::{Label, Labels};
use policy::{Conflict, Rule, Subject, conflicts, resolve};

use crate::check::{Context, find, selectors};
use crate::outcome::Refusal;

/// A refusal for each contradiction, at the last rule that is part of it.
pub(super) fn refusals(context: &Context<'_>) -> Vec<Refusal> {
    let policies = resolve(context.policies, &context.cluster.catalogue);
    let rules = || policies.iter().flat_map(|policy| &policy.rules);
    // Whoever is selected by the narrower of two rules is selected by both; and
    // what selectors do not tell, the pods do that are known.
    let made_up = rules().map(|rule| sample(&rule.subject));
    let known = context.pods.iter().cloned();
    let subjects: BTreeSet<Labels> = made_up.chain(known).collect();
    let found = conflicts(&policies, &subjects);
    found.iter().filter_map(|conflict| refusal(context, conflict, rules())).collect()
}

fn sample(subject: &Subject) -> Labels {
    let mut labels = selectors::sample(subject.selector());
    if let Subject::Nodes(_) = subject {
        labels.insert(Label::reserved("host"));
    }
    labels
}

fn refusal<'r>(
    context: &Context<'_>,
    conflict: &Conflict,
    mut rules: impl DoubleEndedIterator<Item = &'r Rule>,
) -> Option<Refusal> {
    let last = rules.rfind(|rule| conflict.rules.contains(&rule.id))?;
    let document = context.documents.get(&last.id.policy)?;
    let at = find(&document.root, &last.id.path).map_or(document.root.at, |node| node.at);
    let prefix =
        if document.path.is_empty() { String::new() } else { format!("{}.", document.path) };
    let fix = "let them ask for the same, or name other peers or ports".to_owned();
    Some(Refusal {
        file: document.file.clone(),
        at,
        field: prefix + &last.id.path,
        reason: conflict.to_string(),
        fix: Some(fix),
    })
}
