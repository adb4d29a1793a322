//! A file of probes: one JSON object a line, with what is expected of each.
//!
//! A line that is no probe is kept as such: it answers with an error, and the
//! others run. Keys that nobody here reads are kept for the answer.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Transport of a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// A datagram that is answered.
    Udp,
    /// An SCTP association (RFC 9260), where the kernel has it.
    Sctp,
    /// An echo request of the probe's family.
    Icmp,
}

/// Address family of a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A port by number or by the name that the destination's pod gives it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// The program that tries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// OpenBSD's netcat.
    Nc,
    /// curl.
    Curl,
    /// ping of iputils.
    Ping,
    /// socat.
    Socat,
}

impl Client {
    /// The name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Nc => "nc",
            Self::Curl => "curl",
            Self::Ping => "ping",
            Self::Socat => "socat",
        }
    }
}

/// What is expected of one end's decision; what is not named may be anything.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedSide {
    /// `allowed` or `denied`.
    pub verdict: Option<String>,
    /// A reason.
    pub reason: Option<String>,
    /// A rule that is among those that decided.
    pub rule: Option<String>,
    /// For a default deny: exactly the policies that switched it on.
    pub because: Option<Vec<String>>,
}

/// What is expected of a probe.
///
/// `reason`, `rule` and `because` speak of the end that decided: for a denial the
/// end that denied, for an allowed probe any end that was judged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// `allowed` or `denied`.
    pub verdict: String,
    /// A reason.
    #[serde(default)]
    pub reason: Option<String>,
    /// A rule that is among those that decided.
    #[serde(default)]
    pub rule: Option<String>,
    /// For a default deny: exactly the policies that switched it on.
    #[serde(default)]
    pub because: Option<Vec<String>>,
    /// Of the decision at the source.
    #[serde(default)]
    pub egress: Option<ExpectedSide>,
    /// Of the decision at the destination.
    #[serde(default)]
    pub ingress: Option<ExpectedSide>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Its name.
    pub id: String,
    /// Where it starts.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Destination port; `None` for ICMP.
    pub port: Option<Port>,
    /// Transport.
    pub protocol: Protocol,
    /// Address family.
    pub family: Family,
    /// Who tries.
    pub client: Client,
    /// What should come out.
    pub expected: Option<Expected>,
}

impl Probe {
    /// Whether its packets carry a service's own address: no hook leads these
    /// sockets to a backend.
    pub fn is_on_the_wire(&self) -> bool {
        matches!(self.protocol, Protocol::Sctp | Protocol::Icmp)
    }
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// The object as written; empty when it is none.
    pub object: Map<String, Value>,
    /// The probe, or why it is none.
    pub probe: Result<Probe, String>,
}

/// Reads a file of probes; empty lines are skipped.
pub fn read(text: &str) -> Vec<Line> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| read_line(index + 1, line))
        .collect()
}

fn read_line(number: usize, line: &str) -> Line {
    match serde_json::from_str::<Map<String, Value>>(line) {
        Ok(object) => Line { number, probe: probe(&object), object },
        Err(error) => {
            let object = Map::from_iter([("id".to_owned(), json!(format!("line {number}")))]);
            Line { number, object, probe: Err(format!("not a JSON object: {error}")) }
        }
    }
}

/// What DESIGN section 5 gives probes and the lab cannot send.
const NOT_SENT: [&str; 4] = ["http", "dns", "kafka", "sni"];

/// An echo request, which is all that `ping` sends (RFC 792, RFC 4443).
const ECHO: [(u64, u64); 2] = [(8, 0), (128, 0)];

fn probe(object: &Map<String, Value>) -> Result<Probe, String> {
    if let Some(key) = NOT_SENT.iter().find(|key| object.contains_key(**key)) {
        return Err(format!("the lab does not send `{key}` probes"));
    }
    if let Some(icmp) = object.get("icmp") {
        let number = |key: &str| icmp.get(key).and_then(Value::as_u64);
        let message = number("type").zip(number("code").or(Some(0)));
        if !message.is_some_and(|message| ECHO.contains(&message)) {
            return Err(format!("the lab sends echo requests, not {icmp}"));
        }
    }
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let need = |key: &str| text(key).map(str::to_owned).ok_or(format!("`{key}` is missing"));
    let (protocol, implied) = match text("protocol").unwrap_or("TCP") {
        "TCP" => (Protocol::Tcp, Family::V4),
        "UDP" => (Protocol::Udp, Family::V4),
        "SCTP" => (Protocol::Sctp, Family::V4),
        "ICMP" => (Protocol::Icmp, Family::V4),
        "ICMPv6" => (Protocol::Icmp, Family::V6),
        other => {
            return Err(format!("the lab sends TCP, UDP, SCTP, ICMP and ICMPv6, not `{other}`"));
        }
    };
    let family = match object.get("family").map(Value::as_u64) {
        None => implied,
        Some(Some(4)) if text("protocol") != Some("ICMPv6") => Family::V4,
        Some(Some(6)) => Family::V6,
        Some(_) => return Err("`family` must be 4 or 6, and 6 for ICMPv6".into()),
    };
    let port: Option<Port> = optional(object, "port")?;
    let client = optional(object, "client")?.unwrap_or(match protocol {
        Protocol::Tcp | Protocol::Udp => Client::Nc,
        Protocol::Sctp => Client::Socat,
        Protocol::Icmp => Client::Ping,
    });
    match (protocol, client, &port) {
        (Protocol::Tcp, Client::Nc | Client::Curl, Some(_)) => {}
        (Protocol::Udp, Client::Nc, Some(_)) => {}
        (Protocol::Sctp, Client::Socat, Some(_)) => {}
        (Protocol::Icmp, Client::Ping, None) => {}
        (Protocol::Tcp | Protocol::Udp | Protocol::Sctp, _, None) => {
            return Err("`port` is missing".into());
        }
        (Protocol::Icmp, _, Some(_)) => return Err("ICMP has no ports".into()),
        _ => return Err(format!("`{}` cannot do that", client.program())),
    }
    Ok(Probe {
        id: need("id")?,
        from: need("from")?,
        to: need("to")?,
        port,
        protocol,
        family,
        client,
        expected: optional(object, "expect")?,
    })
}

