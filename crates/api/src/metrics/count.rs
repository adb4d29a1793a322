//! What each metric counts of a flow.

use super::context;
use super::family::{Families, Family, Labels};
use super::plugin::{Kind, Plugin};
use crate::flow::{EVENT_DROP, EVENT_POLICY_VERDICT, EVENT_TRACE};
use crate::proto::flow::layer4::Protocol;
use crate::proto::flow::layer7::Record;
use crate::proto::flow::{
    Dns, DropReason, Flow, Http, IpVersion, L7FlowType, TcpFlags, TraceObservationPoint,
    TrafficDirection, Verdict,
};

const EVENT_CAPTURE: i32 = 3;
const EVENT_L7: i32 = 129;

/// Identities of the world: as such, and by family.
const WORLD: [u32; 3] = [2, 9, 10];
/// The node itself.
const HOST: u32 = 1;

/// Names of policy matches by number.
const MATCHES: [&str; 7] = ["none", "l3-only", "l3-l4", "l4-only", "all", "l3-proto", "proto-only"];

/// Counts a flow that happened so many times in one metric.
pub(super) fn flow(families: &mut Families, plugin: &Plugin, flow: &Flow, times: u64) {
    let context = || {
        let more = context::labels(plugin, flow);
        let about = context::pods(&more, flow);
        (more, about)
    };
    let mut add = |family: Family, labels: Labels| {
        let (more, about) = context();
        families.add(family, labels.into_iter().chain(more).collect(), &about, times);
    };
    match plugin.kind {
        Kind::Flow => add(Family::FlowsProcessed, processed(flow)),
        Kind::Drop => {
            if is(flow, Verdict::Dropped) {
                let reason = flow.drop_reason_desc().as_str_name().to_owned();
                add(Family::Drop, vec![("reason", reason), ("protocol", protocol(flow))]);
            }
        }
        Kind::Tcp => {
            let let_through = is(flow, Verdict::Forwarded) || is(flow, Verdict::Redirected);
            for flag in tcp(flow).filter(|_| let_through).map(flags).unwrap_or_default() {
                let family = vec![("flag", flag.to_owned()), ("family", ip_family(flow))];
                add(Family::TcpFlags, family);
            }
        }
        Kind::Icmp => {
            if let Some(labels) = icmp(flow) {
                add(Family::Icmp, labels);
            }
        }
        Kind::PortDistribution => {
            if let Some(port) = port(flow)
                && is(flow, Verdict::Forwarded)
                && flow.is_reply != Some(true)
            {
                let labels = vec![("protocol", protocol(flow)), ("port", port)];
                add(Family::PortDistribution, labels);
            }
        }
        Kind::Policy => {
            if let Some(labels) = policy(flow) {
                add(Family::PolicyVerdicts, labels);
            }
        }
        Kind::FlowsToWorld { any_drop, port, syn_only } => {
            if is_to_world(flow, any_drop, syn_only) {
                add(Family::FlowsToWorld, to_world(flow, port));
            }
        }
        Kind::Dns { query, ignore_aaaa } => {
            if let Some((dns, is_answer)) = dns(flow)
                && !(ignore_aaaa && dns.qtypes == ["AAAA"])
            {
                for (family, labels) in questions(dns, is_answer, query) {
                    add(family, labels);
                }
            }
        }
        Kind::Http => {
            if let Some((http, seconds)) = http(flow) {
                add(Family::HttpRequests, requests(flow, http));
                let method = vec![("method", http.method.clone()), ("reporter", reporter(flow))];
                let (more, about) = context();
                let labels = method.into_iter().chain(more).collect();
                families.observe(Family::HttpRequestDuration, labels, &about, seconds);
            }
        }
    }
}

fn is(flow: &Flow, verdict: Verdict) -> bool {
    flow.verdict == i32::from(verdict)
}

fn l4(flow: &Flow) -> Option<&Protocol> {
    flow.l4.as_ref()?.protocol.as_ref()
}

fn l7(flow: &Flow) -> Option<&Record> {
    flow.l7.as_ref()?.record.as_ref()
}

