//! A decision of the model as Hubble's flow.
//!
//! An allowed decision becomes a policy verdict (event type 5), a drop a drop
//! event (type 1 with the drop code), and what is told of a connection later a
//! trace (type 4), as Cilium's own agent fills them. What Hubble has no field for
//! goes into [`detail`].

pub mod detail;
mod summary;
#[cfg(test)]
mod tests;
mod uuid;

use std::net::IpAddr;

use model::{Direction, End, Layer4, PolicyKind, PolicyMatch, PolicyName, Trace, Verdict};

use crate::proto::flow as proto;
use crate::proto::flow::layer4::Protocol;
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::time::timestamp;
use detail::{Detail, Repeated};
pub use uuid::{NoRandomness, UuidKey};

/// Who made a flow, as it says itself.
pub const EMITTER: &str = "Signet";
/// Event type of a drop.
pub const EVENT_DROP: i32 = 1;
/// Event type of a trace.
pub const EVENT_TRACE: i32 = 4;
/// Event type of a policy verdict.
pub const EVENT_POLICY_VERDICT: i32 = 5;

/// The label that says which cluster a workload is part of.
const CLUSTER_LABEL: &str = "io.cilium.k8s.policy.cluster";

/// The name under which a node's flows go out: its cluster's name stands in
/// front, unless that is the default one.
pub fn node_name(cluster: &str, node: &str) -> String {
    match cluster {
        "" | "default" => node.to_owned(),
        cluster => format!("{cluster}/{node}"),
    }
}

