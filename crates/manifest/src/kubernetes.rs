//! `NetworkPolicy` of `networking.k8s.io/v1` (facts: `policy.md` section 4.1).

use model::{Direction, PolicyKind, PolicyName, RuleId};
use policy::{
    Action, CidrPeer, Operator, Peer, Peers, Policy, Port, PortMatch, Ports, Reach, Requirement,
    Selector, SelectorKey, Subject, Tier, Transport, namespaced_peer, namespaced_subject,
};

use crate::address;
use crate::document::Value;
use crate::envelope;
use crate::fields::{Field, Fields, Place, Reader, Schema};
use crate::selector;

const OBJECT: Schema = &[
    ("apiVersion", Field::Inert),
    ("kind", Field::Inert),
    ("metadata", Field::Read),
    ("spec", Field::Read),
    ("status", Field::Inert),
];
const SPEC: Schema = &[
    ("podSelector", Field::Read),
    ("policyTypes", Field::Read),
    ("ingress", Field::Read),
    ("egress", Field::Read),
];
const INGRESS: Schema = &[("from", Field::Read), ("ports", Field::Read)];
const EGRESS: Schema = &[("to", Field::Read), ("ports", Field::Read)];
const PEER: Schema =
    &[("podSelector", Field::Read), ("namespaceSelector", Field::Read), ("ipBlock", Field::Read)];
const BLOCK: Schema = &[("cidr", Field::Read), ("except", Field::Read)];
const PORT: Schema = &[("port", Field::Read), ("endPort", Field::Read), ("protocol", Field::Read)];

/// What identity labels that come from the namespace's own labels start with.
pub(crate) const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

/// Reads a `NetworkPolicy`.
pub(crate) fn network_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    let name = envelope::namespaced(reader, PolicyKind::NetworkPolicy);
    let mode = envelope::mode(reader);
    let root = reader.root();
    if reader.api_version() != "networking.k8s.io/v1" {
        let reason = format!("`{}` is not read", reader.api_version());
        let fix = "apiVersion: networking.k8s.io/v1".to_owned();
        reader.refuse(&root.field("apiVersion"), reason, Some(fix));
    }
    let fields = reader.fields(&root, OBJECT)?;
    let Some(spec) = fields.get("spec") else {
        reader.refuse(&fields.missing("spec"), "a policy needs a `spec`".to_owned(), None);
        return None;
    };
    let name = name?;
    let fields = reader.fields(&spec, SPEC)?;
    let Some(selector) = fields.get("podSelector") else {
        let reason = "a policy needs a `podSelector`".to_owned();
        let fix = "`podSelector: {}` selects every pod of the namespace".to_owned();
        reader.refuse(&fields.missing("podSelector"), reason, Some(fix));
        return None;
    };
    let written = selector::read(reader, &selector, &own_key)?;
    let namespace = name.namespace.clone().unwrap_or_default();
    let spec = Spec { subject: namespaced_subject(written, &namespace), namespace, name: &name };
    let isolated = isolated(reader, &fields)?;
    let mut rules = Vec::new();
    let mut whole = true;
    for (list, direction) in [("ingress", Direction::Ingress), ("egress", Direction::Egress)] {
        match spec.direction(reader, &fields, list, direction, &isolated) {
            Some(more) => rules.extend(more),
            None => whole = false,
        }
    }
    let mode = mode?;
    whole.then_some(Policy { name, mode, rules: rules.into() })
}

