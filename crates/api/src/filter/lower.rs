//! A filter's fields as tests on a flow. Meaning: Hubble's, field by field.

use std::net::IpAddr;

use ipnet::IpNet;

use super::expression::Expression;
use super::pattern::{HostPattern, NodePattern, ObjectPattern};
use super::selector::Selector;
use super::{Filter, FilterError, Test};
use crate::proto::flow::layer4::Protocol;
use crate::proto::flow::layer7::Record;
use crate::proto::flow::{
    Endpoint, EventTypeFilter, Flow, FlowFilter, NetworkInterface, Service, TcpFlags, Verdict,
    Workload,
};

/// Checks one filter.
pub(super) fn filter(filter: &FlowFilter) -> Result<Filter, FilterError> {
    let mut tests = Tests::default();
    tests.end(&Side::SOURCE, filter)?;
    tests.end(&Side::DESTINATION, filter)?;
    tests.outcome(filter);
    tests.packet(filter)?;
    tests.place(filter)?;
    tests.application(filter)?;
    tests.expressions(filter)?;
    Ok(Filter(tests.0))
}

/// Where one end's fields lie, in filters and in flows.
struct Side {
    name: &'static str,
    fields: fn(&FlowFilter) -> EndFields<'_>,
    endpoint: fn(&Flow) -> Option<&Endpoint>,
    service: fn(&Flow) -> Option<&Service>,
    names: fn(&Flow) -> &[String],
    ip: fn(&Flow) -> Option<&str>,
    port: fn(&Flow) -> Option<u32>,
}

/// The fields of a filter about one end.
struct EndFields<'a> {
    ip: &'a [String],
    pod: &'a [String],
    fqdn: &'a [String],
    label: &'a [String],
    service: &'a [String],
    workload: &'a [Workload],
    cluster: &'a [String],
    identity: &'a [u32],
    port: &'a [String],
}

impl Side {
    const SOURCE: Self = Self {
        name: "source",
        fields: |filter| EndFields {
            ip: &filter.source_ip,
            pod: &filter.source_pod,
            fqdn: &filter.source_fqdn,
            label: &filter.source_label,
            service: &filter.source_service,
            workload: &filter.source_workload,
            cluster: &filter.source_cluster_name,
            identity: &filter.source_identity,
            port: &filter.source_port,
        },
        endpoint: |flow| flow.source.as_ref(),
        service: |flow| flow.source_service.as_ref(),
        names: |flow| &flow.source_names,
        ip: |flow| flow.ip.as_ref().map(|ip| ip.source.as_str()),
        port: |flow| ports(flow).map(|(source, _)| source),
    };
    const DESTINATION: Self = Self {
        name: "destination",
        fields: |filter| EndFields {
            ip: &filter.destination_ip,
            pod: &filter.destination_pod,
            fqdn: &filter.destination_fqdn,
            label: &filter.destination_label,
            service: &filter.destination_service,
            workload: &filter.destination_workload,
            cluster: &filter.destination_cluster_name,
            identity: &filter.destination_identity,
            port: &filter.destination_port,
        },
        endpoint: |flow| flow.destination.as_ref(),
        service: |flow| flow.destination_service.as_ref(),
        names: |flow| &flow.destination_names,
        ip: |flow| flow.ip.as_ref().map(|ip| ip.destination.as_str()),
        port: |flow| ports(flow).map(|(_, destination)| destination),
    };

    /// Name of a field as the client wrote it.
    fn field(&self, source: &'static str, destination: &'static str) -> &'static str {
        if self.name == "source" { source } else { destination }
    }
}

/// Ports of TCP, UDP and SCTP; other protocols have none.
fn ports(flow: &Flow) -> Option<(u32, u32)> {
    match protocol(flow)? {
        Protocol::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
        Protocol::Udp(udp) => Some((udp.source_port, udp.destination_port)),
        Protocol::Sctp(sctp) => Some((sctp.source_port, sctp.destination_port)),
        Protocol::IcmPv4(_) | Protocol::IcmPv6(_) | Protocol::Vrrp(_) | Protocol::Igmp(_) => None,
    }
}

fn protocol(flow: &Flow) -> Option<&Protocol> {
    flow.l4.as_ref()?.protocol.as_ref()
}

/// Reads each value of a field, or says which one means nothing.
pub(super) fn parsed<'a, T, U>(
    field: &'static str,
    values: &'a [T],
    reason: &'static str,
    parse: impl Fn(&'a T) -> Option<U>,
) -> Result<Vec<U>, FilterError>
where
    T: ToString,
{
    let one = |value: &'a T| {
        parse(value).ok_or_else(|| FilterError::Invalid { field, value: value.to_string(), reason })
    };
    values.iter().map(one).collect()
}

/// An address or a range.
enum Addresses {
    One(IpAddr),
    Range(IpNet),
}

impl Addresses {
    fn new(text: &str) -> Option<Self> {
        text.parse().map(Self::One).or_else(|_| text.parse().map(Self::Range)).ok()
    }

