//! The smallest rule that would allow what was denied.

use std::fmt::Write as _;

use model::{Direction, Labels, Source};

use crate::question::answer::{Side, SideAnswer};
use crate::scope::{CLUSTER, POD_NAMESPACE};

/// Labels that say best which workload a pod is; the first that is there.
const BEST: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];

/// What to write, or what to change, so that a denied packet passes.
pub(super) fn fix(side: &Side, answer: &SideAnswer) -> String {
    match answer.reason {
        "deny-rule" => {
            let rules: Vec<String> = answer.rules.iter().map(|rule| format!("`{rule}`")).collect();
            format!(
                "no rule of the same tier can allow it: take it out of what {} denies",
                rules.join(", ")
            )
        }
        "unsupported" => {
            let rules: Vec<String> = answer.rules.iter().map(|rule| format!("`{rule}`")).collect();
            format!("make {} ask for the same, or for other peers or ports", rules.join(" and "))
        }
        "auth-required" => "give both ends an identity, or take `authentication` out".to_owned(),
        _ => policy(side),
    }
}

/// A policy with one rule.
fn policy(side: &Side) -> String {
    let namespace = side.subject.labels.get(POD_NAMESPACE).map(|label| label.value.as_str());
    let mut text = String::from("apiVersion: cilium.io/v2\n");
    let node = side.subject.labels.has_reserved("host");
    let (kind, place) = match namespace {
        Some(namespace) => ("CiliumNetworkPolicy", format!(", namespace: {namespace}")),
        None => ("CiliumClusterwideNetworkPolicy", String::new()),
    };
    let selector = if node { "nodeSelector" } else { "endpointSelector" };
    let (list, prefix) = match side.direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let subject = workload(&side.subject.labels);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "kind: {kind}\nmetadata: {{name: allow-this{place}}}\nspec:\n  {selector}: \
         {subject}\n  {list}:\n  - {prefix}{}\n{}",
        peer(side, namespace),
        ports(side),
    );
    if let (Some(name), Direction::Egress) = (&side.name, side.direction) {
        // What a name stands for is learnt where it is asked for.
        let _ = write!(
            text,
            "  - toEndpoints: [{{matchLabels: {{\"k8s:{POD_NAMESPACE}\": kube-system, k8s-app: \
             kube-dns}}}}]\n    toPorts: [{{ports: [{{port: \"53\", protocol: ANY}}], rules: {{dns: \
             [{{matchName: \"{name}\"}}]}}}}]\n"
        );
    }
    text
}

/// A selector for a workload.
fn workload(labels: &Labels) -> String {
    let own: Vec<String> = own_labels(labels);
    if own.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{matchLabels: {{{}}}}}", own.join(", "))
    }
}

fn own_labels(labels: &Labels) -> Vec<String> {
    let is_own = |key: &str| !key.starts_with("io.cilium.k8s.") && key != POD_NAMESPACE;
    let text = |key: &str, value: &str| format!("{key}: \"{value}\"");
    let best = BEST
        .iter()
        .find_map(|key| labels.get(key).filter(|label| label.source == Source::K8s))
        .map(|label| vec![text(&label.key, &label.value)]);
    best.unwrap_or_else(|| {
        labels
            .iter()
            .filter(|label| label.source == Source::K8s && is_own(&label.key))
            .map(|label| text(&label.key, &label.value))
            .collect()
    })
}

/// The member of a rule that names the other end, less its `from` or `to`.
fn peer(side: &Side, namespace: Option<&str>) -> String {
    let labels = &side.peer;
    const ENTITIES: [&str; 7] =
        ["kube-apiserver", "host", "remote-node", "health", "ingress", "init", "unmanaged"];
    if let Some(entity) = ENTITIES.iter().find(|name| labels.has_reserved(name)) {
        return format!("Entities: [{entity}]");
    }
    if let (Some(name), Direction::Egress) = (&side.name, side.direction) {
        return format!("FQDNs: [{{matchName: \"{name}\"}}]");
    }
    if labels.has_reserved("world") {
        let range =
            labels.iter().find(|label| label.source == Source::Cidr && !label.key.ends_with("/0"));
        return match range {
            Some(label) => format!("CIDR: [\"{}\"]", label.key.replace('-', ":")),
            None => "Entities: [world]".to_owned(),
        };
    }
    let mut own = own_labels(labels);
    let theirs = labels.get(POD_NAMESPACE).map(|label| label.value.as_str());
    if let Some(theirs) = theirs.filter(|theirs| Some(*theirs) != namespace) {
        own.push(format!("\"k8s:{POD_NAMESPACE}\": {theirs}"));
    }
    let cluster = labels.get(CLUSTER).map(|label| label.value.as_str());
    let local = side.subject.labels.get(CLUSTER).map(|label| label.value.as_str());
    if let Some(cluster) = cluster.filter(|cluster| Some(*cluster) != local) {
        own.push(format!("\"k8s:{CLUSTER}\": {cluster}"));
    }
    format!("Endpoints: [{{matchLabels: {{{}}}}}]", own.join(", "))
}

fn ports(side: &Side) -> String {
    match side.protocol {
        1 | 58 => {
            let family = if side.protocol == 1 { "IPv4" } else { "IPv6" };
            format!("    icmps: [{{fields: [{{family: {family}, type: {}}}]}}]\n", side.port)
        }
        6 | 17 | 132 => format!(
            "    toPorts: [{{ports: [{{port: \"{}\", protocol: {}}}]}}]\n",
            side.port,
            protocol_name(side.protocol)
        ),
        other => format!("    toPorts: [{{ports: [{{protocol: {}}}]}}]\n", protocol_name(other)),
    }
}

/// A protocol's name.
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        2 => "IGMP".to_owned(),
        4 => "IPIP".to_owned(),
        41 => "IPV6".to_owned(),
        47 => "GRE".to_owned(),
        50 => "ESP".to_owned(),
        51 => "AH".to_owned(),
        112 => "VRRP".to_owned(),
        other => format!("protocol {other}"),
    }
}
