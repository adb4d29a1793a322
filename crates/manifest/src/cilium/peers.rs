//! Members of a rule that say who the other end is (facts: `policy.md`
//! sections 1.3 and 1.4).

use ipnet::IpNet;
use model::Direction;
use policy::{
    Action, CidrPeer, Entity, GroupPeer, GroupSelector, Peer, Peers, Reach, Selector, SelectorKey,
    ServicePeer, ServiceSelector, node_key,
};

use crate::address;
use crate::cilium::layer7::name_pattern;
use crate::cilium::selector_key;
use crate::fields::{Field, Fields, Place, Reader, Schema};
use crate::selector;

const REQUIRES: Field = Field::Refused(
    "is gone from the language: it allowed nothing by itself",
    "add its labels to every selector of the other rules",
);
const OLD_AUTHENTICATION: Field = Field::Refused(
    "is the old name of `authentication`, and would be left out unseen",
    "write `authentication: {mode: required}`",
);
const NOT_IN_DENY: Field = Field::Refused("cannot stand in a deny rule", "");
const OF_A_PEER: Field = Field::Elsewhere(
    "an element of the list of peers before it",
    "indent it, so that it stands below that list",
);
const OF_PORTS: Field = Field::Elsewhere("an element of `toPorts`", "write it below `toPorts`");

const INGRESS: Schema = &[
    ("fromEndpoints", Field::Read),
    ("fromEntities", Field::Read),
    ("toPorts", Field::Read),
    ("fromRequires", Field::Read),
    ("fromCIDR", Field::Read),
    ("fromCIDRSet", Field::Read),
    ("fromGroups", Field::Read),
    ("fromNodes", Field::Read),
    ("icmps", Field::Read),
    ("authentication", Field::Read),
    ("auth", OLD_AUTHENTICATION),
    ("matchLabels", OF_A_PEER),
    ("cidr", OF_A_PEER),
    ("rules", OF_PORTS),
    ("ports", OF_PORTS),
];

const INGRESS_DENY: Schema = &[
    ("fromEndpoints", Field::Read),
    ("fromEntities", Field::Read),
    ("toPorts", Field::Read),
    ("fromRequires", Field::Read),
    ("fromCIDR", Field::Read),
    ("fromCIDRSet", Field::Read),
    ("fromGroups", Field::Read),
    ("fromNodes", Field::Read),
    ("icmps", Field::Read),
    ("authentication", NOT_IN_DENY),
];

const EGRESS: Schema = &[
    ("toEndpoints", Field::Read),
    ("toEntities", Field::Read),
    ("toPorts", Field::Read),
    ("toRequires", Field::Read),
    ("toCIDR", Field::Read),
    ("toCIDRSet", Field::Read),
    ("toGroups", Field::Read),
    ("toNodes", Field::Read),
    ("toServices", Field::Read),
    ("toFQDNs", Field::Read),
    ("icmps", Field::Read),
    ("authentication", Field::Read),
    ("auth", OLD_AUTHENTICATION),
    ("matchLabels", OF_A_PEER),
    ("matchName", OF_A_PEER),
    ("matchPattern", OF_A_PEER),
    ("cidr", OF_A_PEER),
    ("rules", OF_PORTS),
    ("ports", OF_PORTS),
];

const EGRESS_DENY: Schema = &[
    ("toEndpoints", Field::Read),
    ("toEntities", Field::Read),
    ("toPorts", Field::Read),
    ("toRequires", Field::Read),
    ("toCIDR", Field::Read),
    ("toCIDRSet", Field::Read),
    ("toGroups", Field::Read),
    ("toNodes", Field::Read),
    ("toServices", Field::Read),
    ("toFQDNs", NOT_IN_DENY),
    ("icmps", Field::Read),
    ("authentication", NOT_IN_DENY),
];

