//! Questions as JSON objects, one a line.

use serde_json::{Map, Value};

use crate::layer7::{API_KEYS, HttpRequest, KafkaRequest, Request};

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Who asks, as `pod:ns/name` and its like.
    pub from: String,
    /// Whom.
    pub to: String,
    /// Destination port, if the protocol has ports.
    pub port: Option<PortName>,
    /// IANA protocol number.
    pub protocol: u8,
    /// 4 or 6; `None`: what the ends have.
    pub family: Option<u8>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// What is inside.
    pub request: Request,
}

/// A port by number or name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PortName {
    /// By number.
    Number(u16),
    /// By the destination's name for it.
    Name(String),
}

/// Why a question cannot be asked or answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(pub String);

fn error<T>(text: impl Into<String>) -> Result<T, ProbeError> {
    Err(ProbeError(text.into()))
}

impl Ask {
    /// Reads a probe; keys that mean nothing here are left alone.
    pub fn from_json(probe: &Map<String, Value>) -> Result<Self, ProbeError> {
        let end = |name: &str| match probe.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(_) => error(format!("`{name}` must be a text such as pod:ns/name")),
            None => error(format!("`{name}` is missing")),
        };
        let (from, to) = (end("from")?, end("to")?);
        let protocol = match probe.get("protocol") {
            None | Some(Value::Null) => 6,
            Some(Value::String(text)) => protocol_number(text)?,
            Some(_) => return error("`protocol` must be TCP, UDP, SCTP, ICMP or ICMPv6"),
        };
        let port = match probe.get("port") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => {
                let port = number.as_u64().and_then(|port| u16::try_from(port).ok());
                match port {
                    Some(port) => Some(PortName::Number(port)),
                    None => return error(format!("`port` {number} is none: 0 to 65535")),
                }
            }
            Some(Value::String(text)) => Some(match text.parse() {
                Ok(number) => PortName::Number(number),
                Err(_) => PortName::Name(text.to_ascii_lowercase()),
            }),
            Some(_) => return error("`port` must be a number or a name"),
        };
        if port.is_none() && matches!(protocol, 6 | 17 | 132) {
            return error("`port` is missing");
        }
        let family = match probe.get("family") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) if number.as_u64() == Some(4) => Some(4),
            Some(Value::Number(number)) if number.as_u64() == Some(6) => Some(6),
            Some(_) => return error("`family` must be 4 or 6"),
        };
        let icmp_type = match probe.get("icmp") {
            None | Some(Value::Null) => None,
            Some(icmp) => match icmp.get("type").and_then(Value::as_u64).map(u8::try_from) {
                Some(Ok(number)) => Some(number),
                _ => return error("`icmp.type` must be 0 to 255"),
            },
        };
        let request = request(probe)?;
        Ok(Self { from, to, port, protocol, family, icmp_type, request })
    }

    /// What stands where others have a port: the type of an ICMP message, an
    /// echo request if nothing is said.
    pub(super) fn icmp_port(&self) -> u16 {
        let echo = if self.protocol == 58 { 128 } else { 8 };
        self.icmp_type.unwrap_or(echo).into()
    }
}

/// A protocol by its name in manifests and flows.
pub fn protocol_number(text: &str) -> Result<u8, ProbeError> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        "ICMP" | "ICMPV4" => 1,
        "ICMPV6" => 58,
        "IGMP" => 2,
        "IPIP" => 4,
        "IPV6" => 41,
        "GRE" => 47,
        "ESP" => 50,
        "AH" => 51,
        "VRRP" => 112,
        _ => return error(format!("there is no protocol `{}`", text.escape_debug())),
    })
}

fn request(probe: &Map<String, Value>) -> Result<Request, ProbeError> {
    let present = |name: &str| probe.get(name).filter(|value| !value.is_null());
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let http = match present("http") {
        None => None,
        Some(value) if value.is_object() => Some(HttpRequest {
            method: text(value, "method"),
            path: text(value, "path"),
            host: text(value, "host"),
            headers: headers(value.get("headers"))?,
        }),
        Some(_) => return error("`http` must be an object with method and path"),
    };
    let dns = match present("dns") {
        None => None,
        Some(value) => match value.get("name").and_then(Value::as_str) {
            Some(name) => Some(name.to_ascii_lowercase()),
            None => return error("`dns` must be an object with a name"),
        },
    };
    let kafka = present("kafka").map(kafka).transpose()?;
    let server_name = match present("sni") {
        None => None,
        Some(Value::String(name)) => Some(name.to_ascii_lowercase()),
        Some(_) => return error("`sni` must be a text"),
    };
    Ok(Request { http, dns, kafka, server_name })
}

fn headers(value: Option<&Value>) -> Result<Vec<(String, String)>, ProbeError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let pair = |pair: &Value| {
        let [name, value] = pair.as_array()?.as_slice() else { return None };
        Some((name.as_str()?.to_owned(), value.as_str()?.to_owned()))
    };
    let list = value.as_array().map(|list| list.iter().map(pair).collect::<Option<Vec<_>>>());
    match list {
        Some(Some(headers)) => Ok(headers),
        _ => error("`http.headers` must be a list of pairs, as [[\"name\", \"value\"]]"),
    }
}

fn kafka(value: &Value) -> Result<KafkaRequest, ProbeError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let key = match (text("role"), value.get("apiKey")) {
        (Some(role), None) => match role.to_ascii_lowercase().as_str() {
            "produce" => 0,
            "consume" => 1,
            _ => return error("`kafka.role` must be produce or consume"),
        },
        (None, Some(Value::String(name))) => {
            let name = name.to_ascii_lowercase();
            match API_KEYS.iter().position(|known| *known == name).map(i16::try_from) {
                Some(Ok(key)) => key,
                _ => return error(format!("there is no request type `{}`", name.escape_debug())),
            }
        }
        (None, Some(number)) => match number.as_i64().map(i16::try_from) {
            Some(Ok(key)) => key,
            _ => return error("`kafka.apiKey` must be a name or a number"),
        },
        _ => return error("`kafka` needs one of role and apiKey"),
    };
    let version = match value.get("version") {
        None | Some(Value::Null) => 0,
        Some(Value::String(text)) => text.parse().unwrap_or(-1),
        Some(number) => number.as_i64().and_then(|v| i16::try_from(v).ok()).unwrap_or(-1),
    };
    let client = text("clientID").unwrap_or_default().to_owned();
    let topics = text("topic").map(str::to_owned).into_iter().collect();
    Ok(KafkaRequest { key, version, client, topics })
}
