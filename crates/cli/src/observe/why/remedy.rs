//! What would have let a dropped flow through, as a policy that can be applied.
//!
//! The narrowest rule for this flow: its two ends by their labels, its protocol
//! and port. Says so where no rule can help. Decides nothing: whether the flow
//! should be let through is for a person to say.

use api::flow::detail::Detail;
use api::proto::flow::layer4::Protocol;
use api::proto::flow::{Endpoint, Flow, TrafficDirection, Verdict};
use model::{DropReason, IdentityId, Reserved};

use super::super::brief::UNSUPPORTED;
use super::super::flow::{Side, direction};
use super::super::text::escape;

/// Labels that say where a workload is, not what it is.
const PLACES: [&str; 2] = ["k8s:io.kubernetes.pod.namespace", "k8s:io.cilium.k8s.policy.cluster"];

/// The remedy, as text of one or more lines.
pub(super) fn of(flow: &Flow, detail: Option<&Detail>) -> String {
    if flow.verdict != i32::from(Verdict::Dropped) {
        return "it was not dropped".to_owned();
    }
    let code = u8::try_from(flow.drop_reason_desc).map(DropReason).unwrap_or(DropReason(0));
    match code {
        _ if detail.is_some_and(|detail| detail.reason == UNSUPPORTED) => unsupported(detail),
        DropReason::POLICY_DENY => {
            let rules = detail.map(|detail| detail.rules.join(", ")).unwrap_or_default();
            format!("no allowing rule can: narrow or remove {}", escape(&rules))
        }
        DropReason::POLICY_DENIED => rule(flow)
            .unwrap_or_else(|| "a rule for its two ends (they have no labels here)".to_owned()),
        code => format!("no policy can: the packet path refused it ({})", code.text()),
    }
}

/// A rule of addresses and ports would let through what the condition was written to
/// hold back as well.
fn unsupported(detail: Option<&Detail>) -> String {
    let rules = detail.map(|detail| detail.rules.join(", ")).filter(|rules| !rules.is_empty());
    let rules = rules.unwrap_or_else(|| "the rule".to_owned());
    format!(
        "nothing yet, without giving up the condition of {}:\na rule of addresses and ports lets \
         through all that the condition holds back",
        escape(&rules)
    )
}

/// A policy of one rule for the end that was judged.
fn rule(flow: &Flow) -> Option<String> {
    let (subject, peer, word) = match direction(flow) {
        TrafficDirection::Egress => (Side::Source, Side::Destination, "egress"),
        TrafficDirection::Ingress => (Side::Destination, Side::Source, "ingress"),
        TrafficDirection::Unknown => return None,
    };
    let subject = subject.endpoint(flow)?;
    let selector = selector(subject, None)?;
    let preposition = if word == "egress" { "to" } else { "from" };
    let peer = self::peer(flow, peer, &subject.namespace, preposition)?;
    let port = port(flow).map(|port| format!("\n    {port}")).unwrap_or_default();
    Some(format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: allow-{word}, namespace: {}}}\n\
         spec:\n  endpointSelector: {selector}\n  {word}:\n  - {peer}{port}",
        quoted(&subject.namespace)
    ))
}

/// The other end: by its labels, its role, or its address.
fn peer(flow: &Flow, side: Side, namespace: &str, preposition: &str) -> Option<String> {
    let end = side.endpoint(flow)?;
    let reserved = IdentityId::try_from(end.identity).ok().and_then(Reserved::from_id);
    match reserved {
        Some(Reserved::World | Reserved::WorldIpv4 | Reserved::WorldIpv6) => {
            let address: std::net::IpAddr = side.address(flow).parse().ok()?;
            let length = if address.is_ipv4() { 32 } else { 128 };
            Some(format!("{preposition}CIDR: ['{address}/{length}']"))
        }
        Some(reserved) => Some(format!("{preposition}Entities: [{}]", reserved.name())),
        None => {
            let other = (end.namespace != namespace).then_some(end.namespace.as_str());
            Some(format!("{preposition}Endpoints: [{}]", selector(end, other)?))
        }
    }
}

/// What the workload is; `namespace` where it lies in another.
fn selector(end: &Endpoint, namespace: Option<&str>) -> Option<String> {
    let of = |label: &String| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        let of_pod = name.strip_prefix("k8s:").filter(|key| !key.starts_with("io.c"))?;
        let place = PLACES.contains(&name) || of_pod.starts_with("io.kubernetes.");
        (!place).then(|| format!("{}: {}", quoted(of_pod), quoted(value)))
    };
    let mut labels: Vec<String> = end.labels.iter().filter_map(of).collect();
    if labels.is_empty() {
        return None;
    }
    if let Some(namespace) = namespace {
        labels.push(format!("{}: {}", quoted(PLACES[0]), quoted(namespace)));
    }
    Some(format!("{{matchLabels: {{{}}}}}", labels.join(", ")))
}

fn port(flow: &Flow) -> Option<String> {
    let protocol = match flow.l4.as_ref()?.protocol.as_ref()? {
        Protocol::Tcp(_) => "TCP",
        Protocol::Udp(_) => "UDP",
        Protocol::Sctp(_) => "SCTP",
        Protocol::IcmPv4(icmp) => return Some(icmp_rule("IPv4", icmp.r#type)),
        Protocol::IcmPv6(icmp) => return Some(icmp_rule("IPv6", icmp.r#type)),
        Protocol::Vrrp(_) | Protocol::Igmp(_) => return None,
    };
    let port = Side::Destination.port(flow);
    Some(format!("toPorts: [{{ports: [{{port: '{port}', protocol: {protocol}}}]}}]"))
}

fn icmp_rule(family: &str, kind: u32) -> String {
    format!("icmps: [{{fields: [{{family: {family}, type: {kind}}}]}}]")
}

/// A text that YAML reads as text, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if plain { text.to_owned() } else { format!("'{}'", escape(text).replace('\'', "''")) }
}