const RANGE: Schema = &[
    ("cidr", Field::Read),
    ("cidrGroupRef", Field::Read),
    ("cidrGroupSelector", Field::Read),
    ("except", Field::Read),
];
const SERVICE: Schema = &[("k8sService", Field::Read), ("k8sServiceSelector", Field::Read)];
const SERVICE_NAME: Schema = &[("serviceName", Field::Read), ("namespace", Field::Read)];
const SERVICE_LABELS: Schema = &[("selector", Field::Read), ("namespace", Field::Read)];

/// The fields of a rule.
pub(super) fn schema(direction: Direction, action: Action) -> Schema {
    match (direction, action) {
        (Direction::Ingress, Action::Deny) => INGRESS_DENY,
        (Direction::Egress, Action::Deny) => EGRESS_DENY,
        (Direction::Ingress, _) => INGRESS,
        (Direction::Egress, _) => EGRESS,
    }
}

/// Members, without `from` or `to`. An empty list of the last three is taken as
/// absent, one of the others as nobody (facts: section 1.4).
const MEMBERS: [&str; 8] =
    ["Endpoints", "Entities", "CIDR", "CIDRSet", "Nodes", "Services", "FQDNs", "Groups"];
const ABSENT_IF_EMPTY: [&str; 3] = ["Services", "FQDNs", "Groups"];

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
    let prefix = if direction == Direction::Ingress { "from" } else { "to" };
    let mut whole = gone(reader, fields, prefix);
    let mut present = Vec::new();
    let mut nobody = false;
    for member in MEMBERS {
        let name = format!("{prefix}{member}");
        let Some(place) = fields.get(&name) else { continue };
        if reader.list(&place)?.is_empty() {
            if ABSENT_IF_EMPTY.contains(&member) {
                reader.warn(&place, "is an empty list, which is taken as absent".to_owned());
            } else {
                reader.warn(&place, "is an empty list, which is nobody".to_owned());
                nobody = true;
            }
            continue;
        }
        present.push((member, name, place));
    }
    if let [(_, first, _), (_, _, second), ..] = present.as_slice() {
        let reason = format!("cannot stand beside `{first}` in one rule");
        reader.refuse(second, reason, Some("write two rules".to_owned()));
        whole = false;
    }
    let mut peers = None;
    for (member, _, place) in &present {
        match read_member(reader, member, place, scoped) {
            Some(read) => peers = Some(read),
            None => whole = false,
        }
    }
    if !whole {
        return None;
    }
    Some(match peers {
        _ if nobody => Peers::OneOf(Vec::new()),
        Some(peers) => peers,
        None if has_ports => Peers::Any,
        None => Peers::OneOf(Vec::new()),
    })
}

/// Refuses members that left the language, if they say anything.
fn gone(reader: &mut Reader<'_>, fields: &Fields<'_>, prefix: &str) -> bool {
    let Some(place) = fields.get(&format!("{prefix}Requires")) else { return true };
    if reader.list(&place).is_some_and(|items| items.is_empty()) {
        return true;
    }
    if let Field::Refused(reason, fix) = REQUIRES {
        reader.refuse(&place, reason.to_owned(), Some(fix.to_owned()));
    }
    false
}

fn read_member(
    reader: &mut Reader<'_>,
    member: &str,
    place: &Place<'_>,
    scoped: &dyn Fn(Selector) -> Peer,
) -> Option<Peers> {
    match member {
        "Entities" => return entities(reader, place),
        "Groups" => {
            let reason = "needs a cloud provider's interface, which is not asked";
            let fix = "write the addresses with `toCIDRSet`, or keep them in a `CiliumCIDRGroup`";
            reader.refuse(place, reason.to_owned(), Some(fix.to_owned()));
            return None;
        }
        _ => {}
    }
    let items = reader.list(place)?;
    let read: Vec<Option<Peer>> = items
        .iter()
        .map(|item| match member {
            "Endpoints" => selector::read(reader, item, &selector_key).map(scoped),
            "CIDR" => address::range(reader, item, true).map(|net| ranged(net, Vec::new())),
            "CIDRSet" => range_of_set(reader, item),
            "Nodes" => selector::read(reader, item, &own_node_key).map(Peer::Nodes),
            "Services" => service(reader, item),
            _ => name_pattern(reader, item).map(Peer::Name),
        })
        .collect();
    read.into_iter().collect::<Option<_>>().map(Peers::OneOf)
}

