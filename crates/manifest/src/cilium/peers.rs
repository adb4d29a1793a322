//! Members of a rule that say who the other end is (facts: `policy.md`
//! sections 1.3 and 1.4).

use model::Direction;
use policy::{Action, Entity, Peer, Peers, Selector};

use crate::cilium::selector_key;
use crate::fields::{Field, Fields, Place, Reader, Schema};
use crate::selector;

const CIDR: Field = Field::Refused("address ranges are not supported yet", "");
const GROUPS: Field = Field::Refused("cloud groups are not supported yet", "");
const NODES: Field = Field::Refused("selecting nodes is not supported yet", "");
const SERVICES: Field = Field::Refused(
    "selecting services is not supported yet",
    "select the service's pods with `toEndpoints`",
);
const FQDN: Field = Field::Refused("names are not supported yet", "");
const ICMP: Field = Field::Refused("ICMP types are not supported yet", "");
const AUTHENTICATION: Field = Field::Refused("authentication is not supported yet", "");
const REQUIRES: Field = Field::Refused(
    "is gone from the language: it allowed nothing by itself",
    "add its labels to every selector of the other rules",
);
const NOT_IN_DENY: Field = Field::Refused("cannot stand in a deny rule", "");

const INGRESS: Schema = &[
    ("fromEndpoints", Field::Read),
    ("fromEntities", Field::Read),
    ("toPorts", Field::Read),
    ("fromRequires", REQUIRES),
    ("fromCIDR", CIDR),
    ("fromCIDRSet", CIDR),
    ("fromGroups", GROUPS),
    ("fromNodes", NODES),
    ("icmps", ICMP),
    ("authentication", AUTHENTICATION),
];

const INGRESS_DENY: Schema = &[
    ("fromEndpoints", Field::Read),
    ("fromEntities", Field::Read),
    ("toPorts", Field::Read),
    ("fromRequires", REQUIRES),
    ("fromCIDR", CIDR),
    ("fromCIDRSet", CIDR),
    ("fromGroups", GROUPS),
    ("fromNodes", NODES),
    ("icmps", ICMP),
    ("authentication", NOT_IN_DENY),
];

const EGRESS: Schema = &[
    ("toEndpoints", Field::Read),
    ("toEntities", Field::Read),
    ("toPorts", Field::Read),
    ("toRequires", REQUIRES),
    ("toCIDR", CIDR),
    ("toCIDRSet", CIDR),
    ("toGroups", GROUPS),
    ("toNodes", NODES),
    ("toServices", SERVICES),
    ("toFQDNs", FQDN),
    ("icmps", ICMP),
    ("authentication", AUTHENTICATION),
];

const EGRESS_DENY: Schema = &[
    ("toEndpoints", Field::Read),
    ("toEntities", Field::Read),
    ("toPorts", Field::Read),
    ("toRequires", REQUIRES),
    ("toCIDR", CIDR),
    ("toCIDRSet", CIDR),
    ("toGroups", GROUPS),
    ("toNodes", NODES),
    ("toServices", SERVICES),
    ("toFQDNs", NOT_IN_DENY),
    ("icmps", ICMP),
    ("authentication", NOT_IN_DENY),
];

/// The fields of a rule.
pub(super) fn schema(direction: Direction, action: Action) -> Schema {
    match (direction, action) {
        (Direction::Ingress, Action::Allow) => INGRESS,
        (Direction::Ingress, Action::Deny) => INGRESS_DENY,
        (Direction::Egress, Action::Allow) => EGRESS,
        (Direction::Egress, Action::Deny) => EGRESS_DENY,
    }
}

/// Reads who the other end is; `scoped` gives a selector the policy's scope.
///
/// The traps: a member that is absent leaves the peer open, but only if there
/// are ports; a member that is an empty list matches nobody.
pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    direction: Direction,
    scoped: &dyn Fn(Selector) -> Peer,
    has_ports: bool,
) -> Option<Peers> {
    let (endpoints, entities) = match direction {
        Direction::Ingress => ("fromEndpoints", "fromEntities"),
        Direction::Egress => ("toEndpoints", "toEntities"),
    };
    match (fields.get(endpoints), fields.get(entities)) {
        (None, None) if has_ports => Some(Peers::Any),
        (None, None) => Some(Peers::OneOf(Vec::new())),
        (Some(place), None) => read_endpoints(reader, &place, scoped),
        (None, Some(place)) => read_entities(reader, &place),
        (Some(_), Some(place)) => {
            let reason = format!("cannot stand beside `{endpoints}` in one rule");
            reader.refuse(&place, reason, Some("write two rules".to_owned()));
            None
        }
    }
}

fn read_endpoints(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    scoped: &dyn Fn(Selector) -> Peer,
) -> Option<Peers> {
    let items = reader.list(place)?;
    let selectors: Vec<Option<Selector>> =
        items.iter().map(|item| selector::read(reader, item, &selector_key)).collect();
    let peers = selectors.into_iter().map(|selector| selector.map(scoped));
    peers.collect::<Option<_>>().map(Peers::OneOf)
}

fn read_entities(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Peers> {
    let mut peers = Vec::new();
    let mut anybody = false;
    let mut whole = true;
    for item in reader.list(place)? {
        let name = reader.string(&item);
        match name.and_then(|name| Entity::ALL.into_iter().find(|entity| entity.name() == name)) {
            Some(entity) => peers.push(Peer::Entity(entity)),
            None if name == Some("all") => anybody = true,
            None => {
                whole = false;
                if let Some(name) = name {
                    unknown_entity(reader, &item, name);
                }
            }
        }
    }
    let peers = if anybody { Peers::Any } else { Peers::OneOf(peers) };
    whole.then_some(peers)
}

fn unknown_entity(reader: &mut Reader<'_>, place: &Place<'_>, name: &str) {
    let fix = if name.starts_with("world-") {
        "write `world`, which is both families".to_owned()
    } else {
        let names: Vec<&str> = Entity::ALL.iter().map(|entity| entity.name()).collect();
        format!("write all, {}", names.join(", "))
    };
    let reason = format!("there is no entity `{}`", name.escape_debug());
    reader.refuse(place, reason, Some(fix));
}