fn optional<T: for<'a> Deserialize<'a>>(
    object: &Map<String, Value>,
    key: &str,
) -> Result<Option<T>, String> {
    let Some(value) = object.get(key) else { return Ok(None) };
    T::deserialize(value).map(Some).map_err(|error| format!("`{key}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(line: &str, want: &str) {
        let lines = read(line);
        assert_eq!(lines[0].probe.as_ref().unwrap_err(), want);
    }

    fn good(line: &str) -> Probe {
        read(line).remove(0).probe.unwrap()
    }

    #[test]
    fn a_probe_is_ipv4_tcp_by_netcat_unless_it_says_otherwise() {
        let probe = good(r#"{"id":"a","from":"pod:web/a","to":"entity:world","port":80}"#);
        assert_eq!(
            (probe.protocol, probe.family, probe.client),
            (Protocol::Tcp, Family::V4, Client::Nc)
        );
        let probe = good(r#"{"id":"a","from":"pod:web/a","to":"node:n","protocol":"ICMPv6"}"#);
        assert_eq!((probe.family, probe.client), (Family::V6, Client::Ping));
        let probe = good(r#"{"id":"a","from":"x","to":"y","port":7,"protocol":"SCTP"}"#);
        assert_eq!((probe.protocol, probe.client), (Protocol::Sctp, Client::Socat));
    }

    #[test]
    fn the_page_has_every_protocol_and_client() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md");
        let page = std::fs::read_to_string(page).unwrap();
        let named = |key: &str| {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap();
            let cell = row.split('|').nth(2).unwrap();
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(named("protocol"), ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6"]);
        let mut clients = Vec::new();
        for protocol in named("protocol") {
            let port = if protocol.starts_with("ICMP") { "" } else { r#","port":7"# };
            let line = format!(r#"{{"id":"a","from":"x","to":"y","protocol":"{protocol}"{port}}}"#);
            clients.push(good(&line).client.program());
        }
        clients.push(Client::Curl.program());
        clients.sort_unstable();
        clients.dedup();
        let mut told = named("client");
        told.sort();
        assert_eq!(told, clients);
    }

    #[test]
    fn unknown_keys_stay_for_the_answer() {
        let lines = read(r#"{"id":"a","from":"x","to":"y","port":1,"twin":"b"}"#);
        assert_eq!(lines[0].object["twin"], "b");
    }

    #[test]
    fn a_bad_line_does_not_hide_the_others() {
        let lines = read("nonsense\n\n{\"id\":\"a\",\"from\":\"x\",\"to\":\"y\",\"port\":1}\n");
        assert_eq!(lines.len(), 2);
        assert!(lines[0].probe.is_err());
        assert_eq!((lines[1].number, lines[1].probe.is_ok()), (3, true));
    }

    #[test]
    fn what_the_lab_cannot_send_is_refused() {
        check_refused(
            r#"{"id":"a","from":"x","to":"y","port":53,"protocol":"DCCP"}"#,
            "the lab sends TCP, UDP, SCTP, ICMP and ICMPv6, not `DCCP`",
        );
        check_refused(
            r#"{"id":"a","from":"x","to":"y","port":53,"protocol":"SCTP","client":"nc"}"#,
            "`nc` cannot do that",
        );
        check_refused(
            r#"{"id":"a","from":"x","to":"y","port":80,"http":{"method":"GET"}}"#,
            "the lab does not send `http` probes",
        );
        check_refused(
            r#"{"id":"a","from":"x","to":"y","protocol":"ICMP","icmp":{"type":13,"code":0}}"#,
            r#"the lab sends echo requests, not {"type":13,"code":0}"#,
        );
        check_refused(r#"{"id":"a","from":"x","to":"y"}"#, "`port` is missing");
        check_refused(
            r#"{"id":"a","from":"x","to":"y","port":53,"protocol":"UDP","client":"curl"}"#,
            "`curl` cannot do that",
        );
        check_refused(
            r#"{"id":"a","from":"x","to":"y","port":1,"client":"ping"}"#,
            "`ping` cannot do that",
        );
        check_refused(
            r#"{"id":"a","from":"x","to":"y","protocol":"ICMPv6","family":4}"#,
            "`family` must be 4 or 6, and 6 for ICMPv6",
        );
    }
}
