//! Every policy that was read: whom it selects here, or why it was refused.

use std::collections::{BTreeMap, BTreeSet};

use model::{Labels, PolicyName};
use policy::{Mode, Options, Policy, conflicts, unsupported};
use source::{ObjectName, Refused, Scope, Snapshot};

use super::endpoints::EndpointView;
use super::host::HostView;
use super::refusals::consequence;
use super::setback::Setback;
use crate::numbers::digest;

/// One policy object, seen from this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyView {
    /// Kind, namespace and name; kind `File` for a file that could not be taken apart.
    pub object: ObjectName,
    /// Where it was read.
    pub file: String,
    /// Whether it decides.
    pub mode: Mode,
    /// Whether a version of it counts.
    pub accepted: bool,
    /// What was refused and why; with `accepted`, an earlier or another version
    /// counts instead.
    pub reason: String,
    /// Names of its rules, as flows carry them.
    pub rules: Vec<String>,
    /// `namespace/pod` of the endpoints of this node that it selects, and
    /// `node:NAME` if it selects the node itself.
    pub subjects: Vec<String>,
    /// SHA-256 over the tables of those endpoints; zeros when there are none.
    pub digest: [u8; 32],
}

/// What is accepted but not in force: whose it is, and what is missing.
pub(super) type Shortfall = (PolicyName, String);

/// Where policies ask for more than is enforced, or contradict each other about
/// an endpoint of this node; the table denies it.
pub(super) fn shortfalls(
    policies: &[Policy],
    options: &Options,
    endpoints: &[EndpointView],
) -> Vec<Shortfall> {
    let missing = unsupported(policies, options);
    let mut found: Vec<Shortfall> =
        missing.iter().map(|one| (one.rule.policy.clone(), one.to_string())).collect();
    let subjects: BTreeSet<&Labels> =
        endpoints.iter().filter_map(|endpoint| Some(&endpoint.identity.as_ref()?.1)).collect();
    for conflict in conflicts(policies, subjects) {
        let names: BTreeSet<&PolicyName> = conflict.rules.iter().map(|rule| &rule.policy).collect();
        found.extend(names.into_iter().map(|name| (name.clone(), conflict.to_string())));
    }
    found
}

/// Why policies that are accepted are not in force, or not all of them.
pub(super) struct Amiss<'a> {
    pub shortfalls: &'a [Shortfall],
    pub setbacks: &'a [Setback],
}

impl Amiss<'_> {
    fn reasons(&self, policy: &Policy) -> impl Iterator<Item = String> {
        let setbacks = self.setbacks.iter().filter(|setback| setback.concerns(policy));
        let own = self.shortfalls.iter().filter(|(name, _)| *name == policy.name);
        setbacks.map(ToString::to_string).chain(own.map(|(_, text)| text.clone()))
    }
}

/// Views of all policies, accepted ones first, each group sorted.
pub(super) fn views(
    snapshot: &Snapshot,
    amiss: &Amiss<'_>,
    endpoints: &[EndpointView],
    node: Option<(&str, &HostView)>,
) -> Vec<PolicyView> {
    // By subject, because thousands of policies times hundreds of replicas add up.
    let mut subjects: BTreeMap<&Labels, Vec<&EndpointView>> = BTreeMap::new();
    for endpoint in endpoints {
        if let Some((_, labels)) = &endpoint.identity {
            subjects.entry(labels).or_default().push(endpoint);
        }
    }
    let mut refused: BTreeMap<ObjectName, &Refused> = snapshot
        .refused
        .iter()
        .filter(|refused| refused.scope != Scope::Nobody)
        .map(|refused| (refused.object.clone().unwrap_or_else(|| whole(&refused.file)), refused))
        .collect();
    let kept_by: BTreeMap<&ObjectName, &Refused> = snapshot
        .refused
        .iter()
        .flat_map(|refused| refused.kept.iter().map(move |object| (object, refused)))
        .collect();
    let mut views: Vec<PolicyView> = snapshot
        .policies
        .iter()
        .map(|policy| {
            let object = ObjectName::from(&policy.name);
            let file = snapshot.origins.get(&policy.name).cloned().unwrap_or_default();
            let keeper = kept_by.get(&object).copied();
            let mut reasons: Vec<String> =
                refused.remove(&object).or(keeper).map(reason).into_iter().collect();
            reasons.extend(amiss.reasons(policy));
            let view = accepted(policy, object, file, reasons.join("; "), &subjects);
            match node
                .filter(|(_, host)| policy.rules.iter().any(|rule| rule.selects(&host.labels)))
            {
                Some((name, host)) => with_node(view, name, host),
                None => view,
            }
        })
        .collect();
    views.extend(refused.into_iter().map(|(object, refused)| PolicyView {
        object,
        file: refused.file.clone(),
        mode: Mode::Enforce,
        accepted: false,
        reason: refusal(refused),
        rules: vec![],
        subjects: vec![],
        digest: [0; 32],
    }));
    views
}

fn accepted(
    policy: &Policy,
    object: ObjectName,
    file: String,
    reason: String,
    subjects: &BTreeMap<&Labels, Vec<&EndpointView>>,
) -> PolicyView {
    let selected: Vec<&EndpointView> = subjects
        .iter()
        .filter(|(labels, _)| policy.rules.iter().any(|rule| rule.selects(labels)))
        .flat_map(|(_, endpoints)| endpoints.iter().copied())
        .collect();
    let mut names: Vec<String> =
        selected.iter().map(|endpoint| endpoint.record.pod.to_string()).collect();
    names.sort_unstable();
    PolicyView {
        object,
        file,
        mode: policy.mode,
        accepted: true,
        reason,
        rules: policy.rules.iter().map(|rule| rule.id.to_string()).collect(),
        subjects: names,
        digest: tables_digest(&selected),
    }
}

/// The view of a policy that is about the node, too.
fn with_node(mut view: PolicyView, name: &str, host: &HostView) -> PolicyView {
    view.subjects.push(format!("node:{name}"));
    let own = host.table.digest();
    view.digest = match view.digest {
        digest if digest == [0; 32] => own,
        pods => digest([pods.as_slice(), &own]),
    };
    view
}

/// What stands for a file that could not be taken apart: nobody knows which
/// policies are in it.
const WHOLE_FILE: &str = "File";

fn whole(file: &str) -> ObjectName {
    ObjectName { kind: WHOLE_FILE.to_owned(), namespace: None, name: file.to_owned() }
}

fn reason(refused: &Refused) -> String {
    let reasons: Vec<String> = refused.refusals.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

/// As [`reason`], with what it means that no version counts.
fn refusal(refused: &Refused) -> String {
    let parts = [reason(refused), consequence(refused)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn tables_digest(endpoints: &[&EndpointView]) -> [u8; 32] {
    let mut digests: Vec<[u8; 32]> = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.table.as_ref().map(|(_, table)| table.digest()))
        .collect();
    digests.sort_unstable();
    digests.dedup();
    if digests.is_empty() {
        return [0; 32];
    }
    digest(digests.iter().map(<[u8; 32]>::as_slice))
}

#[cfg(test)]
mod tests;
