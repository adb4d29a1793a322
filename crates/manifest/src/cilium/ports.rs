//! `toPorts` of a rule (facts: `policy.md` section 1.4).

use model::Direction;
use policy::{
    Action, Layer7, Listener, NamePattern, Port, PortMatch, Requests, TlsContext, Transport,
};

use crate::cilium::layer7;
use crate::document::Value;
use crate::fields::{Field, Fields, Place, Reader, Schema};

const PORT_RULE: Schema = &[
    ("ports", Field::Read),
    ("rules", Field::Read),
    ("terminatingTLS", Field::Read),
    ("originatingTLS", Field::Read),
    ("serverNames", Field::Read),
    ("listener", Field::Read),
    ("port", OF_A_PORT),
    ("protocol", OF_A_PORT),
    ("http", OF_RULES),
    ("dns", OF_RULES),
    ("kafka", OF_RULES),
];
const OF_A_PORT: Field =
    Field::Elsewhere("an element of `ports`", "write `ports: [{port: ..., protocol: ...}]`");
const OF_RULES: Field =
    Field::Elsewhere("`rules`", "write `rules: {...}` around it, beside `ports`");
const NOT_IN_DENY: Field =
    Field::Refused("cannot stand in a deny rule: it denies whole connections", "");
const DENY_RULE: Schema = &[
    ("ports", Field::Read),
    ("rules", NOT_IN_DENY),
    ("terminatingTLS", NOT_IN_DENY),
    ("originatingTLS", NOT_IN_DENY),
    ("serverNames", NOT_IN_DENY),
    ("listener", NOT_IN_DENY),
    ("port", OF_A_PORT),
    ("protocol", OF_A_PORT),
];
const PORT: Schema = &[("port", Field::Read), ("endPort", Field::Read), ("protocol", Field::Read)];
const TLS: Schema = &[
    ("secret", Field::Read),
    ("trustedCA", Field::Read),
    ("certificate", Field::Read),
    ("privateKey", Field::Read),
];
const SECRET: Schema = &[("namespace", Field::Read), ("name", Field::Read)];
const LISTENER: Schema =
    &[("envoyConfig", Field::Read), ("name", Field::Read), ("priority", Field::Read)];
const ENVOY_CONFIG: Schema = &[("kind", Field::Read), ("name", Field::Read)];

/// The most ports in one element of `toPorts`.
const MAX_PORTS: usize = 40;

/// One element of `toPorts`.
pub(super) struct Element {
    pub ports: Vec<PortMatch>,
    /// What must hold inside connections to them.
    pub layer7: Option<Layer7>,
}

/// What the rule around says that an element must fit to.
#[derive(Clone, Copy)]
pub(super) struct Around {
    pub direction: Direction,
    pub action: Action,
    /// Whether it is about nodes.
    pub nodes: bool,
    /// Whether the policy is in a namespace.
    pub namespaced: bool,
}

/// Reads `toPorts`; `None` inside if it is an empty list: no restriction.
pub(super) fn read(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    around: Around,
) -> Option<Option<Vec<Element>>> {
    let items = reader.list(place)?;
    if items.is_empty() {
        return Some(None);
    }
    let read: Vec<Option<Element>> =
        items.iter().map(|item| element(reader, item, around)).collect();
    read.into_iter().collect::<Option<_>>().map(Some)
}

