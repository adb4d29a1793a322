//! One line a flow, for people: who, what, why, and from which process.
//!
//! The first half is fixed: `Jun 14 09:12:03 DROP pay-svc → ledger-db:5432 TCP
//! policy-denied`. After two spaces comes what Signet knows beyond that: the
//! process and the rule.

use api::flow::detail::{Actor, Carried, Detail};
use api::proto::flow::layer4::Protocol;
use api::proto::flow::{Endpoint, Flow, LostEvent, TrafficDirection, Verdict};
use model::{DropReason, IdentityId, Process, Reserved};
use prost_types::Timestamp;

use super::Style;
use super::flow::{Side, colored, direction, drop_text, policies, with_port};
use super::text::escape;
use super::time::stamp;

/// A rule would let it through on a condition that is not looked at yet.
pub const UNSUPPORTED: &str = "unsupported";

/// A flow; of a reply the ends are swapped, so that the client stays on the left.
pub fn flow(flow: &Flow, style: &Style) -> String {
    let (left, arrow, right) = match flow.is_reply {
        Some(true) => (Side::Destination, "←", Side::Source),
        Some(false) | None => (Side::Source, "→", Side::Destination),
    };
    let detail = flow.extensions.as_ref().and_then(Detail::from_any);
    let node = if style.node { format!("[{}] ", escape(&flow.node_name)) } else { String::new() };
    let line = format!(
        "{} {node}{} {} {arrow} {} {} {}",
        stamp(flow.time.as_ref()),
        colored(flow, word(flow).to_owned(), style.color),
        host(left, flow, style.numeric),
        with_port(&host(right, flow, style.numeric), right.port(flow)),
        protocol(flow),
        reason(flow, detail.as_ref()),
    );
    let more = [
        detail
            .as_ref()
            .filter(|detail| detail.count > 1)
            .map(|detail| format!("×{}", detail.count)),
        detail.as_ref().and_then(|detail| actors(detail, left)),
        detail.as_ref().and_then(explanation),
        detail.as_ref().and_then(shadow),
        namespaces(flow, left, arrow, right),
        pods(flow, left, arrow, right).filter(|_| !style.numeric),
    ];
    let more: Vec<String> = more.into_iter().flatten().collect();
    if more.is_empty() { line } else { format!("{line}  {}", more.join(" ")) }
}

/// A loss.
pub fn lost(lost: &LostEvent, time: Option<&Timestamp>) -> String {
    let (time, source) = (stamp(time), lost.source().as_str_name());
    format!("{time} LOST {} events ({source})", lost.num_events_lost)
}

fn word(flow: &Flow) -> &'static str {
    match Verdict::try_from(flow.verdict).unwrap_or(Verdict::Unknown) {
        Verdict::Forwarded | Verdict::Redirected => "ALLOW",
        Verdict::Dropped => "DROP",
        verdict => verdict.as_str_name(),
    }
}

/// The name of the pod's workload, as the documents print it, or the pod's own; for
/// what is no pod its service, its DNS name, its role, or its address.
fn host(side: Side, flow: &Flow, numeric: bool) -> String {
    let address = side.address(flow);
    let name = if numeric { address } else { name(side, flow).unwrap_or(address) };
    escape(name).into_owned()
}

fn name(side: Side, flow: &Flow) -> Option<&str> {
    let end = side.endpoint(flow);
    let pod = end.map(|end| workload(end).unwrap_or(&end.pod_name));
    let service = || side.service(flow).map(|service| service.name.as_str());
    let role = || end.and_then(|end| role(end.identity));
    pod.filter(|name| !name.is_empty())
        .or_else(|| service().filter(|name| !name.is_empty()))
        .or_else(|| side.names(flow).first().map(String::as_str))
        .or_else(role)
}

/// What people call the pods that one template makes.
fn workload(end: &Endpoint) -> Option<&str> {
    end.workloads.first().map(|workload| workload.name.as_str()).filter(|name| !name.is_empty())
}

/// Which of a workload's pods it was, where the line so far says only the workload.
fn pods(flow: &Flow, left: Side, arrow: &str, right: Side) -> Option<String> {
    let name = |side: Side| host_of_pod(side, flow);
    let hides = |side: Side| {
        let end = side.endpoint(flow);
        end.is_some_and(|end| workload(end).is_some_and(|name| name != end.pod_name))
    };
    let either = hides(left) || hides(right);
    either.then(|| format!("({} {arrow} {})", name(left), name(right)))
}

fn host_of_pod(side: Side, flow: &Flow) -> String {
    let pod = side.endpoint(flow).map(|end| end.pod_name.as_str()).filter(|name| !name.is_empty());
    let name = pod.or_else(|| name(side, flow)).unwrap_or_else(|| side.address(flow));
    escape(name).into_owned()
}

/// The reserved identities of which there is one, or one for each node: the name
/// says more than the address. Of the world it is the other way round.
fn role(identity: u32) -> Option<&'static str> {
    let reserved = Reserved::from_id(IdentityId::try_from(identity).ok()?)?;
    match reserved {
        Reserved::Host
        | Reserved::RemoteNode
        | Reserved::KubeApiserver
        | Reserved::Health
        | Reserved::Ingress => Some(reserved.name()),
        Reserved::World
        | Reserved::WorldIpv4
        | Reserved::WorldIpv6
        | Reserved::Unmanaged
        | Reserved::Init => None,
    }
}