/// The directions that the policy is about: those it lists, else ingress, and
/// egress if it has rules for it.
fn isolated(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<Direction>> {
    let mut directions = Vec::new();
    if let Some(types) = fields.get("policyTypes") {
        for item in reader.list(&types)? {
            match reader.string(&item)? {
                "Ingress" => directions.push(Direction::Ingress),
                "Egress" => directions.push(Direction::Egress),
                _ => {
                    let fix = "write Ingress or Egress".to_owned();
                    reader.refuse(&item, "there is no such type".to_owned(), Some(fix));
                    return None;
                }
            }
        }
    }
    if directions.is_empty() {
        directions.push(Direction::Ingress);
        if fields.get("egress").is_some_and(|egress| !egress.node.items().is_empty()) {
            directions.push(Direction::Egress);
        }
    }
    Some(directions)
}

/// Keys of pods' own labels are written without a source.
fn own_key(text: &str) -> SelectorKey {
    SelectorKey::k8s(text)
}

/// What the rules of a policy have in common.
struct Spec<'n> {
    name: &'n PolicyName,
    namespace: String,
    subject: Selector,
}

impl Spec<'_> {
    fn direction(
        &self,
        reader: &mut Reader<'_>,
        fields: &Fields<'_>,
        list: &str,
        direction: Direction,
        isolated: &[Direction],
    ) -> Option<Vec<policy::Rule>> {
        let place = fields.get(list);
        let items = match &place {
            Some(place) => reader.list(place)?,
            None => Vec::new(),
        };
        let read: Vec<Option<policy::Rule>> =
            items.iter().map(|item| self.rule(reader, item, direction)).collect();
        let rules = read.into_iter().collect::<Option<Vec<_>>>()?;
        match (isolated.contains(&direction), rules.is_empty(), place) {
            (true, true, _) => {
                let nobody = Peers::OneOf(Vec::new());
                Some(vec![self.lowered(format!("spec.{list}"), direction, nobody, Ports::All)])
            }
            (true, false, _) => Some(rules),
            (false, false, Some(place)) => {
                let text = format!("has no effect: `policyTypes` does not list {direction}");
                reader.warn(&place, text);
                Some(Vec::new())
            }
            (false, ..) => Some(Vec::new()),
        }
    }

    fn lowered(
        &self,
        path: String,
        direction: Direction,
        peers: Peers,
        ports: Ports,
    ) -> policy::Rule {
        policy::Rule {
            id: RuleId { policy: self.name.clone(), path },
            tier: Tier::Normal,
            priority: 0,
            subject: Subject::Endpoints(self.subject.clone()),
            direction,
            action: Action::Allow,
            peers,
            ports,
            default_deny: true,
            layer7: None,
            authentication: None,
            log: None,
        }
    }

    /// A rule; one without members allows everything.
    fn rule(
        &self,
        reader: &mut Reader<'_>,
        place: &Place<'_>,
        direction: Direction,
    ) -> Option<policy::Rule> {
        let (schema, list) = match direction {
            Direction::Ingress => (INGRESS, "from"),
            Direction::Egress => (EGRESS, "to"),
        };
        let fields = reader.fields(place, schema)?;
        let peers = match fields.get(list) {
            Some(list) if !list.node.items().is_empty() => {
                let items = reader.list(&list)?;
                let read: Vec<Option<Peer>> =
                    items.iter().map(|item| self.peer(reader, item)).collect();
                read.into_iter().collect::<Option<Vec<_>>>().map(Peers::OneOf)
            }
            Some(list) => reader.list(&list).map(|_| Peers::Any),
            None => Some(Peers::Any),
        };
        let ports = match fields.get("ports") {
            Some(list) if !list.node.items().is_empty() => {
                let items = reader.list(&list)?;
                let read: Vec<Option<PortMatch>> =
                    items.iter().map(|item| port(reader, item)).collect();
                read.into_iter().collect::<Option<Vec<_>>>().map(Ports::OneOf)
            }
            Some(list) => reader.list(&list).map(|_| Ports::All),
            None => Some(Ports::All),
        };
        Some(self.lowered(place.path.clone(), direction, peers?, ports?))
    }

    /// A peer by its own labels, by its namespace's, or by both.
    fn peer(&self, reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Peer> {
        let fields = reader.fields(place, PEER)?;
        if let Some(block) = fields.get("ipBlock") {
            if fields.get("podSelector").or(fields.get("namespaceSelector")).is_some() {
                let reason = "an `ipBlock` stands alone".to_owned();
                reader.refuse(&block, reason, Some("write two elements".to_owned()));
                return None;
            }
            return ip_block(reader, &block);
        }
        let pods = match fields.get("podSelector") {
            Some(place) => Some(selector::read(reader, &place, &own_key)?),
            None => None,
        };
        let of_namespace = |key: &str| SelectorKey::k8s(format!("{NAMESPACE_LABELS}{key}"));
        let namespaces = match fields.get("namespaceSelector") {
            Some(place) => Some(selector::read(reader, &place, &of_namespace)?),
            None => None,
        };
        if pods.is_none() && namespaces.is_none() {
            let reason = "names neither pods nor namespaces".to_owned();
            let fix = "`podSelector: {}` is every pod of the namespace".to_owned();
            reader.refuse(place, reason, Some(fix));
            return None;
        }
        let mut selector = pods.unwrap_or_default();
        if let Some(namespaces) = namespaces {
            // An empty selector of namespaces is every namespace, so it must not
            // be taken for the policy's own.
            let key = SelectorKey::k8s("io.kubernetes.pod.namespace");
            selector.insert(Requirement { key, operator: Operator::Exists });
            namespaces.requirements().cloned().for_each(|more| selector.insert(more));
        }
        Some(namespaced_peer(selector, &self.namespace))
    }
}

