//! The table of filter flags: a row says which fields of a `FlowFilter` a flag's
//! value goes to. Knows nothing about how flags combine.

use api::proto::flow::{
    DropReason, EventTypeFilter, FlowFilter, IpVersion, NetworkInterface, TcpFlags,
    TrafficDirection, Verdict, Workload,
};
use model::Reserved;

use Effect::{Both, Either, Pod};

use crate::observe::flow::TRACE_POINTS;

type Strings = fn(&mut FlowFilter) -> &mut Vec<String>;
pub(super) type Apply = fn(&mut FlowFilter, &str) -> Result<(), String>;

/// Where a flag's value goes.
pub(super) enum Effect {
    /// The source on the left, the destination on the right.
    Either(Apply, Apply),
    /// The same in both.
    Both(Apply),
    /// Part of a pod's name: joined with its other part first.
    Pod(Part, Ends),
}

impl Effect {
    /// Whether it gives this part of the pod at these ends.
    pub(super) fn is_pod(&self, part: Part, ends: Ends) -> bool {
        matches!(self, Pod(p, e) if *p == part && *e == ends)
    }
}

/// Which part of a pod's name.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    Namespace,
    Name,
}

/// Of which end.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ends {
    Either,
    From,
    To,
}

/// A row: the flag as it is written, and what it does.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    pub(super) effect: Effect,
}

const fn flag(name: &'static str, value: &'static str, help: &'static str, effect: Effect) -> Flag {
    Flag { name, short: None, value, help, effect }
}

const fn short(short: char, flag: Flag) -> Flag {
    let Flag { name, value, help, effect, .. } = flag;
    Flag { name, short: Some(short), value, help, effect }
}

/// In the order of `--help`.
pub(super) const FLAGS: &[Flag] = &[
    flag("verdict", "VERDICT", "FORWARDED, DROPPED, AUDIT, ...", Both(verdict)),
    short(
        'n',
        flag(
            "namespace",
            "NS",
            "Either end is in this namespace",
            Pod(Part::Namespace, Ends::Either),
        ),
    ),
    flag(
        "from-namespace",
        "NS",
        "The source is in this namespace",
        Pod(Part::Namespace, Ends::From),
    ),
    flag(
        "to-namespace",
        "NS",
        "The destination is in this namespace",
        Pod(Part::Namespace, Ends::To),
    ),
    flag(
        "pod",
        "[NS/]PREFIX",
        "Either end is a pod whose name starts so",
        Pod(Part::Name, Ends::Either),
    ),
    flag("from-pod", "[NS/]PREFIX", "The source is such a pod", Pod(Part::Name, Ends::From)),
    flag("to-pod", "[NS/]PREFIX", "The destination is such a pod", Pod(Part::Name, Ends::To)),
    flag("ip", "ADDR[/LEN]", "Either end has this address", Either(source_ip, destination_ip)),
    flag("from-ip", "ADDR[/LEN]", "The source has this address", Both(source_ip)),
    flag("to-ip", "ADDR[/LEN]", "The destination has this address", Both(destination_ip)),
    flag("port", "PORT", "Either end has this port", Either(source_port, destination_port)),
    flag("from-port", "PORT", "The source has this port", Both(source_port)),
    flag("to-port", "PORT", "The destination has this port", Both(destination_port)),
    flag("protocol", "NAME", "tcp, udp, sctp, icmp, icmpv4, icmpv6, ...", Both(protocol)),
    short(
        't',
        flag(
            "type",
            "TYPE[:SUB]",
            "drop, policy-verdict, trace, ... or a number",
            Both(event_type),
        ),
    ),
    short(
        'l',
        flag("label", "SELECTOR", "Labels of either end", Either(source_label, destination_label)),
    ),
    flag("from-label", "SELECTOR", "Labels of the source", Both(source_label)),
    flag("to-label", "SELECTOR", "Labels of the destination", Both(destination_label)),
    flag(
        "identity",
        "ID",
        "Identity of either end, number or reserved name",
        Either(source_identity, destination_identity),
    ),
    flag("from-identity", "ID", "Identity of the source", Both(source_identity)),
    flag("to-identity", "ID", "Identity of the destination", Both(destination_identity)),
    flag(
        "workload",
        "[KIND/]NAME",
        "Owner of the pod at either end",
        Either(source_workload, destination_workload),
    ),
    flag(
        "node-name",
        "PATTERN",
        "Node that saw it: NODE, CLUSTER/NODE, CLUSTER/, with *",
        Both(node_name),
    ),
    flag(
        "drop-reason-desc",
        "REASON",
        "POLICY_DENIED, POLICY_DENY, INVALID_SOURCE_IP, ...",
        Both(drop_reason),
    ),
    flag("traffic-direction", "DIRECTION", "ingress or egress", Both(traffic_direction)),
    flag("tcp-flags", "FLAG,...", "All of these TCP flags are set", Both(tcp_flags)),
    flag("ip-version", "VERSION", "4 or 6", Both(ip_version)),
    flag("interface", "NAME", "Network interface on which it was judged", Both(interface)),
    flag("uuid", "UUID", "This very flow", Both(uuid)),
];

