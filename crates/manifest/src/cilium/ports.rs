//! `toPorts` of a rule (facts: `policy.md` section 1.4).

use model::Direction;
use policy::{Port, PortMatch, Ports, Transport};

use crate::fields::{Field, Fields, Place, Reader, Schema};

const L7: &str = "rules for what is inside the connection are not supported yet";

const PORT_RULE: Schema = &[
    ("ports", Field::Read),
    ("rules", Field::Refused(L7, "")),
    ("terminatingTLS", Field::Refused(L7, "")),
    ("originatingTLS", Field::Refused(L7, "")),
    ("serverNames", Field::Refused(L7, "")),
    ("listener", Field::Refused("listeners are not supported yet", "")),
];

const PORT: Schema = &[("port", Field::Read), ("endPort", Field::Read), ("protocol", Field::Read)];

/// The most ports in one element of `toPorts`.
const MAX_PORTS: usize = 40;

/// What `toPorts` says.
pub(super) enum Written {
    /// It is not there, or an empty list: no restriction.
    Absent,
    /// Only these; an element without ports adds none, but is there.
    These(Vec<PortMatch>),
}

impl Written {
    pub fn is_present(&self) -> bool {
        matches!(self, Self::These(_))
    }

    pub fn into_ports(self) -> Ports {
        match self {
            Self::Absent => Ports::All,
            Self::These(list) => Ports::OneOf(list),
        }
    }
}

/// Reads `toPorts`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    direction: Direction,
) -> Option<Written> {
    let items = reader.list(place)?;
    if items.is_empty() {
        return Some(Written::Absent);
    }
    let mut ports = Vec::new();
    let mut whole = true;
    for item in items {
        let Some(fields) = reader.fields(&item, PORT_RULE) else {
            whole = false;
            continue;
        };
        let Some(list) = fields.get("ports") else { continue };
        let Some(entries) = reader.list(&list) else {
            whole = false;
            continue;
        };
        if entries.len() > MAX_PORTS {
            let reason = format!("has {} ports, at most {MAX_PORTS} are allowed", entries.len());
            reader.refuse(&list, reason, Some("use a second element of `toPorts`".to_owned()));
            whole = false;
        }
        for entry in entries {
            match port(reader, &entry, direction) {
                Some(port) => ports.push(port),
                None => whole = false,
            }
        }
    }
    whole.then_some(Written::These(ports))
}

fn port(reader: &mut Reader<'_>, place: &Place<'_>, direction: Direction) -> Option<PortMatch> {
    let fields = reader.fields(place, PORT)?;
    let transport = transport(reader, &fields);
    let Some(port_place) = fields.get("port") else {
        let fix = "`port: \"0\"` is every port".to_owned();
        reader.refuse(&fields.missing("port"), "a port is needed".to_owned(), Some(fix));
        return None;
    };
    let first = match number_or_name(reader, &port_place, direction)? {
        Port::Range(first, _) => first,
        other => return Some(PortMatch { transport: transport?, port: other }),
    };
    let last = match fields.get("endPort") {
        Some(end) => u16::try_from(reader.integer(&end, 0, 65_535)?).ok()?,
        None => first,
    };
    let port = match (first, last) {
        (0, 0 | u16::MAX) => Port::Any,
        (0, _) => {
            let reason = "port 0 is every port and begins no range".to_owned();
            reader.refuse(&port_place, reason, Some("begin at \"1\"".to_owned()));
            return None;
        }
        // An end that is not behind the beginning is ignored.
        (first, last) => Port::Range(first, last.max(first)),
    };
    Some(PortMatch { transport: transport?, port })
}

fn transport(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Transport> {
    let Some(place) = fields.get("protocol") else { return Some(Transport::Any) };
    match reader.string(&place)? {
        "" | "ANY" => Some(Transport::Any),
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        "SCTP" => Some(Transport::Sctp),
        known @ ("VRRP" | "IGMP" | "GRE" | "IPIP" | "IPV6" | "ESP" | "AH" | "ICMP" | "ICMPv6") => {
            reader.refuse(&place, format!("`{known}` is not supported yet"), None);
            None
        }
        other => {
            let upper = other.to_ascii_uppercase();
            let fix = match upper.as_str() {
                "TCP" | "UDP" | "SCTP" | "ANY" => format!("write {upper}"),
                _ => "write TCP, UDP, SCTP or ANY".to_owned(),
            };
            let reason = format!("there is no protocol `{}`", other.escape_debug());
            reader.refuse(&place, reason, Some(fix));
            None
        }
    }
}

/// Digits are a number, octal if they begin with 0, as the reference system
/// reads them; anything else is a name.
fn number_or_name(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    direction: Direction,
) -> Option<Port> {
    let text = reader.string(&place.clone())?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let octal = text.strip_prefix('0').filter(|rest| !rest.is_empty());
        let number = match octal {
            Some(digits) => u16::from_str_radix(digits, 8),
            None => text.parse(),
        };
        return match number {
            Ok(number) => Some(Port::Range(number, number)),
            Err(_) => {
                let reason = match octal {
                    Some(_) => "is no port: a number that begins with 0 is octal",
                    None => "is no port: they end at 65535",
                };
                reader.refuse(place, reason.to_owned(), None);
                None
            }
        };
    }
    let name = text.to_ascii_lowercase();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 15 || !name.bytes().all(legal) {
        let reason = "is neither a number nor a name of a port".to_owned();
        reader.refuse(place, reason, None);
        return None;
    }
    match direction {
        Direction::Ingress => Some(Port::Named(name)),
        Direction::Egress => {
            let reason = "names of ports are not supported in egress rules yet".to_owned();
            reader.refuse(place, reason, Some("write the number".to_owned()));
            None
        }
    }
}