fn ranged(net: IpNet, except: Vec<IpNet>) -> Peer {
    Peer::Cidr(CidrPeer { net, except, reach: Reach::World })
}

/// Keys of nodes' labels; the cluster is an identity label.
fn own_node_key(text: &str) -> SelectorKey {
    let bare = text.split_once(':').map_or(text, |(_, key)| key);
    match bare {
        "io.cilium.k8s.policy.cluster" => SelectorKey::k8s(bare),
        _ => node_key(bare),
    }
}

/// A key without the source that it may be written with.
fn bare_key(text: &str) -> SelectorKey {
    SelectorKey::k8s(text.split_once(':').map_or(text, |(_, key)| key))
}

fn range_of_set(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Peer> {
    if place.node.as_str().is_some() {
        // Most often `cidr:` without its space, which has a fix of its own.
        let net = address::range(reader, place, false)?;
        let fix = format!("write `cidr: {net}`");
        reader.refuse(place, "a range here is a mapping, this is a string".to_owned(), Some(fix));
        return None;
    }
    let fields = reader.fields(place, RANGE)?;
    let written: Vec<Place<'_>> = ["cidr", "cidrGroupRef", "cidrGroupSelector"]
        .iter()
        .filter_map(|name| fields.get(name))
        .collect();
    let [one] = written.as_slice() else {
        let reason = "needs exactly one of `cidr`, `cidrGroupRef` and `cidrGroupSelector`";
        reader.refuse(place, reason.to_owned(), None);
        return None;
    };
    let net = match fields.get("cidr") {
        Some(place) => Some(address::range(reader, &place, true)?),
        None => None,
    };
    let except = match fields.get("except") {
        Some(list) => address::exceptions(reader, &list, net, true)?,
        None => Vec::new(),
    };
    if let Some(net) = net {
        return Some(ranged(net, except));
    }
    let groups = match fields.get("cidrGroupRef") {
        Some(place) => GroupSelector::Name(reader.string(&place)?.to_owned()),
        None => GroupSelector::Labels(selector::read(reader, one, &bare_key)?),
    };
    Some(Peer::Group(GroupPeer { groups, except, reach: Reach::World }))
}

fn service(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Peer> {
    let fields = reader.fields(place, SERVICE)?;
    let (services, fields) = match (fields.get("k8sService"), fields.get("k8sServiceSelector")) {
        (Some(place), None) => {
            let fields = reader.fields(&place, SERVICE_NAME)?;
            let Some(name) = fields.get("serviceName") else {
                let reason = "a service needs a name".to_owned();
                reader.refuse(&fields.missing("serviceName"), reason, None);
                return None;
            };
            (ServiceSelector::Name(reader.string(&name)?.to_owned()), fields)
        }
        (None, Some(place)) => {
            let fields = reader.fields(&place, SERVICE_LABELS)?;
            let Some(labels) = fields.get("selector") else {
                let reason = "a selector of services is needed".to_owned();
                reader.refuse(&fields.missing("selector"), reason, None);
                return None;
            };
            (ServiceSelector::Labels(selector::read(reader, &labels, &bare_key)?), fields)
        }
        _ => {
            let reason = "needs exactly one of `k8sService` and `k8sServiceSelector`";
            reader.refuse(place, reason.to_owned(), None);
            return None;
        }
    };
    let namespace = match fields.get("namespace") {
        Some(place) => Some(reader.string(&place)?).filter(|text| !text.is_empty()),
        None => None,
    };
    Some(Peer::Service(ServicePeer { namespace: namespace.map(str::to_owned), services }))
}

fn entities(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Peers> {
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