fn protocol(flow: &Flow) -> String {
    let name = match (l7(flow), l4(flow)) {
        (Some(Record::Http(_)), _) => "HTTP",
        (Some(Record::Dns(_)), _) => "DNS",
        (Some(Record::Kafka(_)), _) => "Kafka",
        (None, Some(Protocol::Tcp(_))) => "TCP",
        (None, Some(Protocol::Udp(_))) => "UDP",
        (None, Some(Protocol::Sctp(_))) => "SCTP",
        (None, Some(Protocol::IcmPv4(_))) => "ICMPv4",
        (None, Some(Protocol::IcmPv6(_))) => "ICMPv6",
        (None, Some(Protocol::Vrrp(_))) => "VRRP",
        (None, Some(Protocol::Igmp(_))) => "IGMP",
        (None, None) => "Unknown",
    };
    name.to_owned()
}

fn ip_family(flow: &Flow) -> String {
    let version = flow.ip.as_ref().map_or(IpVersion::IpNotUsed, |ip| ip.ip_version());
    version.as_str_name().to_owned()
}

/// Protocol, kind of event, and verdict.
fn processed(flow: &Flow) -> Labels {
    let event = flow.event_type.as_ref().map_or(0, |event| event.r#type);
    let (kind, subtype) = match event {
        EVENT_DROP => ("Drop", String::new()),
        EVENT_CAPTURE => ("Capture", flow.debug_capture_point().as_str_name().to_owned()),
        EVENT_TRACE => ("Trace", point(flow.trace_observation_point())),
        EVENT_POLICY_VERDICT => ("PolicyVerdict", String::new()),
        EVENT_L7 => ("L7", protocol(flow)),
        _ => ("Unknown", String::new()),
    };
    vec![
        ("protocol", protocol(flow)),
        ("type", kind.to_owned()),
        ("subtype", subtype),
        ("verdict", flow.verdict().as_str_name().to_owned()),
    ]
}

/// `to-endpoint`.
fn point(point: TraceObservationPoint) -> String {
    point.as_str_name().to_ascii_lowercase().replace('_', "-")
}

fn tcp(flow: &Flow) -> Option<&TcpFlags> {
    match l4(flow)? {
        Protocol::Tcp(tcp) => tcp.flags.as_ref(),
        _ => None,
    }
}

/// The flags that tell of a connection's life.
fn flags(flags: &TcpFlags) -> Vec<&'static str> {
    let syn = match (flags.syn, flags.ack) {
        (true, true) => Some("SYN-ACK"),
        (true, false) => Some("SYN"),
        (false, _) => None,
    };
    let fin = flags.fin.then_some("FIN");
    let rst = flags.rst.then_some("RST");
    [fin, syn, rst].into_iter().flatten().collect()
}

/// Family and name of an ICMP message: the words of the summary.
fn icmp(flow: &Flow) -> Option<Labels> {
    let family = match l4(flow)? {
        Protocol::IcmPv4(_) => "IPv4",
        Protocol::IcmPv6(_) => "IPv6",
        _ => return None,
    };
    let name = flow.summary.split_once(' ').map_or("", |(_, name)| name);
    Some(vec![("family", family.to_owned()), ("type", name.to_owned())])
}

fn port(flow: &Flow) -> Option<String> {
    Some(match l4(flow)? {
        Protocol::Tcp(tcp) => tcp.destination_port.to_string(),
        Protocol::Udp(udp) => udp.destination_port.to_string(),
        Protocol::Sctp(sctp) => sctp.destination_port.to_string(),
        Protocol::IcmPv4(_) | Protocol::IcmPv6(_) => "0".to_owned(),
        Protocol::Vrrp(_) | Protocol::Igmp(_) => return None,
    })
}

fn is_denied(flow: &Flow) -> bool {
    let reason = flow.drop_reason_desc();
    reason == DropReason::PolicyDenied || reason == DropReason::PolicyDeny
}