fn element(reader: &mut Reader<'_>, place: &Place<'_>, around: Around) -> Option<Element> {
    let schema = if around.action == Action::Deny { DENY_RULE } else { PORT_RULE };
    let fields = reader.fields(place, schema)?;
    let requests = match fields.get("rules") {
        Some(place) => layer7::read(reader, &place, around.direction),
        None => Some(None),
    };
    let layer7 = match &requests {
        Some(requests) => conditions(reader, &fields, requests.clone(), around),
        None => None,
    };
    let ports = ports(reader, &fields, requests.as_ref().and_then(Option::as_ref));
    let (ports, layer7) = (ports?, layer7?);
    if ports.is_empty() && fields.get("rules").is_some() {
        if layer7.as_ref().is_some_and(Layer7::is_dns) {
            let reason = "`dns` rules need a port".to_owned();
            let fix = "`ports: [{port: \"53\", protocol: ANY}]`".to_owned();
            reader.refuse(place, reason, Some(fix));
            return None;
        }
        reader.warn(place, "names no port: nothing is allowed by it".to_owned());
    }
    Some(Element { ports, layer7 })
}

fn ports(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    requests: Option<&Requests>,
) -> Option<Vec<PortMatch>> {
    let Some(list) = fields.get("ports") else { return Some(Vec::new()) };
    let entries = reader.list(&list)?;
    let mut whole = true;
    if entries.len() > MAX_PORTS {
        let reason = format!("has {} ports, at most {MAX_PORTS} are allowed", entries.len());
        reader.refuse(&list, reason, Some("use a second element of `toPorts`".to_owned()));
        whole = false;
    }
    let mut ports = Vec::new();
    for entry in entries {
        match port(reader, &entry, requests) {
            Some(port) => ports.push(port),
            None => whole = false,
        }
    }
    whole.then_some(ports)
}

/// Whatever an element demands inside connections.
fn conditions(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    requests: Option<Requests>,
    around: Around,
) -> Option<Option<Layer7>> {
    let mut secrets = [None, None];
    for (secret, name) in secrets.iter_mut().zip(["terminatingTLS", "originatingTLS"]) {
        if let Some(place) = fields.get(name) {
            *secret = Some(tls(reader, &place)?);
        }
    }
    let [terminating_tls, originating_tls] = secrets;
    let server_names = match fields.get("serverNames") {
        Some(place) => server_names(reader, &place)?,
        None => Vec::new(),
    };
    if let (Some(place), Some(_), false) =
        (fields.get("serverNames"), &requests, terminating_tls.is_some() || server_names.is_empty())
    {
        let reason = "cannot stand beside `rules`: requests inside TLS are not seen".to_owned();
        reader.refuse(&place, reason, Some("add `terminatingTLS`".to_owned()));
        return None;
    }
    let listener = match fields.get("listener") {
        Some(place) => Some(listener(reader, &place, requests.is_some(), around)?),
        None => None,
    };
    if let (Some(place), Some(requests), true) = (fields.get("rules"), &requests, around.nodes) {
        let dns = matches!(requests, Requests::Dns(_)) && around.direction == Direction::Egress;
        if !dns {
            let reason = "a policy for nodes takes `dns` rules in egress only".to_owned();
            reader.refuse(&place, reason, None);
            return None;
        }
    }
    let nothing = requests.is_none() && server_names.is_empty() && listener.is_none();
    if nothing && terminating_tls.is_none() && originating_tls.is_none() {
        return Some(None);
    }
    let requests = requests.unwrap_or(Requests::Any);
    Some(Some(Layer7 { requests, server_names, terminating_tls, originating_tls, listener }))
}

