//! What each filter flag does with its value: checks what a client can check and
//! puts it into its field. What only a server can judge goes as it is.

use api::proto::flow::{
    DropReason, EventTypeFilter, FlowFilter, HttpHeader, IpVersion, NetworkInterface, TcpFlags,
    TrafficDirection, Verdict, Workload,
};
use model::Reserved;

use super::flag::Strings;
use crate::observe::flow::TRACE_POINTS;

fn push(field: Strings, filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    field(filter).push(value.to_owned());
    Ok(())
}

pub(super) fn source_ip(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_ip, filter, value)
}

pub(super) fn destination_ip(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_ip, filter, value)
}

pub(super) fn source_label(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_label, filter, value)
}

pub(super) fn destination_label(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_label, filter, value)
}

pub(super) fn protocol(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.protocol, filter, value)
}

pub(super) fn node_name(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.node_name, filter, value)
}

pub(super) fn uuid(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.uuid, filter, value)
}

pub(super) fn translated_ip(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_ip_xlated, filter, value)
}

pub(super) fn source_fqdn(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_fqdn, filter, value)
}

pub(super) fn destination_fqdn(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_fqdn, filter, value)
}

pub(super) fn source_cluster(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_cluster_name, filter, value)
}

pub(super) fn destination_cluster(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_cluster_name, filter, value)
}

pub(super) fn http_status(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.http_status_code, filter, value)
}

pub(super) fn http_method(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.http_method, filter, value)
}

pub(super) fn http_path(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.http_path, filter, value)
}

pub(super) fn http_url(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.http_url, filter, value)
}

pub(super) fn dns_query(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.dns_query, filter, value)
}

pub(super) fn node_label(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.node_labels, filter, value)
}

pub(super) fn trace_id(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.trace_id, filter, value)
}

pub(super) fn http_header(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let (key, value) = value.split_once(':').ok_or("give NAME:VALUE")?;
    filter.http_header.push(HttpHeader { key: key.to_owned(), value: value.trim().to_owned() });
    Ok(())
}

pub(super) fn encrypted(filter: &mut FlowFilter, encrypted: bool) -> Result<(), String> {
    filter.encrypted.push(encrypted);
    Ok(())
}

pub(super) fn reply(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.reply.push(value.parse().map_err(|_| "give true or false")?);
    Ok(())
}

pub(super) fn ip_trace_id(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.ip_trace_id.push(value.parse().map_err(|_| "give a number")?);
    Ok(())
}

/// What the extensions say is asked of the server as an expression. A flow whose
/// shadow is not known matches none.
pub(super) fn shadow(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let expression = match value {
        "allowed" | "denied" => format!("_flow.extensions.shadow.verdict == '{value}'"),
        "differs" => "_flow.extensions.shadow.differs == true".to_owned(),
        _ => return Err("give allowed, denied or differs".to_owned()),
    };
    cel(filter, &expression)
}

pub(super) fn cel(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let experimental = filter.experimental.get_or_insert_default();
    experimental.cel_expression.push(value.to_owned());
    Ok(())
}

fn port(value: &str) -> Result<&str, String> {
    value.parse::<u16>().map(|_| value).map_err(|_| "a port is a number up to 65535".to_owned())
}

pub(super) fn source_port(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_port, filter, port(value)?)
}

pub(super) fn destination_port(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_port, filter, port(value)?)
}

/// The world has a number for each address family where there are both.
const WORLD: [Reserved; 3] = [Reserved::World, Reserved::WorldIpv4, Reserved::WorldIpv6];

fn identities(value: &str) -> Result<Vec<u32>, String> {
    let reserved = Reserved::ALL.into_iter().find(|reserved| reserved.name() == value);
    match (reserved, value) {
        (Some(Reserved::World), _) => Ok(WORLD.map(|world| world.id().into()).to_vec()),
        (Some(reserved), _) => Ok(vec![reserved.id().into()]),
        (None, "unknown") => Ok(vec![0]),
        (None, value) => match value.parse() {
            Ok(number) => Ok(vec![number]),
            Err(_) => Err("an identity is a number or a reserved name".to_owned()),
        },
    }
}

