//! The words of a flow that every form prints: ends, type, verdict. They are
//! Hubble's, which builds each of them from the same fields.

use api::flow::{EVENT_DROP, EVENT_POLICY_VERDICT, EVENT_TRACE};
use api::proto::flow::layer4::Protocol;
use api::proto::flow::layer7::Record;
use api::proto::flow::{
    DebugCapturePoint, Endpoint, Flow, L7FlowType, Layer7, LostEvent, Policy, Service,
    SocketTranslationPoint, TrafficDirection, Verdict,
};
use model::{DropReason, IdentityId, Reserved};

use super::text::escape;
use super::time::TimeFormat;

const EVENT_CAPTURE: i32 = 3;
const EVENT_SOCKET: i32 = 7;

/// Names of trace observation points by subtype.
pub const TRACE_POINTS: [&str; 14] = [
    "to-endpoint",
    "to-proxy",
    "to-host",
    "to-stack",
    "to-overlay",
    "from-endpoint",
    "from-proxy",
    "from-host",
    "from-stack",
    "from-overlay",
    "from-network",
    "to-network",
    "from-crypto",
    "to-crypto",
];
const MATCH_TYPES: [&str; 7] =
    ["none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only"];

/// Which end of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Where it came from.
    Source,
    /// Where it went.
    Destination,
}

impl Side {
    /// Its endpoint.
    pub fn endpoint(self, flow: &Flow) -> Option<&Endpoint> {
        match self {
            Self::Source => flow.source.as_ref(),
            Self::Destination => flow.destination.as_ref(),
        }
    }

    /// The service whose address was used.
    pub fn service(self, flow: &Flow) -> Option<&Service> {
        match self {
            Self::Source => flow.source_service.as_ref(),
            Self::Destination => flow.destination_service.as_ref(),
        }
    }

    /// DNS names of its address.
    pub fn names(self, flow: &Flow) -> &[String] {
        match self {
            Self::Source => &flow.source_names,
            Self::Destination => &flow.destination_names,
        }
    }

    /// Its address; the MAC of frames that are not IP.
    pub fn address(self, flow: &Flow) -> &str {
        match (self, &flow.ip, &flow.ethernet) {
            (Self::Source, Some(ip), _) => &ip.source,
            (Self::Destination, Some(ip), _) => &ip.destination,
            (Self::Source, None, Some(ethernet)) => &ethernet.source,
            (Self::Destination, None, Some(ethernet)) => &ethernet.destination,
            (_, None, None) => "",
        }
    }

    /// Its port; 0 for protocols that have none.
    pub fn port(self, flow: &Flow) -> u32 {
        let (source, destination) = match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
            Some(Protocol::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
            Some(Protocol::Udp(udp)) => (udp.source_port, udp.destination_port),
            Some(Protocol::Sctp(sctp)) => (sctp.source_port, sctp.destination_port),
            _ => (0, 0),
        };
        match self {
            Self::Source => source,
            Self::Destination => destination,
        }
    }

    /// `namespace/pod:port`, or the best name there is.
    pub fn name(self, flow: &Flow, numeric: bool) -> String {
        let address = self.address(flow);
        let name = if numeric { address.to_owned() } else { self.host(flow) };
        with_port(&escape(&name), self.port(flow))
    }

    fn host(self, flow: &Flow) -> String {
        let qualified = |namespace: &str, name: &str| match namespace {
            "" => name.to_owned(),
            namespace => format!("{namespace}/{name}"),
        };
        let service = self.service(flow);
        if let Some(pod) = self.endpoint(flow).filter(|end| !end.pod_name.is_empty()) {
            let namespace = service.map_or(&pod.namespace, |service| &service.namespace);
            return qualified(namespace, &pod.pod_name);
        }
        if let Some(service) = service.filter(|service| !service.name.is_empty()) {
            return qualified(&service.namespace, &service.name);
        }
        match self.names(flow) {
            [] => self.address(flow).to_owned(),
            names => names.join(","),
        }
    }

    /// `(ID:12345)` or `(world)`.
    pub fn identity(self, flow: &Flow) -> String {
        let number = self.endpoint(flow).map_or(0, |end| end.identity);
        match IdentityId::try_from(number).map(Reserved::from_id) {
            Err(_) => "(unknown)".to_owned(),
            Ok(Some(reserved)) => format!("({})", reserved.name()),
            Ok(None) => format!("(ID:{number})"),
        }
    }
}

/// `host:port`, with brackets where the host has colons itself.
pub fn with_port(host: &str, port: u32) -> String {
    match (port, host.contains(':')) {
        (0, _) => host.to_owned(),
        (port, false) => format!("{host}:{port}"),
        (port, true) => format!("[{host}]:{port}"),
    }
}

