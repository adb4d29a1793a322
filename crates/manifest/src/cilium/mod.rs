//! `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy` of `cilium.io/v2`
//! (facts: `policy.md` section 1).

mod peers;
mod ports;

use model::{Direction, PolicyKind, PolicyName, RuleId};
use policy::{
    Action, Policy, Selector, SelectorKey, Tier, clusterwide_peer, namespaced_peer,
    namespaced_subject,
};

use crate::envelope;
use crate::fields::{Field, Fields, Place, Reader, Schema};
use crate::selector;

const OBJECT: Schema = &[
    ("apiVersion", Field::Inert),
    ("kind", Field::Inert),
    ("metadata", Field::Read),
    ("spec", Field::Read),
    ("specs", Field::Read),
    ("status", Field::Inert),
    ("description", Field::Refused("is a field of `spec`", "move it into `spec`")),
];

const SPEC: Schema = &[
    ("endpointSelector", Field::Read),
    ("nodeSelector", Field::Refused("policies for nodes are not supported yet", "")),
    ("ingress", Field::Read),
    ("egress", Field::Read),
    ("ingressDeny", Field::Read),
    ("egressDeny", Field::Read),
    ("enableDefaultDeny", Field::Read),
    ("description", Field::Read),
    ("labels", Field::Read),
    ("log", Field::Refused("log texts are not supported yet", "")),
];

const DEFAULT_DENY: Schema = &[("ingress", Field::Read), ("egress", Field::Read)];
const LABEL: Schema = &[("key", Field::Read), ("value", Field::Read), ("source", Field::Read)];

/// The four lists of rules: name, direction, action.
const LISTS: [(&str, Direction, Action); 4] = [
    ("ingress", Direction::Ingress, Action::Allow),
    ("ingressDeny", Direction::Ingress, Action::Deny),
    ("egress", Direction::Egress, Action::Allow),
    ("egressDeny", Direction::Egress, Action::Deny),
];

/// Reads a `CiliumNetworkPolicy`.
pub(crate) fn network_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    let name = envelope::namespaced(reader, PolicyKind::CiliumNetworkPolicy);
    object(reader, name)
}

/// Reads a `CiliumClusterwideNetworkPolicy`.
pub(crate) fn clusterwide_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    let name = envelope::cluster_scoped(reader, PolicyKind::CiliumClusterwideNetworkPolicy);
    object(reader, name)
}

fn object(reader: &mut Reader<'_>, name: Option<PolicyName>) -> Option<Policy> {
    let root = reader.root();
    if reader.api_version() != "cilium.io/v2" {
        let reason = format!("`{}` is not read", reader.api_version());
        reader.refuse(&root.field("apiVersion"), reason, Some("apiVersion: cilium.io/v2".into()));
    }
    let fields = reader.fields(&root, OBJECT)?;
    let mut specs: Vec<Place<'_>> = fields.get("spec").into_iter().collect();
    if let Some(list) = fields.get("specs") {
        specs.extend(reader.list(&list).unwrap_or_default());
    }
    if specs.is_empty() {
        reader.refuse(&root.field("spec"), "a policy needs `spec` or `specs`".to_owned(), None);
    }
    // Without a legal name the policy is refused, but its mistakes are still found.
    let known = name.clone().unwrap_or(PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: None,
        name: String::new(),
    });
    let whole: Vec<Option<Vec<policy::Rule>>> =
        specs.iter().map(|spec| Spec::read(reader, spec, &known)).collect();
    let rules = whole.into_iter().collect::<Option<Vec<_>>>()?.concat();
    Some(Policy { name: name?, rules })
}

/// One `spec`, and what its rules have in common.
struct Spec<'n> {
    name: &'n PolicyName,
    subject: Selector,
}

