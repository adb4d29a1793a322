//! `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy` of `cilium.io/v2`
//! (facts: `policy.md` section 1).

mod icmp;
mod kafka;
mod layer7;
mod peers;
mod ports;

use model::{Direction, PolicyKind, PolicyName, RuleId};
use policy::{
    Action, Authentication, Layer7, Policy, PortMatch, Ports, Selector, SelectorKey, Subject, Tier,
    clusterwide_peer, namespaced_peer, namespaced_subject,
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
    ("description", Field::Read),
];

const SPEC: Schema = &[
    ("endpointSelector", Field::Read),
    ("nodeSelector", Field::Read),
    ("ingress", Field::Read),
    ("egress", Field::Read),
    ("ingressDeny", Field::Read),
    ("egressDeny", Field::Read),
    ("enableDefaultDeny", Field::Read),
    ("description", Field::Read),
    ("labels", Field::Read),
    ("log", Field::Read),
    ("fromEndpoints", OF_A_RULE),
    ("fromEntities", OF_A_RULE),
    ("fromCIDRSet", OF_A_RULE),
    ("toEndpoints", OF_A_RULE),
    ("toEntities", OF_A_RULE),
    ("toCIDRSet", OF_A_RULE),
    ("toFQDNs", OF_A_RULE),
    ("toPorts", OF_A_RULE),
    ("authentication", OF_A_RULE),
    ("rules", OF_A_RULE),
];
const OF_A_RULE: Field = Field::Elsewhere(
    "a rule of `ingress` or `egress`",
    "indent it, so that it stands below the rule's `-`",
);

const DEFAULT_DENY: Schema = &[("ingress", Field::Read), ("egress", Field::Read)];
const LOG: Schema = &[("value", Field::Read)];
const AUTHENTICATION: Schema = &[("mode", Field::Read)];
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
    let mode = envelope::mode(reader);
    let fields = reader.fields(&root, OBJECT)?;
    if let Some(place) = fields.get("description") {
        reader.warn(&place, "is a field of `spec`: here it says nothing".to_owned());
    }
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
    Some(Policy { name: name?, mode: mode?, rules: rules.into() })
}

/// One `spec`, and what its rules have in common.
struct Spec<'n> {
    name: &'n PolicyName,
    subject: Subject,
    log: Option<String>,
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
        let log = log(reader, &fields);
        // Peers are scoped by the subject, so a refused subject stands in as
        // everybody only to find mistakes further on.
        let stand_in = subject.clone().unwrap_or(Subject::Endpoints(Selector::default()));
        let spec = Self { name, subject: stand_in, log: log.clone().flatten() };
        let (mut rules, whole) = spec.rules(reader, &fields);
        if whole && rules.is_empty() {
            let reason = "has no rules: it would enforce nothing".to_owned();
            let fix = "to deny everything, write `ingress: [{}]` or `egress: [{}]`".to_owned();
            reader.refuse(place, reason, Some(fix));
            return None;
        }
        let default_deny = default_deny(reader, &fields, &rules)?;
        for rule in &mut rules {
            rule.default_deny = default_deny[usize::from(rule.direction == Direction::Egress)];
        }
        subject?;
        log?;
        whole.then_some(rules)
    }

    /// The rules of all lists, and whether none was refused.
    fn rules(&self, reader: &mut Reader<'_>, fields: &Fields<'_>) -> (Vec<policy::Rule>, bool) {
        let mut rules = Vec::new();
        let mut whole = true;
        for (list, direction, action) in LISTS {
            let Some(place) = fields.get(list) else { continue };
            let Some(items) = reader.list(&place) else {
                whole = false;
                continue;
            };
            for item in items {
                match self.rule(reader, &item, direction, action) {
                    Some(lowered) => rules.extend(lowered),
                    None => whole = false,
                }
            }
        }
        (rules, whole)
    }

    /// One rule, lowered to one for each demand on the inside of connections.
    fn rule(
        &self,
        reader: &mut Reader<'_>,
        place: &Place<'_>,
        direction: Direction,
        action: Action,
    ) -> Option<Vec<policy::Rule>> {
        let fields = reader.fields(place, peers::schema(direction, action))?;
        let around = ports::Around {
            direction,
            action,
            nodes: matches!(self.subject, Subject::Nodes(_)),
            namespaced: self.name.namespace.is_some(),
        };
        let routes = routes(reader, &fields, around);
        let scoped = |selector| match &self.name.namespace {
            Some(namespace) => namespaced_peer(selector, namespace),
            None => clusterwide_peer(selector, self.subject.selector()),
        };
        let has_ports = routes
            .as_ref()
            .is_none_or(|routes| routes.iter().any(|(ports, _)| *ports != Ports::All));
        let peers = peers::read(reader, &fields, direction, &scoped, has_ports);
        let authentication = authentication(reader, &fields);
        let (routes, peers, authentication) = (routes?, peers?, authentication?);
        if authentication.is_some() && fields.len() == 1 {
            let reason = "names nobody and no ports: nobody would have to prove anything";
            let fix = "leave out the `-` before it, if it belongs to the rule before";
            reader.refuse(place, reason.to_owned(), Some(fix.to_owned()));
            return None;
        }
        let rule = |(ports, layer7)| policy::Rule {
            id: RuleId { policy: self.name.clone(), path: place.path.clone() },
            tier: Tier::Normal,
            priority: 0,
            subject: self.subject.clone(),
            direction,
            action,
            peers: peers.clone(),
            ports,
            default_deny: true,
            layer7,
            authentication,
            log: self.log.clone(),
        };
        Some(routes.into_iter().map(rule).collect())
    }
}