fn tls(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<TlsContext> {
    let fields = reader.fields(place, TLS)?;
    let mut context = TlsContext::default();
    let entries = [("trustedCA", "ca.crt"), ("certificate", "tls.crt"), ("privateKey", "tls.key")];
    for (entry, (name, usual)) in context.entries.iter_mut().zip(entries) {
        *entry = match fields.get(name) {
            Some(place) => reader.string(&place)?,
            None => usual,
        }
        .to_owned();
    }
    let Some(secret) = fields.get("secret") else {
        let reason = "TLS needs a secret".to_owned();
        let fix = "`secret: {namespace: NAMESPACE, name: NAME}`".to_owned();
        reader.refuse(&fields.missing("secret"), reason, Some(fix));
        return None;
    };
    let fields = reader.fields(&secret, SECRET)?;
    let Some(name) = fields.get("name") else {
        reader.refuse(&fields.missing("name"), "a secret needs a name".to_owned(), None);
        return None;
    };
    reader.string(&name)?.clone_into(&mut context.name);
    if let Some(namespace) = fields.get("namespace") {
        reader.string(&namespace)?.clone_into(&mut context.namespace);
    }
    Some(context)
}

fn server_names(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Vec<NamePattern>> {
    let mut names = Vec::new();
    for item in reader.list(place)? {
        match NamePattern::pattern(reader.string(&item)?) {
            Ok(name) => names.push(name),
            Err(error) => {
                reader.refuse(&item, error.to_string(), None);
                return None;
            }
        }
    }
    Some(names)
}

fn listener(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    has_rules: bool,
    around: Around,
) -> Option<Listener> {
    let fields = reader.fields(place, LISTENER)?;
    let refused = match around.direction {
        Direction::Ingress => Some("stands in egress rules only"),
        Direction::Egress if has_rules => Some("cannot stand beside `rules`"),
        Direction::Egress => None,
    };
    if let Some(reason) = refused {
        reader.refuse(place, reason.to_owned(), None);
        return None;
    }
    let (Some(config), Some(name)) = (fields.get("envoyConfig"), fields.get("name")) else {
        reader.refuse(place, "a listener needs `envoyConfig` and `name`".to_owned(), None);
        return None;
    };
    let name = reader.string(&name)?.to_owned();
    let priority = match fields.get("priority") {
        Some(place) => Some(u8::try_from(reader.integer(&place, 1, 100)?).ok()?),
        None => None,
    };
    let fields = reader.fields(&config, ENVOY_CONFIG)?;
    let (Some(kind_place), Some(config_name)) = (fields.get("kind"), fields.get("name")) else {
        reader.refuse(&config, "needs `kind` and `name`".to_owned(), None);
        return None;
    };
    let kind = reader.string(&kind_place)?;
    let legal = match kind {
        "CiliumClusterwideEnvoyConfig" => true,
        "CiliumEnvoyConfig" => around.namespaced,
        _ => false,
    };
    if !legal {
        let fix = "kind: CiliumClusterwideEnvoyConfig".to_owned();
        let reason = "is no kind that this policy can name".to_owned();
        reader.refuse(&kind_place, reason, Some(fix));
        return None;
    }
    let config_name = reader.string(&config_name)?.to_owned();
    Some(Listener { config_kind: kind.to_owned(), config_name, name, priority })
}

fn port(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    requests: Option<&Requests>,
) -> Option<PortMatch> {
    let fields = reader.fields(place, PORT)?;
    let transport = transport(reader, &fields, requests);
    let written = fields.get("port").filter(|port| port.node.value != Value::String(String::new()));
    if let Some(transport @ Transport::Number(_)) = transport {
        return numbered(reader, written.as_ref(), transport);
    }
    let Some(port_place) = written else {
        let fix = "`port: \"0\"` is every port".to_owned();
        reader.refuse(&fields.missing("port"), "a port is needed".to_owned(), Some(fix));
        return None;
    };
    let end = match fields.get("endPort") {
        Some(end) => {
            if matches!(requests, Some(Requests::Dns(_))) {
                let reason = "`dns` rules take single ports, no ranges".to_owned();
                reader.refuse(&end, reason, None);
                return None;
            }
            Some(u16::try_from(reader.integer(&end, 0, 65_535)?).ok()?)
        }
        None => None,
    };
    let first = match number_or_name(reader, &port_place)? {
        Port::Range(first, _) => first,
        other => return Some(PortMatch { transport: transport?, port: other }),
    };
    let port = match (first, end.unwrap_or(first)) {
        (0, 0 | u16::MAX) if matches!(requests, Some(Requests::Http(_) | Requests::Kafka(_))) => {
            let reason = "rules for requests need a port".to_owned();
            reader.refuse(&port_place, reason, Some("name the port they are sent to".to_owned()));
            return None;
        }
        (0, 0 | u16::MAX) => Port::Any,
        (0, _) => {
            let reason = "port 0 is every port and begins no range".to_owned();
            reader.refuse(&port_place, reason, Some("begin at \"1\"".to_owned()));
            return None;
        }
        // An end that is not behind the beginning is ignored.
        (first, last) => Port::Range(first, last.max(first)),
    };
    Some(PortMatch { transport: transport?, port })
}

/// A protocol without ports.
fn numbered(
    reader: &mut Reader<'_>,
    port: Option<&Place<'_>>,
    transport: Transport,
) -> Option<PortMatch> {
    match port {
        Some(place) if reader.string(place)? != "0" => {
            reader.refuse(
                place,
                "this protocol has no ports".to_owned(),
                Some("leave it out".into()),
            );
            None
        }
        _ => Some(PortMatch { transport, port: Port::Any }),
    }
}

/// Protocols without ports that rules may name, and their IANA numbers.
const NUMBERED: [(&str, u8); 7] =
    [("VRRP", 112), ("IGMP", 2), ("GRE", 47), ("IPIP", 4), ("IPV6", 41), ("ESP", 50), ("AH", 51)];

fn transport(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    requests: Option<&Requests>,
) -> Option<Transport> {
    let place = fields.get("protocol");
    let text = match &place {
        Some(place) => reader.string(place)?,
        None => "",
    };
    let place = place.unwrap_or_else(|| fields.missing("protocol"));
    // Requests travel over TCP; the reference system wants that said.
    if matches!(requests, Some(Requests::Http(_) | Requests::Kafka(_))) {
        return match text {
            "TCP" => Some(Transport::Tcp),
            "" => {
                reader
                    .warn(&place, "rules for requests without a protocol: TCP is meant".to_owned());
                Some(Transport::Tcp)
            }
            _ => {
                let reason = "rules for requests need TCP".to_owned();
                reader.refuse(&place, reason, Some("write TCP".to_owned()));
                None
            }
        };
    }
    match text {
        "" | "ANY" => Some(Transport::Any),
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        "SCTP" => Some(Transport::Sctp),
        other => {
            if let Some((_, number)) = NUMBERED.iter().find(|(name, _)| *name == other) {
                return Some(Transport::Number(*number));
            }
            let upper = other.to_ascii_uppercase();
            let fix = match upper.as_str() {
                "TCP" | "UDP" | "SCTP" | "ANY" => format!("write {upper}"),
                "ICMP" | "ICMPV6" => "use `icmps` instead of `toPorts`".to_owned(),
                _ => "write TCP, UDP, SCTP or ANY".to_owned(),
            };
            let reason = format!("there is no protocol `{}`", other.escape_debug());
            reader.refuse(&place, reason, Some(fix));
            None
        }
    }
}

/// Digits are a number, octal if they begin with 0, as the reference system
/// reads them; anything else is a name.
fn number_or_name(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Port> {
    let text = reader.string(place)?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let octal = text.strip_prefix('0').filter(|rest| !rest.is_empty());
        let number = match octal {
            Some(digits) => u16::from_str_radix(digits, 8),
            None => text.parse(),
        };
        return match number {
            Ok(number) => Some(Port::Range(number, number)),
            Err(_) => {
                let reason = match octal {
                    Some(_) => "is no port: a number that begins with 0 is octal",
                    None => "is no port: they end at 65535",
                };
                reader.refuse(place, reason.to_owned(), None);
                None
            }
        };
    }
    let name = text.to_ascii_lowercase();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 15 || !name.bytes().all(legal) {
        let reason = "is neither a number nor a name of a port".to_owned();
        reader.refuse(place, reason, None);
        return None;
    }
    Some(Port::Named(name))
}