    fn contain(&self, address: IpAddr) -> bool {
        match self {
            Self::One(one) => *one == address,
            Self::Range(range) => range.contains(&address),
        }
    }
}

#[derive(Default)]
pub(super) struct Tests(Vec<Test>);

impl Tests {
    /// One field: a flow passes if any of its values matches.
    pub(super) fn any<T: Send + Sync + 'static>(
        &mut self,
        values: Vec<T>,
        matches: impl Fn(&T, &Flow) -> bool + Send + Sync + 'static,
    ) {
        if !values.is_empty() {
            self.0.push(Box::new(move |flow| values.iter().any(|value| matches(value, flow))));
        }
    }

    fn end(&mut self, side: &Side, filter: &FlowFilter) -> Result<(), FilterError> {
        let EndFields { ip, pod, fqdn, label, service, workload, cluster, identity, port } =
            (side.fields)(filter);
        let (endpoint, of_service, names, address, of_port) =
            (side.endpoint, side.service, side.names, side.ip, side.port);

        let field = side.field("source_ip", "destination_ip");
        let values = parsed(field, ip, "is neither an address nor a range", |t| Addresses::new(t))?;
        self.any(values, move |wanted, flow| {
            address(flow).and_then(|ip| ip.parse().ok()).is_some_and(|ip| wanted.contain(ip))
        });

        let field = side.field("source_pod", "destination_pod");
        let values = parsed(field, pod, "is no pod", |t| ObjectPattern::new(t))?;
        self.any(values, move |wanted, flow| {
            endpoint(flow).is_some_and(|end| wanted.matches(&end.namespace, &end.pod_name))
        });

        let field = side.field("source_service", "destination_service");
        let values = parsed(field, service, "is no service", |t| ObjectPattern::new(t))?;
        self.any(values, move |wanted, flow| {
            of_service(flow)
                .is_some_and(|service| wanted.matches(&service.namespace, &service.name))
        });

        let field = side.field("source_fqdn", "destination_fqdn");
        let values = parsed(field, fqdn, "is no DNS name", |t| HostPattern::new(t))?;
        self.any(values, move |wanted, flow| names(flow).iter().any(|name| wanted.matches(name)));

        let field = side.field("source_label", "destination_label");
        let values = parsed(field, label, "is no label selector", |t| Selector::new(t))?;
        self.any(values, move |wanted, flow| {
            endpoint(flow).is_some_and(|end| wanted.matches(&end.labels))
        });

        let field = side.field("source_cluster_name", "destination_cluster_name");
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let values = parsed(field, cluster, "is no cluster", some)?;
        self.any(values, move |wanted, flow| {
            endpoint(flow).is_some_and(|end| end.cluster_name == *wanted)
        });

        let field = side.field("source_port", "destination_port");
        let values = parsed(field, port, "is no port", |text| text.parse::<u16>().ok())?;
        self.any(values, move |wanted, flow| of_port(flow) == Some(u32::from(*wanted)));

        self.any(workload.to_vec(), move |wanted, flow| {
            let is = |have: &Workload| {
                (wanted.name.is_empty() || wanted.name == have.name)
                    && (wanted.kind.is_empty() || wanted.kind == have.kind)
            };
            endpoint(flow).is_some_and(|end| end.workloads.iter().any(is))
        });
        self.any(identity.to_vec(), move |wanted, flow| {
            endpoint(flow).is_some_and(|end| end.identity == *wanted)
        });
        Ok(())
    }

    /// What was decided, and of which kind the event is.
    fn outcome(&mut self, filter: &FlowFilter) {
        self.any(filter.verdict.clone(), |wanted, flow| flow.verdict == *wanted);
        self.any(filter.drop_reason_desc.clone(), |wanted, flow| {
            is_dropped(flow) && flow.drop_reason_desc == *wanted
        });
        self.any(filter.traffic_direction.clone(), |wanted, flow| {
            flow.traffic_direction == *wanted
        });
        self.any(filter.reply.clone(), |wanted, flow| {
            // Nobody knows for a drop whether it was a reply: it counts as none.
            let reply = flow.is_reply.or(is_dropped(flow).then_some(false));
            reply == Some(*wanted)
        });
        self.any(filter.event_type.clone(), |wanted: &EventTypeFilter, flow| {
            let Some(event) = &flow.event_type else {
                return wanted.r#type == 0;
            };
            (wanted.r#type == 0 || wanted.r#type == event.r#type)
                && (!wanted.match_sub_type || wanted.sub_type == event.sub_type)
        });
        self.any(filter.uuid.clone(), |wanted, flow| flow.uuid == *wanted);
    }

    /// What the packet was.
    fn packet(&mut self, filter: &FlowFilter) -> Result<(), FilterError> {
        let values =
            parsed("protocol", &filter.protocol, "is no protocol", |t| ProtocolName::new(t))?;
        self.any(values, |wanted, flow| wanted.matches(flow));
        self.any(filter.tcp_flags.clone(), |wanted, flow| match protocol(flow) {
            Some(Protocol::Tcp(tcp)) => tcp.flags.is_some_and(|have| covers(&have, wanted)),
            _ => false,
        });
        self.any(filter.ip_version.clone(), |wanted, flow| {
            flow.ip.as_ref().map_or(0, |ip| ip.ip_version) == *wanted
        });
        self.any(filter.encrypted.clone(), |wanted, flow| {
            flow.ip.as_ref().is_some_and(|ip| ip.encrypted) == *wanted
        });
        let values = parsed(
            "source_ip_xlated",
            &filter.source_ip_xlated,
            "is neither an address nor a range",
            |text| Addresses::new(text),
        )?;
        self.any(values, |wanted, flow| {
            let address = flow.ip.as_ref().and_then(|ip| ip.source_xlated.parse().ok());
            address.is_some_and(|address| wanted.contain(address))
        });
        self.any(filter.trace_id.clone(), |wanted, flow| {
            let parent = flow.trace_context.as_ref().and_then(|trace| trace.parent.as_ref());
            parent.is_some_and(|parent| parent.trace_id == *wanted)
        });
        self.any(filter.ip_trace_id.clone(), |wanted, flow| {
            flow.ip_trace_id.as_ref().is_some_and(|trace| trace.trace_id == *wanted)
        });
        Ok(())
    }

    /// What is written in the expression language.
    fn expressions(&mut self, filter: &FlowFilter) -> Result<(), FilterError> {
        let texts = filter.experimental.iter().flat_map(|more| &more.cel_expression);
        let expressions: Result<Vec<_>, _> = texts.map(|text| Expression::new(text)).collect();
        self.any(expressions?, Expression::matches);
        Ok(())
    }

    /// Where it was seen.
    fn place(&mut self, filter: &FlowFilter) -> Result<(), FilterError> {
        let values = parsed("node_name", &filter.node_name, "is no node", |t| NodePattern::new(t))?;
        self.any(values, |wanted, flow| wanted.matches(&flow.node_name));
        let values = parsed("node_labels", &filter.node_labels, "is no label selector", |t| {
            Selector::new(t)
        })?;
        self.any(values, |wanted, flow| wanted.matches(&flow.node_labels));
        self.any(filter.interface.clone(), |wanted: &NetworkInterface, flow| {
            flow.interface.as_ref().is_some_and(|have| {
                (wanted.index == 0 || wanted.index == have.index)
                    && (wanted.name.is_empty() || wanted.name == have.name)
            })
        });
        Ok(())
    }
}