/// Ports, each with what must hold inside connections to them; never empty.
type Routes = Vec<(Ports, Option<Layer7>)>;

fn routes(reader: &mut Reader<'_>, fields: &Fields<'_>, around: ports::Around) -> Option<Routes> {
    let elements = match fields.get("toPorts") {
        Some(place) => ports::read(reader, &place, around),
        None => Some(None),
    };
    let icmps = match fields.get("icmps") {
        Some(place) => icmp::read(reader, &place),
        None => Some(None),
    };
    let elements = match (elements?, icmps?) {
        (None, None) => return Some(vec![(Ports::All, None)]),
        (None, Some(types)) => return Some(vec![(Ports::OneOf(types), None)]),
        (Some(elements), None) => elements,
        (Some(_), Some(_)) => {
            let place = fields.missing("icmps");
            let reason = "cannot stand beside `toPorts` in one rule".to_owned();
            reader.refuse(&place, reason, Some("write two rules".to_owned()));
            return None;
        }
    };
    let mut plain: Vec<PortMatch> = Vec::new();
    let mut routes: Routes = Vec::new();
    for ports::Element { ports, layer7 } in elements {
        match layer7 {
            None => plain.extend(ports),
            Some(layer7) => routes.push((Ports::OneOf(ports), Some(layer7))),
        }
    }
    if routes.is_empty() || !plain.is_empty() {
        routes.push((Ports::OneOf(plain), None));
    }
    Some(routes)
}

fn authentication(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Option<Authentication>> {
    let Some(place) = fields.get("authentication") else { return Some(None) };
    let fields = reader.fields(&place, AUTHENTICATION)?;
    let Some(mode) = fields.get("mode") else {
        let reason = "authentication needs a mode".to_owned();
        reader.refuse(&fields.missing("mode"), reason, Some("mode: required".to_owned()));
        return None;
    };
    match reader.string(&mode)? {
        "disabled" => Some(Some(Authentication::Disabled)),
        "required" => Some(Some(Authentication::Required)),
        "test-always-fail" => Some(Some(Authentication::AlwaysFails)),
        _ => {
            let fix = "write disabled, required or test-always-fail".to_owned();
            reader.refuse(&mode, "there is no such mode".to_owned(), Some(fix));
            None
        }
    }
}

/// The text that flows carry.
fn log(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Option<String>> {
    const LONGEST: usize = 32;
    let Some(place) = fields.get("log") else { return Some(None) };
    let fields = reader.fields(&place, LOG)?;
    let Some(value) = fields.get("value") else { return Some(None) };
    let text = reader.string(&value)?;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.len() > LONGEST || !printable {
        let reason = format!("is longer than {LONGEST} printable characters");
        reader.refuse(&value, reason, None);
        return None;
    }
    Some(Some(text.to_owned()))
}

/// How selectors of these kinds write keys: `[source:]key`.
pub(super) fn selector_key(text: &str) -> SelectorKey {
    SelectorKey::parse(text)
}

fn subject(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &PolicyName) -> Option<Subject> {
    let (place, nodes) = match (fields.get("endpointSelector"), fields.get("nodeSelector")) {
        (Some(place), None) => (place, false),
        (None, Some(place)) if name.namespace.is_none() => (place, true),
        (_, Some(place)) => {
            let (reason, fix) = if name.namespace.is_some() {
                ("a policy for nodes is in no namespace", "kind: CiliumClusterwideNetworkPolicy")
            } else {
                ("cannot stand beside `endpointSelector`", "write two specs")
            };
            reader.refuse(&place, reason.to_owned(), Some(fix.to_owned()));
            return None;
        }
        (None, None) => {
            let reason = "a policy needs an `endpointSelector`".to_owned();
            let fix = "`endpointSelector: {}` selects every endpoint in scope".to_owned();
            reader.refuse(&fields.missing("endpointSelector"), reason, Some(fix));
            return None;
        }
    };
    let written = selector::read(reader, &place, &selector_key)?;
    if nodes {
        return Some(Subject::Nodes(written));
    }
    let Some(namespace) = &name.namespace else { return Some(Subject::Endpoints(written)) };
    let scoped = namespaced_subject(written.clone(), namespace);
    if written.requirements().any(|requirement| !scoped.contains(requirement)) {
        let text = format!("selects pods of `{namespace}`, whatever namespace it asks for");
        reader.warn(&place, text);
    }
    Some(Subject::Endpoints(scoped))
}

/// Whether rules of ingress and of egress switch default deny on: yes, unless
/// it is said otherwise. The switch is the rules': without any there is none.
fn default_deny(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    rules: &[policy::Rule],
) -> Option<[bool; 2]> {
    let Some(place) = fields.get("enableDefaultDeny") else { return Some([true; 2]) };
    let fields = reader.fields(&place, DEFAULT_DENY)?;
    let mut switch = |name, direction| match fields.get(name) {
        Some(place) => {
            let on = reader.boolean(&place)?;
            if on && !rules.iter().any(|rule| rule.direction == direction) {
                let text = format!(
                    "has no effect without rules: to deny everything, write `{name}: [{{}}]`"
                );
                reader.warn(&place, text);
            }
            Some(on)
        }
        None => Some(true),
    };
    let ingress = switch("ingress", Direction::Ingress);
    let egress = switch("egress", Direction::Egress);
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
