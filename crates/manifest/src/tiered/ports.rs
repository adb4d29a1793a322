//! Protocols and ports of administrators' policies.

use policy::{Peer, Port, PortMatch, Ports, Transport};

use crate::fields::{Field, Fields, Place, Reader, Schema};
use crate::tiered::Version;

const PROTOCOL: Schema = &[
    ("tcp", Field::Read),
    ("udp", Field::Read),
    ("sctp", Field::Read),
    ("destinationNamedPort", Field::Read),
];
const DESTINATION: Schema = &[("destinationPort", Field::Read)];
const DESTINATION_PORT: Schema = &[("number", Field::Read), ("range", Field::Read)];
const RANGE: Schema = &[("start", Field::Read), ("end", Field::Read)];
const OLD: Schema =
    &[("portNumber", Field::Read), ("portRange", Field::Read), ("namedPort", Field::Read)];
const OLD_NUMBER: Schema = &[("protocol", Field::Read), ("port", Field::Read)];
const OLD_RANGE: Schema =
    &[("protocol", Field::Read), ("start", Field::Read), ("end", Field::Read)];

/// Reads the ports of a rule; without any, all.
pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    version: Version,
) -> Option<Ports> {
    let name = if version == Version::Cluster { "protocols" } else { "ports" };
    let Some(place) = fields.get(name) else { return Some(Ports::All) };
    let items = reader.list(&place)?;
    let most = version.most();
    if items.is_empty() || items.len() > most {
        let reason = format!("has {} elements, 1 to {most} are allowed", items.len());
        reader.refuse(&place, reason, Some("leave it out for all ports".to_owned()));
        return None;
    }
    let read: Vec<Option<PortMatch>> = items
        .iter()
        .map(|item| match version {
            Version::Cluster => protocol(reader, item),
            Version::Admin | Version::Baseline => old(reader, item),
        })
        .collect();
    read.into_iter().collect::<Option<_>>().map(Ports::OneOf)
}

/// Names of ports mean something for pods only.
pub(super) fn check_names(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    ports: &Ports,
    peers: &[Peer],
) -> Option<()> {
    let Ports::OneOf(list) = ports else { return Some(()) };
    let named = list.iter().any(|entry| matches!(entry.port, Port::Named(_)));
    let pods = |peer: &Peer| matches!(peer, Peer::LocalEndpoints(_));
    if named && !peers.iter().all(pods) {
        let reason = "names of ports mean something for pods only".to_owned();
        reader.refuse(place, reason, Some("write the number".to_owned()));
        return None;
    }
    Some(())
}

fn exactly_one<'p>(
    reader: &mut Reader<'_>,
    place: &Place<'p>,
    schema: Schema,
) -> Option<(&'static str, Place<'p>)> {
    let fields = reader.fields(place, schema)?;
    let mut written: Vec<(&str, Place<'p>)> =
        schema.iter().filter_map(|(name, _)| Some((*name, fields.get(name)?))).collect();
    if written.len() == 1 {
        return written.pop();
    }
    let names: Vec<String> = schema.iter().map(|(name, _)| format!("`{name}`")).collect();
    reader.refuse(place, format!("needs exactly one of {}", names.join(", ")), None);
    None
}

fn protocol(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<PortMatch> {
    let (name, member) = exactly_one(reader, place, PROTOCOL)?;
    let transport = match name {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        "sctp" => Transport::Sctp,
        _ => return named(reader, &member),
    };
    let fields = reader.fields(&member, DESTINATION)?;
    let Some(port) = fields.get("destinationPort") else {
        return Some(PortMatch { transport, port: Port::Any });
    };
    let (name, member) = exactly_one(reader, &port, DESTINATION_PORT)?;
    let port = match name {
        "number" => {
            let number = u16::try_from(reader.integer(&member, 1, 65_535)?).ok()?;
            Port::Range(number, number)
        }
        _ => {
            let fields = reader.fields(&member, RANGE)?;
            range(reader, &member, &fields)?
        }
    };
    Some(PortMatch { transport, port })
}

fn range(reader: &mut Reader<'_>, place: &Place<'_>, fields: &Fields<'_>) -> Option<Port> {
    let (Some(start), Some(end)) = (fields.get("start"), fields.get("end")) else {
        reader.refuse(place, "a range needs `start` and `end`".to_owned(), None);
        return None;
    };
    let first = reader.integer(&start, 1, 65_535)?;
    let last = reader.integer(&end, 1, 65_535)?;
    if last <= first {
        reader.refuse(&end, "a range ends behind its start".to_owned(), None);
        return None;
    }
    Some(Port::Range(u16::try_from(first).ok()?, u16::try_from(last).ok()?))
}

fn named(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<PortMatch> {
    let text = reader.string(place)?;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 15 || !text.bytes().all(legal) {
        reader.refuse(place, "is no name of a port".to_owned(), None);
        return None;
    }
    Some(PortMatch { transport: Transport::Any, port: Port::Named(text.to_owned()) })
}

fn old(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<PortMatch> {
    let (name, member) = exactly_one(reader, place, OLD)?;
    if name == "namedPort" {
        return named(reader, &member);
    }
    let schema = if name == "portNumber" { OLD_NUMBER } else { OLD_RANGE };
    let fields = reader.fields(&member, schema)?;
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
    let port = match fields.get("port") {
        Some(place) => {
            let number = u16::try_from(reader.integer(&place, 1, 65_535)?).ok()?;
            Port::Range(number, number)
        }
        None if name == "portNumber" => {
            reader.refuse(&fields.missing("port"), "a port is needed".to_owned(), None);
            return None;
        }
        None => range(reader, &member, &fields)?,
    };
    Some(PortMatch { transport, port })
}