/// What happened: the observation point, the drop's reason, the verdict's match.
pub fn event(flow: &Flow) -> String {
    if let Some(l7) = &flow.l7 {
        return application(l7);
    }
    let (kind, subtype) =
        flow.event_type.as_ref().map_or((0, 0), |event| (event.r#type, event.sub_type));
    let point = |points: &[&str]| {
        let point = usize::try_from(subtype).ok().and_then(|at| points.get(at));
        point.map_or_else(|| subtype.to_string(), |point| (*point).to_owned())
    };
    match kind {
        EVENT_TRACE => point(&TRACE_POINTS),
        EVENT_DROP => drop_text(subtype),
        EVENT_POLICY_VERDICT => {
            let number = flow.policy_match_type;
            let matched = usize::try_from(number).ok().and_then(|at| MATCH_TYPES.get(at));
            let matched = matched.map_or_else(|| number.to_string(), |text| (*text).to_owned());
            format!("policy-verdict:{matched} {}", direction(flow).as_str_name())
        }
        EVENT_CAPTURE => DebugCapturePoint::try_from(flow.debug_capture_point)
            .unwrap_or(DebugCapturePoint::DbgCapturePointUnknown)
            .as_str_name()
            .to_owned(),
        EVENT_SOCKET => match flow.sock_xlate_point() {
            SocketTranslationPoint::SockXlatePointPreDirectionFwd => "pre-xlate-fwd".to_owned(),
            SocketTranslationPoint::SockXlatePointPostDirectionFwd => "post-xlate-fwd".to_owned(),
            SocketTranslationPoint::SockXlatePointPreDirectionRev => "pre-xlate-rev".to_owned(),
            SocketTranslationPoint::SockXlatePointPostDirectionRev => "post-xlate-rev".to_owned(),
            unknown => unknown.as_str_name().to_owned(),
        },
        _ => "UNKNOWN".to_owned(),
    }
}

/// The text of a drop code.
pub fn drop_text(code: i32) -> String {
    u8::try_from(code).map_or_else(|_| format!("{code}, 0"), |code| DropReason(code).text())
}

/// The judged direction.
pub fn direction(flow: &Flow) -> TrafficDirection {
    TrafficDirection::try_from(flow.traffic_direction).unwrap_or(TrafficDirection::Unknown)
}

fn application(l7: &Layer7) -> String {
    let kind = match L7FlowType::try_from(l7.r#type) {
        Ok(L7FlowType::Request) => "request",
        Ok(L7FlowType::Response) => "response",
        Ok(L7FlowType::Sample) => "sample",
        Ok(L7FlowType::UnknownL7Type) | Err(_) => "unknown",
    };
    match &l7.record {
        Some(Record::Http(_)) => format!("http-{kind}"),
        Some(Record::Dns(dns)) => format!("dns-{kind} {}", escape(&dns.observation_source)),
        Some(Record::Kafka(_)) => format!("kafka-{kind}"),
        None => format!("l7-{kind}"),
    }
}

/// The verdict in Hubble's words, with the policies that decided if asked for.
pub fn verdict(flow: &Flow, policy_names: bool) -> String {
    let verdict = Verdict::try_from(flow.verdict).unwrap_or(Verdict::Unknown);
    let judged = flow.event_type.as_ref().is_some_and(|event| event.r#type == EVENT_POLICY_VERDICT);
    let word = match verdict {
        Verdict::Forwarded | Verdict::Redirected if judged => "ALLOWED",
        Verdict::Dropped | Verdict::Error if judged => "DENIED",
        Verdict::Audit if judged => "AUDITED",
        verdict => verdict.as_str_name(),
    };
    let names: Vec<String> = policies(flow)
        .filter(|policy| !policy.name.is_empty() && !policy.kind.is_empty())
        .map(|policy| format!("{} ({})", escape(&policy.name), escape(&policy.kind)))
        .collect();
    if policy_names && !names.is_empty() {
        format!("{word} BY {}", names.join(", "))
    } else {
        word.to_owned()
    }
}

/// The verdict in its colour: let through, stopped, or something to look at.
pub fn colored(flow: &Flow, word: String, color: bool) -> String {
    let code = match Verdict::try_from(flow.verdict).unwrap_or(Verdict::Unknown) {
        Verdict::Forwarded | Verdict::Redirected => 32,
        Verdict::Dropped | Verdict::Error => 31,
        Verdict::Audit => 33,
        Verdict::Unknown | Verdict::Traced | Verdict::Translated => return word,
    };
    if color { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word }
}

/// The policies that decided.
pub fn policies(flow: &Flow) -> impl Iterator<Item = &Policy> {
    let lists = [
        &flow.egress_allowed_by,
        &flow.ingress_allowed_by,
        &flow.egress_denied_by,
        &flow.ingress_denied_by,
    ];
    lists.into_iter().flatten()
}

/// What travelled.
pub fn summary(flow: &Flow) -> String {
    let trace = flow.ip_trace_id.as_ref().map_or(0, |trace| trace.trace_id);
    let trace = if trace == 0 { String::new() } else { format!("IP Trace ID: {trace}; ") };
    let authentication = match flow.auth_type() {
        api::proto::flow::AuthType::Disabled => String::new(),
        kind => format!("; Auth: {}", kind.as_str_name()),
    };
    format!("{trace}{}{authentication}", escape(&flow.summary))
}

/// How many events were lost, and when.
pub fn lost(lost: &LostEvent, time: TimeFormat, between: &str) -> String {
    let cpu = lost.cpu.unwrap_or(0);
    let (first, last) = (time.format(lost.first.as_ref()), time.format(lost.last.as_ref()));
    let number = lost.num_events_lost;
    format!("CPU({cpu}) {between}{number} (first: {first}, last: {last})")
}