/// A policy's decision: a verdict, or a drop for a reason that only policies have.
fn policy(flow: &Flow) -> Option<Labels> {
    let event = flow.event_type.as_ref()?.r#type;
    let decided = event == EVENT_POLICY_VERDICT || event == EVENT_DROP && is_denied(flow);
    let host = flow.source.as_ref().is_some_and(|end| end.identity == HOST);
    if !decided || host {
        return None;
    }
    let direction = match flow.traffic_direction() {
        TrafficDirection::Ingress => "ingress",
        TrafficDirection::Egress => "egress",
        TrafficDirection::Unknown => "unknown",
    };
    let number = usize::try_from(flow.policy_match_type).ok();
    let matched = number.and_then(|number| MATCHES.get(number)).copied().unwrap_or("none");
    Some(vec![
        ("direction", direction.to_owned()),
        ("match", matched.to_owned()),
        ("action", flow.verdict().as_str_name().to_ascii_lowercase()),
    ])
}

fn is_to_world(flow: &Flow, any_drop: bool, syn_only: bool) -> bool {
    let world = flow.destination.as_ref().is_some_and(|end| WORLD.contains(&end.identity));
    let counted = any_drop || !is(flow, Verdict::Dropped) || is_denied(flow);
    let opening = tcp(flow).is_none_or(|flags| flags.syn && !flags.ack);
    world && counted && flow.is_reply != Some(true) && (!syn_only || opening)
}

fn to_world(flow: &Flow, with_port: bool) -> Labels {
    let mut labels =
        vec![("protocol", protocol(flow)), ("verdict", flow.verdict().as_str_name().to_owned())];
    if with_port {
        labels.push(("port", port(flow).unwrap_or_default()));
    }
    labels
}

/// The record, and whether it is an answer.
fn dns(flow: &Flow) -> Option<(&Dns, bool)> {
    let is_answer = flow.l7.as_ref()?.r#type() == L7FlowType::Response;
    match l7(flow)? {
        Record::Dns(dns) => Some((dns, is_answer)),
        Record::Http(_) | Record::Kafka(_) => None,
    }
}

fn questions(dns: &Dns, is_answer: bool, query: bool) -> Vec<(Family, Labels)> {
    let rcode = match (is_answer, dns.rcode) {
        (false, _) => String::new(),
        (true, 0) => "No Error".to_owned(),
        (true, 1) => "Format Error".to_owned(),
        (true, 2) => "Server Failure".to_owned(),
        (true, 3) => "Non-Existent Domain".to_owned(),
        (true, 4) => "Not Implemented".to_owned(),
        (true, 5) => "Query Refused".to_owned(),
        (true, code) => code.to_string(),
    };
    let name = query.then(|| ("query", dns.query.clone()));
    let qtypes = dns.qtypes.join(",");
    let labels: Labels =
        [("rcode", rcode), ("qtypes", qtypes.clone()), ("ips_returned", dns.ips.len().to_string())]
            .into_iter()
            .chain(name.clone())
            .collect();
    if !is_answer {
        return vec![(Family::DnsQueries, labels)];
    }
    let types = dns.rrtypes.iter().map(|kind| {
        let labels = [("type", kind.clone()), ("qtypes", qtypes.clone())];
        (Family::DnsResponseTypes, labels.into_iter().chain(name.clone()).collect())
    });
    std::iter::once((Family::DnsResponses, labels)).chain(types).collect()
}

/// An answered request, and how long it took.
fn http(flow: &Flow) -> Option<(&Http, f64)> {
    let record = flow.l7.as_ref()?;
    match l7(flow)? {
        Record::Http(http) if record.r#type() == L7FlowType::Response => {
            Some((http, record.latency_ns as f64 / 1e9))
        }
        Record::Http(_) | Record::Dns(_) | Record::Kafka(_) => None,
    }
}

fn requests(flow: &Flow, http: &Http) -> Labels {
    vec![
        ("method", http.method.clone()),
        ("protocol", http.protocol.clone()),
        ("status", http.code.to_string()),
        ("reporter", reporter(flow)),
    ]
}

/// Whose proxy saw it: that of the client, or of the server.
fn reporter(flow: &Flow) -> String {
    let reporter = match flow.traffic_direction() {
        TrafficDirection::Ingress => "server",
        TrafficDirection::Egress => "client",
        TrafficDirection::Unknown => "unknown",
    };
    reporter.to_owned()
}