fn is_dropped(flow: &Flow) -> bool {
    flow.verdict == i32::from(Verdict::Dropped)
}

/// Every flag that is wanted is set; others may be.
fn covers(have: &TcpFlags, wanted: &TcpFlags) -> bool {
    let TcpFlags { fin, syn, rst, psh, ack, urg, ece, cwr, ns } = wanted;
    [
        (fin, have.fin),
        (syn, have.syn),
        (rst, have.rst),
        (psh, have.psh),
        (ack, have.ack),
        (urg, have.urg),
        (ece, have.ece),
        (cwr, have.cwr),
        (ns, have.ns),
    ]
    .iter()
    .all(|(wanted, have)| !**wanted || *have)
}

/// Transport protocols and the application protocols that records tell.
enum ProtocolName {
    Icmp,
    Icmpv4,
    Icmpv6,
    Tcp,
    Udp,
    Sctp,
    Vrrp,
    Igmp,
    Dns,
    Http,
    Kafka,
}

impl ProtocolName {
    fn new(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "icmp" => Self::Icmp,
            "icmpv4" => Self::Icmpv4,
            "icmpv6" => Self::Icmpv6,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            "vrrp" => Self::Vrrp,
            "igmp" => Self::Igmp,
            "dns" => Self::Dns,
            "http" => Self::Http,
            "kafka" => Self::Kafka,
            _ => return None,
        })
    }

    fn matches(&self, flow: &Flow) -> bool {
        let l4 = protocol(flow);
        let l7 = flow.l7.as_ref().and_then(|l7| l7.record.as_ref());
        match self {
            Self::Icmp => matches!(l4, Some(Protocol::IcmPv4(_) | Protocol::IcmPv6(_))),
            Self::Icmpv4 => matches!(l4, Some(Protocol::IcmPv4(_))),
            Self::Icmpv6 => matches!(l4, Some(Protocol::IcmPv6(_))),
            Self::Tcp => matches!(l4, Some(Protocol::Tcp(_))),
            Self::Udp => matches!(l4, Some(Protocol::Udp(_))),
            Self::Sctp => matches!(l4, Some(Protocol::Sctp(_))),
            Self::Vrrp => matches!(l4, Some(Protocol::Vrrp(_))),
            Self::Igmp => matches!(l4, Some(Protocol::Igmp(_))),
            Self::Dns => matches!(l7, Some(Record::Dns(_))),
            Self::Http => matches!(l7, Some(Record::Http(_))),
            Self::Kafka => matches!(l7, Some(Record::Kafka(_))),
        }
    }
}