fn push(field: Strings, filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    field(filter).push(value.to_owned());
    Ok(())
}

fn source_ip(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_ip, filter, value)
}

fn destination_ip(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_ip, filter, value)
}

fn source_label(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_label, filter, value)
}

fn destination_label(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_label, filter, value)
}

fn protocol(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.protocol, filter, value)
}

fn node_name(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.node_name, filter, value)
}

fn uuid(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.uuid, filter, value)
}

fn port(value: &str) -> Result<&str, String> {
    value.parse::<u16>().map(|_| value).map_err(|_| "a port is a number up to 65535".to_owned())
}

fn source_port(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.source_port, filter, port(value)?)
}

fn destination_port(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    push(|filter| &mut filter.destination_port, filter, port(value)?)
}

fn identity(value: &str) -> Result<u32, String> {
    let reserved = Reserved::ALL.into_iter().find(|reserved| reserved.name() == value);
    match (reserved, value) {
        (Some(reserved), _) => Ok(reserved.id().into()),
        (None, "unknown") => Ok(0),
        (None, value) => {
            value.parse().map_err(|_| "an identity is a number or a reserved name".to_owned())
        }
    }
}

fn source_identity(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.source_identity.push(identity(value)?);
    Ok(())
}

fn destination_identity(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.destination_identity.push(identity(value)?);
    Ok(())
}

fn workload(value: &str) -> Workload {
    let (kind, name) = value.split_once('/').unwrap_or(("", value));
    Workload { name: name.to_owned(), kind: kind.to_owned() }
}

fn source_workload(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.source_workload.push(workload(value));
    Ok(())
}

fn destination_workload(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.destination_workload.push(workload(value));
    Ok(())
}

fn verdict(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let verdict = Verdict::from_str_name(&value.to_ascii_uppercase())
        .ok_or("verdicts are FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED")?;
    filter.verdict.push(verdict.into());
    Ok(())
}

fn drop_reason(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let reason = DropReason::from_str_name(&value.to_ascii_uppercase())
        .ok_or("not the name of a drop reason")?;
    filter.drop_reason_desc.push(reason.into());
    Ok(())
}

fn traffic_direction(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let direction = match value.to_ascii_lowercase().as_str() {
        "ingress" => TrafficDirection::Ingress,
        "egress" => TrafficDirection::Egress,
        _ => return Err("directions are ingress and egress".to_owned()),
    };
    filter.traffic_direction.push(direction.into());
    Ok(())
}

fn ip_version(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    let version = match value.to_ascii_lowercase().trim_start_matches("ip").trim_start_matches('v')
    {
        "4" => IpVersion::IPv4,
        "6" => IpVersion::IPv6,
        _ => return Err("versions are 4 and 6".to_owned()),
    };
    filter.ip_version.push(version.into());
    Ok(())
}

fn interface(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
    filter.interface.push(NetworkInterface { index: 0, name: value.to_owned() });
    Ok(())
}

fn tcp_flags(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
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

fn event_type(filter: &mut FlowFilter, value: &str) -> Result<(), String> {
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