/// One decision in Hubble's form, numbered with the agent's key.
pub fn to_proto(flow: &model::Flow, cluster: &str, uuids: &UuidKey) -> proto::Flow {
    let code = flow.reason.drop_reason().map_or(0, |reason| reason.0);
    let dropped = flow.verdict == Verdict::Dropped;
    let verdict = match flow.verdict {
        Verdict::Dropped => proto::Verdict::Dropped,
        Verdict::Forwarded => proto::Verdict::Forwarded,
    };
    let point = flow.trace.map(|_| observation_point(flow.hook));
    let detail = Detail::of(flow);
    let mut message = proto::Flow {
        time: Some(timestamp(flow.time_ns)),
        uuid: uuids.uuid(flow),
        emitter: Some(proto::Emitter {
            name: EMITTER.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
        verdict: verdict.into(),
        drop_reason: u32::from(code),
        drop_reason_desc: i32::from(code),
        ethernet: Some(proto::Ethernet {
            source: mac(flow.ethernet.0),
            destination: mac(flow.ethernet.1),
        }),
        ip: flow.addresses.map(|(source, destination)| ip(source, destination)),
        l4: flow.l4.and_then(layer4),
        source: Some(endpoint(&flow.source)),
        destination: Some(endpoint(&flow.destination)),
        r#type: proto::FlowType::L3L4.into(),
        source_service: service(&flow.source),
        destination_service: service(&flow.destination),
        node_name: node_name(cluster, &flow.node),
        event_type: Some(event_type(flow, code)),
        trace_observation_point: point.unwrap_or_default().into(),
        trace_reason: trace_reason(flow).into(),
        traffic_direction: direction(flow).into(),
        policy_match_type: flow.policy.as_ref().map_or(0, |policy| policy.match_type.number()),
        // Nobody knows of a drop; what is let through is no answer unless it is known to be
        // one, and Hubble's interface shows only what says so.
        is_reply: (!dropped).then_some(flow.is_reply.unwrap_or(false)),
        interface: Some(proto::NetworkInterface {
            index: flow.interface.0,
            name: flow.interface.1.clone(),
        }),
        summary: summary(flow, &detail),
        extensions: Some(detail.to_any()),
        ..proto::Flow::default()
    };
    if let (Some(policy), Some(judged)) = (&flow.policy, flow.direction) {
        message.policy_log = policy.log.clone();
        let policies = policies(policy);
        match (judged, flow.verdict) {
            (Direction::Egress, Verdict::Forwarded) => message.egress_allowed_by = policies,
            (Direction::Egress, Verdict::Dropped) => message.egress_denied_by = policies,
            (Direction::Ingress, Verdict::Forwarded) => message.ingress_allowed_by = policies,
            (Direction::Ingress, Verdict::Dropped) => message.ingress_denied_by = policies,
        }
    }
    message
}

fn event_type(flow: &model::Flow, code: u8) -> proto::CiliumEventType {
    let (kind, sub_type) = match (flow.trace, flow.verdict) {
        (Some(_), _) => match observation_point(flow.hook) {
            // Hubble's one exception: 0 would be no point at all.
            proto::TraceObservationPoint::ToEndpoint => (EVENT_TRACE, 0),
            point => (EVENT_TRACE, point.into()),
        },
        (None, Verdict::Dropped) => (EVENT_DROP, i32::from(code)),
        (None, Verdict::Forwarded) => (EVENT_POLICY_VERDICT, 0),
    };
    proto::CiliumEventType { r#type: kind, sub_type }
}

/// Where a packet was seen: on its way to the endpoint, or from it to the node's stack.
fn observation_point(hook: Direction) -> proto::TraceObservationPoint {
    match hook {
        Direction::Ingress => proto::TraceObservationPoint::ToEndpoint,
        Direction::Egress => proto::TraceObservationPoint::ToStack,
    }
}

fn trace_reason(flow: &model::Flow) -> proto::TraceReason {
    match (flow.trace, flow.is_reply) {
        (None, _) => proto::TraceReason::Unknown,
        (Some(_), Some(true)) => proto::TraceReason::Reply,
        (Some(_), _) => proto::TraceReason::Established,
    }
}

/// What travelled, and for clients that do not show the extensions, what would have
/// been decided otherwise, and what a connection carried.
fn summary(flow: &model::Flow, detail: &Detail) -> String {
    let mut summary = summary::of(flow);
    if let Some(Trace::End(Some(carried))) = &flow.trace {
        summary = format!("{summary}; {}", detail::Carried::from(carried).in_words());
    }
    match detail.shadow.as_ref().filter(|shadow| shadow.differs) {
        Some(shadow) => format!("{summary}; shadow: {}", shadow.in_words()),
        None => summary,
    }
}

/// A flow that stands for others like it. The number is where Hubble's exporter has
/// it, in the extensions, and, for clients that show neither, in the summary.
pub fn repeated(mut flow: proto::Flow, times: Repeated) -> proto::Flow {
    let Repeated { count, bytes, first_ns } = times;
    let number = u32::try_from(count).unwrap_or(u32::MAX);
    let mut aggregate = proto::Aggregate::default();
    match flow.traffic_direction() {
        proto::TrafficDirection::Ingress => aggregate.ingress_flow_count = number,
        proto::TrafficDirection::Egress => aggregate.egress_flow_count = number,
        proto::TrafficDirection::Unknown => aggregate.unknown_direction_flow_count = number,
    }
    flow.aggregate = Some(aggregate);
    if count > 1 {
        flow.summary = format!("{}; {count} times", flow.summary);
    }
    let detail = flow.extensions.as_ref().and_then(Detail::from_any);
    flow.extensions = detail.map(|detail| Detail { count, bytes, first_ns, ..detail }.to_any());
    flow
}

/// A flow as one item of an observer's answer.
pub fn to_response(flow: proto::Flow) -> GetFlowsResponse {
    GetFlowsResponse {
        node_name: flow.node_name.clone(),
        time: flow.time,
        response_types: Some(ResponseTypes::Flow(flow)),
    }
}

/// The judged direction; for a drop, the side on which it was dropped, which for
/// an answer is the other one.
fn direction(flow: &model::Flow) -> proto::TrafficDirection {
    let judged = flow.direction.filter(|_| flow.verdict == Verdict::Forwarded);
    match judged.unwrap_or(flow.hook) {
        Direction::Ingress => proto::TrafficDirection::Ingress,
        Direction::Egress => proto::TrafficDirection::Egress,
    }
}

fn mac(bytes: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = bytes;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

fn ip(source: IpAddr, destination: IpAddr) -> proto::Ip {
    let version = if source.is_ipv4() { proto::IpVersion::IPv4 } else { proto::IpVersion::IPv6 };
    proto::Ip {
        source: source.to_string(),
        destination: destination.to_string(),
        ip_version: version.into(),
        ..proto::Ip::default()
    }
}

/// `None` for protocols that Hubble has no message for: the summary names them.
fn layer4(l4: Layer4) -> Option<proto::Layer4> {
    let ports = |source, destination| (u32::from(source), u32::from(destination));
    let protocol = match l4 {
        Layer4::Tcp { source, destination, flags } => {
            let (source_port, destination_port) = ports(source, destination);
            let set = |bit: u8| flags.0 & 1 << bit != 0;
            let flags = proto::TcpFlags {
                fin: set(0),
                syn: set(1),
                rst: set(2),
                psh: set(3),
                ack: set(4),
                urg: set(5),
                ece: set(6),
                cwr: set(7),
                ns: false,
            };
            Protocol::Tcp(proto::Tcp { source_port, destination_port, flags: Some(flags) })
        }
        Layer4::Udp { source, destination } => {
            let (source_port, destination_port) = ports(source, destination);
            Protocol::Udp(proto::Udp { source_port, destination_port })
        }
        Layer4::Sctp { source, destination } => {
            let (source_port, destination_port) = ports(source, destination);
            Protocol::Sctp(proto::Sctp { source_port, destination_port })
        }
        Layer4::Icmpv4(message) => Protocol::IcmPv4(proto::IcmPv4 {
            r#type: message.kind.into(),
            code: message.code.into(),
        }),
        Layer4::Icmpv6(message) => Protocol::IcmPv6(proto::IcmPv6 {
            r#type: message.kind.into(),
            code: message.code.into(),
        }),
        Layer4::Other(_) => return None,
    };
    Some(proto::Layer4 { protocol: Some(protocol) })
}

fn endpoint(end: &End) -> proto::Endpoint {
    let workloads = end
        .workload
        .iter()
        .map(|(kind, name)| proto::Workload { name: name.clone(), kind: kind.clone() });
    proto::Endpoint {
        id: end.endpoint_id,
        identity: end.identity.map_or(0, u32::from),
        cluster_name: end.labels.get(CLUSTER_LABEL).map_or_else(String::new, |l| l.value.clone()),
        namespace: end.namespace.clone(),
        labels: end.labels.to_strings(),
        pod_name: end.pod.clone(),
        workloads: workloads.collect(),
    }
}

fn service(end: &End) -> Option<proto::Service> {
    let (namespace, name) = end.service.clone()?;
    Some(proto::Service { name, namespace })
}

/// The policies of a decision, each once: those of its rules, or those that
/// switched default deny on.
fn policies(policy: &PolicyMatch) -> Vec<proto::Policy> {
    let mut names: Vec<&PolicyName> =
        policy.rules.iter().map(|rule| &rule.policy).chain(&policy.because).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| policy_message(name, policy.revision)).collect()
}

fn policy_message(policy: &PolicyName, revision: u32) -> proto::Policy {
    let label = |key: &str, value: &str| format!("k8s:io.cilium.k8s.policy.{key}={value}");
    let kind = PolicyKind::as_str(policy.kind);
    let mut labels = vec![label("derived-from", kind), label("name", &policy.name)];
    labels.extend(policy.namespace.as_deref().map(|namespace| label("namespace", namespace)));
    proto::Policy {
        name: policy.name.clone(),
        namespace: policy.namespace.clone().unwrap_or_default(),
        labels,
        revision: revision.into(),
        kind: kind.to_owned(),
    }
}
