//! Subjects and peers of administrators' policies.

use model::Direction;
use policy::{
    Action, CidrPeer, NamePattern, Operator, Peer, Reach, Requirement, Selector, SelectorKey,
    node_key,
};

use crate::address;
use crate::fields::{Field, Place, Reader, Schema};
use crate::kubernetes::NAMESPACE_LABELS;
use crate::selector;
use crate::tiered::Version;

const SUBJECT: Schema = &[("namespaces", Field::Read), ("pods", Field::Read)];
const EGRESS: Schema = &[
    ("namespaces", Field::Read),
    ("pods", Field::Read),
    ("nodes", Field::Read),
    ("networks", Field::Read),
    ("domainNames", Field::Read),
];
const PODS: Schema = &[("namespaceSelector", Field::Read), ("podSelector", Field::Read)];

/// The most networks or names in one peer.
const MOST: usize = 25;

/// Reads peers of a rule.
pub(super) fn read(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    version: Version,
    direction: Direction,
    action: Option<Action>,
) -> Option<Vec<Peer>> {
    let items = reader.list(place)?;
    let most = version.most();
    if items.is_empty() || items.len() > most {
        let reason = format!("has {} peers, 1 to {most} are allowed", items.len());
        reader.refuse(place, reason, None);
        return None;
    }
    let read: Vec<Option<Vec<Peer>>> = items
        .iter()
        .map(|item| match direction {
            Direction::Ingress => pods(reader, item).map(|selector| vec![local(selector)]),
            Direction::Egress => egress(reader, item, version, action),
        })
        .collect();
    read.into_iter().collect::<Option<Vec<_>>>().map(|peers| peers.concat())
}

fn local(selector: Selector) -> Peer {
    Peer::LocalEndpoints(selector)
}

fn egress(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    version: Version,
    action: Option<Action>,
) -> Option<Vec<Peer>> {
    let fields = reader.fields(place, EGRESS)?;
    let names: Vec<&str> =
        EGRESS.iter().map(|(name, _)| *name).filter(|name| fields.get(name).is_some()).collect();
    let [name] = names.as_slice() else {
        return one_of(reader, place, EGRESS);
    };
    let member = fields.get(name)?;
    match *name {
        "nodes" => {
            let nodes = selector::read(reader, &member, &|key: &str| node_key(key))?;
            Some(vec![Peer::Nodes(nodes)])
        }
        "networks" => {
            let items = bounded(reader, &member)?;
            let read: Vec<Option<Peer>> = items
                .iter()
                .map(|item| {
                    let net = address::range(reader, item, false)?;
                    let (except, reach) = (Vec::new(), Reach::Everybody);
                    Some(Peer::Cidr(CidrPeer { net, except, reach }))
                })
                .collect();
            read.into_iter().collect()
        }
        "domainNames" => {
            let refused = match (version, action) {
                (Version::Baseline, _) => Some("names stand in no baseline"),
                (_, Some(Action::Deny | Action::Pass)) => {
                    Some("names stand in rules that accept only")
                }
                _ => None,
            };
            if let Some(reason) = refused {
                reader.refuse(&member, reason.to_owned(), None);
                return None;
            }
            let items = bounded(reader, &member)?;
            let read: Vec<Option<Peer>> =
                items.iter().map(|item| domain(reader, item).map(Peer::Name)).collect();
            read.into_iter().collect()
        }
        _ => pods(reader, place).map(|selector| vec![local(selector)]),
    }
}

fn bounded<'p>(reader: &mut Reader<'_>, place: &Place<'p>) -> Option<Vec<Place<'p>>> {
    let items = reader.list(place)?;
    if items.is_empty() || items.len() > MOST {
        reader.refuse(
            place,
            format!("has {} elements, 1 to {MOST} are allowed", items.len()),
            None,
        );
        return None;
    }
    Some(items)
}

/// A name; a star in front is one or more whole labels.
fn domain(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<NamePattern> {
    let text = reader.string(place)?;
    let parsed = match text.strip_prefix("*.") {
        Some(rest) => {
            NamePattern::name(rest).and_then(|_| NamePattern::pattern(&format!("**.{rest}")))
        }
        None => NamePattern::name(text),
    };
    match parsed {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            reader.refuse(place, error.to_string(), Some("a star stands in front only".to_owned()));
            None
        }
    }
}

/// Pods, by their namespaces' labels or by those and their own.
pub(super) fn pods(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Selector> {
    let fields = reader.fields(place, SUBJECT)?;
    let in_cluster = Requirement {
        key: SelectorKey::k8s("io.kubernetes.pod.namespace"),
        operator: Operator::Exists,
    };
    let of_namespace = |key: &str| SelectorKey::k8s(format!("{NAMESPACE_LABELS}{key}"));
    let mut selector = match (fields.get("namespaces"), fields.get("pods")) {
        (Some(place), None) => selector::read(reader, &place, &of_namespace)?,
        (None, Some(place)) => {
            let fields = reader.fields(&place, PODS)?;
            let (Some(namespaces), Some(pods)) =
                (fields.get("namespaceSelector"), fields.get("podSelector"))
            else {
                let reason = "needs `namespaceSelector` and `podSelector`".to_owned();
                reader.refuse(&place, reason, Some("`{}` is all of them".to_owned()));
                return None;
            };
            let mut both = selector::read(reader, &namespaces, &of_namespace)?;
            let pods = selector::read(reader, &pods, &|key: &str| SelectorKey::k8s(key))?;
            pods.requirements().cloned().for_each(|more| both.insert(more));
            both
        }
        _ => return one_of(reader, place, SUBJECT),
    };
    selector.insert(in_cluster);
    Some(selector)
}

fn one_of<T>(reader: &mut Reader<'_>, place: &Place<'_>, schema: Schema) -> Option<T> {
    let names: Vec<String> = schema.iter().map(|(name, _)| format!("`{name}`")).collect();
    let reason = format!("needs exactly one of {}", names.join(", "));
    reader.refuse(place, reason, Some("`namespaces: {}` is every pod".to_owned()));
    None
}
