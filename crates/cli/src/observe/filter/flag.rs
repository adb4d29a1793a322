//! The table of filter flags: a row says which fields of a `FlowFilter` a flag's
//! value goes to. Knows nothing about how flags combine.

use api::proto::flow::FlowFilter;

use Effect::{Both, Either, Object};

use super::apply::{
    cel, destination_cluster, destination_fqdn, destination_identity, destination_ip,
    destination_label, destination_port, destination_workload, dns_query, drop_reason, encrypted,
    event_type, http_header, http_method, http_path, http_status, http_url, interface, ip_trace_id,
    ip_version, node_label, node_name, protocol, reply, shadow, source_cluster, source_fqdn,
    source_identity, source_ip, source_label, source_port, source_workload, tcp_flags, trace_id,
    traffic_direction, translated_ip, uuid, verdict,
};

pub(super) type Strings = fn(&mut FlowFilter) -> &mut Vec<String>;
pub(super) type Apply = fn(&mut FlowFilter, &str) -> Result<(), String>;

/// Both are expressions, of which any may hold: together they would not mean what
/// flags that differ mean.
pub(super) const EXPRESSION: &str = "cel-expression";
pub(super) const SHADOW: &str = "shadow";

/// Where a flag's value goes.
pub(super) enum Effect {
    /// The source on the left, the destination on the right.
    Either(Apply, Apply),
    /// The same in both.
    Both(Apply),
    /// Part of a pod's or service's name: joined with its other part first.
    Object(Part, Ends),
}

impl Effect {
    /// Whether it gives this part of a name at these ends.
    pub(super) fn is_object(&self, part: Part, ends: Ends) -> bool {
        matches!(self, Object(p, e) if *p == part && *e == ends)
    }
}

/// Which part of a name.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    Namespace,
    /// A pod's own name.
    Name,
    /// A service's own name.
    Service,
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

impl Flag {
    /// Whether it stands alone, without a value.
    pub(super) fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
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
            Object(Part::Namespace, Ends::Either),
        ),
    ),
    flag(
        "from-namespace",
        "NS",
        "The source is in this namespace",
        Object(Part::Namespace, Ends::From),
    ),
    flag(
        "to-namespace",
        "NS",
        "The destination is in this namespace",
        Object(Part::Namespace, Ends::To),
    ),
    flag(
        "pod",
        "[NS/]PREFIX",
        "Either end is a pod whose name starts so",
        Object(Part::Name, Ends::Either),
    ),
    flag("from-pod", "[NS/]PREFIX", "The source is such a pod", Object(Part::Name, Ends::From)),
    flag("to-pod", "[NS/]PREFIX", "The destination is such a pod", Object(Part::Name, Ends::To)),
    short(
        'A',
        flag("all-namespaces", "", "Pods of any namespace", Object(Part::Namespace, Ends::Either)),
    ),
    flag(
        "from-all-namespaces",
        "",
        "The source is a pod of any namespace",
        Object(Part::Namespace, Ends::From),
    ),
    flag(
        "to-all-namespaces",
        "",
        "The destination is a pod of any namespace",
        Object(Part::Namespace, Ends::To),
    ),
    flag(
        "service",
        "[NS/]PREFIX",
        "Either end was reached as a service whose name starts so",
        Object(Part::Service, Ends::Either),
    ),
    flag(
        "from-service",
        "[NS/]PREFIX",
        "The source is such a service",
        Object(Part::Service, Ends::From),
    ),
    flag(
        "to-service",
        "[NS/]PREFIX",
        "The destination is such a service",
        Object(Part::Service, Ends::To),
    ),
    flag("ip", "ADDR[/LEN]", "Either end has this address", Either(source_ip, destination_ip)),
    flag("from-ip", "ADDR[/LEN]", "The source has this address", Both(source_ip)),
    flag("to-ip", "ADDR[/LEN]", "The destination has this address", Both(destination_ip)),
    flag(
        "snat-ip",
        "ADDR[/LEN]",
        "The source's address was translated to this",
        Both(translated_ip),
    ),
    flag(
        "fqdn",
        "PATTERN",
        "DNS name of either end, with *",
        Either(source_fqdn, destination_fqdn),
    ),
    flag("from-fqdn", "PATTERN", "DNS name of the source", Both(source_fqdn)),
    flag("to-fqdn", "PATTERN", "DNS name of the destination", Both(destination_fqdn)),
    flag("port", "PORT", "Either end has this port", Either(source_port, destination_port)),
    flag("from-port", "PORT", "The source has this port", Both(source_port)),
    flag("to-port", "PORT", "The destination has this port", Both(destination_port)),
    flag("protocol", "NAME", "tcp, udp, sctp, icmp, icmpv4, icmpv6, ...", Both(protocol)),
    short(
        't',
        flag(
            "type",
            "TYPE[:SUB]",
            "drop, policy-verdict (denials by policy among them), trace, ... or a number",
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
    flag("from-workload", "[KIND/]NAME", "Owner of the source's pod", Both(source_workload)),
    flag(
        "to-workload",
        "[KIND/]NAME",
        "Owner of the destination's pod",
        Both(destination_workload),
    ),
    flag("cluster", "NAME", "Cluster of either end", Either(source_cluster, destination_cluster)),
    flag("from-cluster", "NAME", "Cluster of the source", Both(source_cluster)),
    flag("to-cluster", "NAME", "Cluster of the destination", Both(destination_cluster)),
    flag("http-status", "CODE", "404, or its first digits: 40+, 4+", Both(http_status)),
    flag("http-method", "METHOD", "GET, POST, ...", Both(http_method)),
    flag("http-path", "REGEX", "Path of the request", Both(http_path)),
    flag("http-url", "REGEX", "Whole URL of the request", Both(http_url)),
    flag("http-header", "NAME:VALUE", "A header of the request or answer", Both(http_header)),
    flag("dns-query", "REGEX", "Name that was asked for", Both(dns_query)),
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
    short('4', flag("ipv4", "", "IPv4 only", Both(|filter, _| ip_version(filter, "4")))),
    short('6', flag("ipv6", "", "IPv6 only", Both(|filter, _| ip_version(filter, "6")))),
    flag("encrypted", "", "Encrypted between nodes", Both(|filter, _| encrypted(filter, true))),
    flag(
        "unencrypted",
        "",
        "Not encrypted between nodes",
        Both(|filter, _| encrypted(filter, false)),
    ),
    flag("reply", "BOOL", "Answers (true) or what they answer (false)", Both(reply)),
    flag("node-label", "SELECTOR", "Labels of the node that saw it", Both(node_label)),
    flag("trace-id", "ID", "Trace of the request (W3C)", Both(trace_id)),
    flag("ip-trace-id", "NUMBER", "Trace in the packet's IP options", Both(ip_trace_id)),
    flag(EXPRESSION, "CEL", "An expression over the flow, for servers that know CEL", Both(cel)),
    flag(
        SHADOW,
        "VERDICT",
        "allowed, denied or differs: what it would be if policies in shadow mode were in force",
        Both(shadow),
    ),
    flag("interface", "NAME", "Network interface on which it was judged", Both(interface)),
    flag("uuid", "UUID", "This very flow", Both(uuid)),
];