fn protocol(flow: &Flow) -> String {
    match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(Protocol::Tcp(_)) => "TCP".to_owned(),
        Some(Protocol::Udp(_)) => "UDP".to_owned(),
        Some(Protocol::Sctp(_)) => "SCTP".to_owned(),
        // What stands for others says so at the end of the line.
        _ => escape(flow.summary.split("; ").next().unwrap_or_default()).into_owned(),
    }
}

/// Why, in a few words.
fn reason(flow: &Flow, detail: Option<&Detail>) -> String {
    match Verdict::try_from(flow.verdict) {
        Ok(Verdict::Dropped) => return drop_reason(flow, detail),
        Ok(Verdict::Audit) => return "would be denied".to_owned(),
        _ => {}
    }
    if detail.is_some_and(|detail| detail.connection.is_some()) {
        return "ended".to_owned();
    }
    match (detail.map(|detail| detail.reason.as_str()), names(flow).as_str()) {
        (_, names) if !names.is_empty() => format!("allowed by {names}"),
        (Some("unenforced"), _) => "unenforced".to_owned(),
        (Some("established"), _) => "established".to_owned(),
        _ => "allowed".to_owned(),
    }
}

fn drop_reason(flow: &Flow, detail: Option<&Detail>) -> String {
    const NO_RULE: i32 = DropReason::POLICY_DENIED.0 as i32;
    const DENY_RULE: i32 = DropReason::POLICY_DENY.0 as i32;
    if detail.is_some_and(|detail| detail.reason == UNSUPPORTED) {
        return UNSUPPORTED.to_owned();
    }
    match (flow.drop_reason_desc, direction(flow), names(flow).as_str()) {
        (NO_RULE, TrafficDirection::Ingress, _) => "identity not allowed".to_owned(),
        (NO_RULE, _, _) => "policy-denied".to_owned(),
        (DENY_RULE, _, "") => "denied by a rule".to_owned(),
        (DENY_RULE, _, names) => format!("denied by {names}"),
        (code, _, _) => in_sentence(&drop_text(code)),
    }
}

/// Names of the policies that decided, each once.
fn names(flow: &Flow) -> String {
    let mut names: Vec<&str> = policies(flow).map(|policy| policy.name.as_str()).collect();
    names.dedup();
    escape(&names.join(", ")).into_owned()
}

/// Lower case at the start, unless the first word is an abbreviation.
fn in_sentence(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            format!("{}{}", first.to_lowercase(), chars.as_str())
        }
        _ => text.to_owned(),
    }
}

/// `nc[4711] → postgres[88]`: the process on the left, and the other if known.
fn actors(detail: &Detail, left: Side) -> Option<String> {
    let (left, right) = match left {
        Side::Source => (&detail.source, &detail.destination),
        Side::Destination => (&detail.destination, &detail.source),
    };
    let left = match left {
        Actor::Known(process) => Some(actor(process)),
        // An end outside the cluster has no process to be missed.
        Actor::Unknown(why) if why == "not-local" => None,
        Actor::Unknown(why) => Some(format!("?({})", escape(why))),
    };
    let right = match right {
        Actor::Known(process) => Some(actor(process)),
        Actor::Unknown(_) => None,
    };
    match (left, right) {
        (left, None) => left,
        (None, Some(right)) => Some(format!("→ {right}")),
        (Some(left), Some(right)) => Some(format!("{left} → {right}")),
    }
}

pub fn actor(process: &Process) -> String {
    let binary = process.binary.rsplit('/').next().unwrap_or_default();
    let name = if binary.is_empty() { &process.comm } else { binary };
    format!("{}[{}]", escape(name), process.pid)
}

/// Which rule, or the lack of which; of a connection that has ended, what it carried.
fn explanation(detail: &Detail) -> Option<String> {
    if let Some(connection) = &detail.connection {
        return connection.carried.as_ref().map(Carried::in_words);
    }
    let list = |texts: &[String]| escape(&texts.join(", ")).into_owned();
    match detail.reason.as_str() {
        "default-deny" if detail.because.is_empty() => Some("no rule allows it".to_owned()),
        "default-deny" => {
            Some(format!("no rule allows it (default deny: {})", list(&detail.because)))
        }
        "unenforced" => Some("no policy selects it".to_owned()),
        "established" => Some("part of an allowed connection".to_owned()),
        _ if !detail.rules.is_empty() => Some(format!("by {}", list(&detail.rules))),
        _ => None,
    }
}

/// What would have been decided, where that is something else.
fn shadow(detail: &Detail) -> Option<String> {
    let shadow = detail.shadow.as_ref().filter(|shadow| shadow.differs)?;
    Some(format!("shadow: {}", escape(&shadow.in_words())))
}

/// The namespaces, where they differ: the pods' names alone do not tell.
fn namespaces(flow: &Flow, left: Side, arrow: &str, right: Side) -> Option<String> {
    let of = |side: Side| side.endpoint(flow).map_or("", |end| end.namespace.as_str());
    let (left, right) = (of(left), of(right));
    let differ = !left.is_empty() && !right.is_empty() && left != right;
    differ.then(|| format!("[{} {arrow} {}]", escape(left), escape(right)))
}
