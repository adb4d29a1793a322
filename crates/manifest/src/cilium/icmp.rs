//! `icmps` of a rule (facts: `policy.md` section 5.2).

use policy::{Port, PortMatch, Transport};

use crate::document::Value;
use crate::fields::{Field, Place, Reader, Schema};

const RULE: Schema = &[("fields", Field::Read)];
const FIELD: Schema = &[("family", Field::Read), ("type", Field::Read)];

/// The most fields in one element.
const MAX_FIELDS: usize = 40;

/// Names of ICMP types (RFC 792 and its successors).
const V4: [(&str, u16); 14] = [
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEchoRequest", 42),
    ("ExtendedEchoReply", 43),
];

/// Names of ICMPv6 types (RFC 4443 and its successors).
const V6: [(&str, u16); 25] = [
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];
/// Two more, whose names are long.
const V6_SUFFIX: [(&str, u16); 2] =
    [("DuplicateAddressRequestCodeSuffix", 157), ("DuplicateAddressConfirmationCodeSuffix", 158)];

/// Reads `icmps`; an empty list is the same as none, `None` inside.
pub(super) fn read(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Option<Vec<PortMatch>>> {
    let items = reader.list(place)?;
    if items.is_empty() {
        return Some(None);
    }
    let mut types = Vec::new();
    let mut whole = true;
    for item in items {
        let fields = reader.fields(&item, RULE)?;
        let Some(list) = fields.get("fields") else { continue };
        let entries = reader.list(&list)?;
        if entries.len() > MAX_FIELDS {
            let reason = format!("has {} fields, at most {MAX_FIELDS} are allowed", entries.len());
            reader.refuse(&list, reason, Some("use a second element of `icmps`".to_owned()));
            whole = false;
        }
        for entry in entries {
            match field(reader, &entry) {
                Some(one) => types.push(one),
                None => whole = false,
            }
        }
    }
    whole.then_some(Some(types))
}

fn field(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<PortMatch> {
    let fields = reader.fields(place, FIELD)?;
    let v6 = match fields.get("family") {
        None => false,
        Some(place) => match reader.string(&place)? {
            "" | "IPv4" => false,
            "IPv6" => true,
            _ => {
                let fix = "write IPv4 or IPv6".to_owned();
                reader.refuse(&place, "there is no such family".to_owned(), Some(fix));
                return None;
            }
        },
    };
    let Some(place) = fields.get("type") else {
        reader.refuse(&fields.missing("type"), "an ICMP type is needed".to_owned(), None);
        return None;
    };
    let number = match &place.node.value {
        Value::String(text) => match text.parse::<u8>() {
            Ok(number) => u16::from(number),
            Err(_) => named(reader, &place, text, v6)?,
        },
        _ => u16::try_from(reader.integer(&place, 0, 255)?).ok()?,
    };
    let transport = Transport::Number(if v6 { 58 } else { 1 });
    Some(PortMatch { transport, port: Port::Range(number, number) })
}

fn named(reader: &mut Reader<'_>, place: &Place<'_>, text: &str, v6: bool) -> Option<u16> {
    let find = |v6: bool| {
        let names = if v6 { [&V6[..], &V6_SUFFIX].concat() } else { V4.to_vec() };
        names.iter().find(|(name, _)| *name == text).map(|(_, number)| *number)
    };
    if let Some(number) = find(v6) {
        return Some(number);
    }
    let family = if v6 { "IPv6" } else { "IPv4" };
    let reason = format!("there is no ICMP type of this name in {family}");
    let fix = match find(!v6) {
        Some(_) => format!("write `family: {}`", if v6 { "IPv4" } else { "IPv6" }),
        None => "write its number".to_owned(),
    };
    reader.refuse(place, reason, Some(fix));
    None
}