pub(super) fn source_identity(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.source_identity.extend(identities(value)?);
    Ok(())
}

pub(super) fn destination_identity(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.destination_identity.extend(identities(value)?);
    Ok(())
}

fn workload(value: &str) -> Workload {
    let (kind, name) = value.split_once('/').unwrap_or(("", value));
    Workload { name: name.to_owned(), kind: kind.to_owned() }
}

pub(super) fn source_workload(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.source_workload.push(workload(value));
    Ok(())
}

pub(super) fn destination_workload(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.destination_workload.push(workload(value));
    Ok(())
}

pub(super) fn verdict(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let verdict = Verdict::from_str_name(&value.to_ascii_uppercase())
        .ok_or("verdicts are FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED")?;
    filter.verdict.push(verdict.into());
    Ok(())
}

pub(super) fn drop_reason(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let reason = DropReason::from_str_name(&value.to_ascii_uppercase())
        .ok_or("not the name of a drop reason")?;
    filter.drop_reason_desc.push(reason.into());
    Ok(())
}

pub(super) fn traffic_direction(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let direction = match value.to_ascii_lowercase().as_str() {
        "ingress" => TrafficDirection::Ingress,
        "egress" => TrafficDirection::Egress,
        _ => return Err("directions are ingress and egress".to_owned()),
    };
    filter.traffic_direction.push(direction.into());
    Ok(())
}

pub(super) fn ip_version(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let version = match value.to_ascii_lowercase().trim_start_matches("ip").trim_start_matches('v')
    {
        "4" => IpVersion::IPv4,
        "6" => IpVersion::IPv6,
        _ => return Err("versions are 4 and 6".to_owned()),
    };
    filter.ip_version.push(version.into());
    Ok(())
}

pub(super) fn interface(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.interface.push(NetworkInterface { index: 0, name: value.to_owned() });
    Ok(())
}

pub(super) fn tcp_flags(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let mut flags = TcpFlags::default();
    for name in value.split(',') {
        let flag = match name.to_ascii_uppercase().as_str() {
            "FIN" => &mut flags.fin,
            "SYN" => &mut flags.syn,
            "RST" => &mut flags.rst,
            "PSH" => &mut flags.psh,
            "ACK" => &mut flags.ack,
            "URG" => &mut flags.urg,
            "ECE" => &mut flags.ece,
            "CWR" => &mut flags.cwr,
            "NS" => &mut flags.ns,
            _ => return Err(format!("`{name}` is no TCP flag")),
        };
        *flag = true;
    }
    filter.tcp_flags.push(flags);
    Ok(())
}

/// Names of event types with their numbers.
const TYPES: [(&str, i32); 6] = [
    ("drop", 1),
    ("capture", 3),
    ("trace", 4),
    ("policy-verdict", 5),
    ("trace-sock", 7),
    ("l7", 129),
];

pub(super) fn event_type(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let (kind, subtype) = match value.split_once(':') {
        Some((kind, subtype)) => (kind, Some(subtype)),
        None => (value, None),
    };
    let number = match TYPES.iter().find(|(name, _)| *name == kind) {
        Some((_, number)) => *number,
        None => kind.parse().map_err(
            |_| "types are drop, capture, trace, policy-verdict, trace-sock, l7, or a number",
        )?,
    };
    let named = |text: &str| TRACE_POINTS.iter().position(|point| *point == text);
    let subtype = match subtype {
        None => None,
        Some(text) => match named(text).filter(|_| kind == "trace") {
            Some(point) => i32::try_from(point).ok(),
            None => Some(text.parse().map_err(|_| format!("`{text}` is no subtype of {kind}"))?),
        },
    };
    filter.event_type.push(EventTypeFilter {
        r#type: number,
        match_sub_type: subtype.is_some(),
        sub_type: subtype.unwrap_or(0),
    });
    Ok(())
}