impl<'n> Spec<'n> {
    fn read(
        reader: &mut Reader<'_>,
        place: &Place<'_>,
        name: &'n PolicyName,
    ) -> Option<Vec<policy::Rule>> {
        let fields = reader.fields(place, SPEC)?;
        if let Some(description) = fields.get("description") {
            reader.string(&description)?;
        }
        if let Some(labels) = fields.get("labels") {
            bookkeeping_labels(reader, &labels);
        }
        let subject = subject(reader, &fields, name);
        let default_deny = default_deny(reader, &fields);
        let mut rules = Vec::new();
        let mut whole = true;
        // Peers are scoped by the subject, so a refused subject stands in as
        // everybody only to find mistakes further on.
        let spec = Self { name, subject: subject.clone().unwrap_or_default() };
        for (list, direction, action) in LISTS {
            let Some(place) = fields.get(list) else { continue };
            let Some(items) = reader.list(&place) else {
                whole = false;
                continue;
            };
            for item in items {
                match spec.rule(reader, &item, direction, action) {
                    Some(rule) => rules.push(rule),
                    None => whole = false,
                }
            }
        }
        if whole && rules.is_empty() {
            let reason = "has no rules: it would enforce nothing".to_owned();
            let fix = "to deny everything, write `ingress: [{}]` or `egress: [{}]`".to_owned();
            reader.refuse(place, reason, Some(fix));
            return None;
        }
        let default_deny = default_deny?;
        for rule in &mut rules {
            rule.default_deny = default_deny[usize::from(rule.direction == Direction::Egress)];
        }
        subject?;
        whole.then_some(rules)
    }

    fn rule(
        &self,
        reader: &mut Reader<'_>,
        place: &Place<'_>,
        direction: Direction,
        action: Action,
    ) -> Option<policy::Rule> {
        let fields = reader.fields(place, peers::schema(direction, action))?;
        let ports = match fields.get("toPorts") {
            Some(place) => ports::read(reader, &place, direction),
            None => Some(ports::Written::Absent),
        };
        let scoped = |selector| match &self.name.namespace {
            Some(namespace) => namespaced_peer(selector, namespace),
            None => clusterwide_peer(selector, &self.subject),
        };
        let has_ports = ports.as_ref().is_none_or(ports::Written::is_present);
        let peers = peers::read(reader, &fields, direction, &scoped, has_ports);
        let (ports, peers) = (ports?, peers?);
        Some(policy::Rule {
            id: RuleId { policy: self.name.clone(), path: place.path.clone() },
            tier: Tier::Normal,
            priority: 0,
            subject: self.subject.clone(),
            direction,
            action,
            peers,
            ports: ports.into_ports(),
            default_deny: true,
        })
    }
}

/// How selectors of these kinds write keys: `[source:]key`.
pub(super) fn selector_key(text: &str) -> SelectorKey {
    SelectorKey::parse(text)
}

fn subject(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &PolicyName) -> Option<Selector> {
    let Some(place) = fields.get("endpointSelector") else {
        if fields.get("nodeSelector").is_none() {
            let reason = "a policy needs an `endpointSelector`".to_owned();
            let fix = "`endpointSelector: {}` selects every endpoint in scope".to_owned();
            reader.refuse(&fields.missing("endpointSelector"), reason, Some(fix));
        }
        return None;
    };
    let written = selector::read(reader, &place, &selector_key)?;
    let Some(namespace) = &name.namespace else { return Some(written) };
    let scoped = namespaced_subject(written.clone(), namespace);
    if written.requirements().any(|requirement| !scoped.contains(requirement)) {
        let text = format!("selects pods of `{namespace}`, whatever namespace it asks for");
        reader.note(&place, text);
    }
    Some(scoped)
}

/// Whether rules of ingress and of egress switch default deny on: yes, unless
/// it is said otherwise. The switch is the rules': without any there is none.
fn default_deny(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<[bool; 2]> {
    let Some(place) = fields.get("enableDefaultDeny") else { return Some([true; 2]) };
    let fields = reader.fields(&place, DEFAULT_DENY)?;
    let mut switch = |name| match fields.get(name) {
        Some(place) => reader.boolean(&place),
        None => Some(true),
    };
    let (ingress, egress) = (switch("ingress"), switch("egress"));
    Some([ingress?, egress?])
}

/// Labels of a rule are bookkeeping: checked, and of no effect.
fn bookkeeping_labels(reader: &mut Reader<'_>, place: &Place<'_>) {
    for item in reader.list(place).unwrap_or_default() {
        if item.node.as_str().is_some() {
            continue;
        }
        if let Some(fields) = reader.fields(&item, LABEL) {
            for (name, _) in LABEL {
                if let Some(place) = fields.get(name) {
                    reader.string(&place);
                }
            }
        }
    }
}