/// A range, which by this kind's standard matches whoever has an address in it.
fn ip_block(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Peer> {
    let fields = reader.fields(place, BLOCK)?;
    let Some(cidr) = fields.get("cidr") else {
        reader.refuse(&fields.missing("cidr"), "an `ipBlock` needs a `cidr`".to_owned(), None);
        return None;
    };
    let net = address::range(reader, &cidr, false)?;
    let except = match fields.get("except") {
        Some(list) => address::exceptions(reader, &list, Some(net), false)?,
        None => Vec::new(),
    };
    Some(Peer::Cidr(CidrPeer { net, except, reach: Reach::Everybody }))
}

fn port(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<PortMatch> {
    let fields = reader.fields(place, PORT)?;
    let transport = match fields.get("protocol") {
        None => Transport::Tcp,
        Some(place) => match reader.string(&place)? {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            "SCTP" => Transport::Sctp,
            _ => {
                let fix = "write TCP, UDP or SCTP".to_owned();
                reader.refuse(&place, "there is no such protocol".to_owned(), Some(fix));
                return None;
            }
        },
    };
    let end = fields.get("endPort");
    let port = match (fields.get("port"), &end) {
        (None, None) => Port::Any,
        (None, Some(end)) => {
            reader.refuse(end, "a range needs a `port` to begin at".to_owned(), None);
            return None;
        }
        (Some(place), _) => match &place.node.value {
            Value::String(name) => {
                return named(reader, &place, name, end.as_ref())
                    .map(|port| PortMatch { transport, port });
            }
            _ => {
                let first = u16::try_from(reader.integer(&place, 1, 65_535)?).ok()?;
                let last = match &end {
                    Some(end) => u16::try_from(reader.integer(end, first.into(), 65_535)?).ok()?,
                    None => first,
                };
                Port::Range(first, last)
            }
        },
    };
    Some(PortMatch { transport, port })
}

/// A name of a port is resolved at the pod that is the destination.
fn named(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    name: &str,
    end: Option<&Place<'_>>,
) -> Option<Port> {
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let (reason, fix) = match end {
        _ if digits => ("a number in quotes is taken for a name", Some("leave out the quotes")),
        _ if name.is_empty() || name.len() > 15 || !name.bytes().all(legal) => {
            ("is no name of a port", None)
        }
        Some(_) => ("a name of a port begins no range", Some("write numbers")),
        None => return Some(Port::Named(name.to_owned())),
    };
    reader.refuse(place, reason.to_owned(), fix.map(str::to_owned));
    None
}
