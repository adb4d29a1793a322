//! Kernel records to values: total, never panics, whatever the bytes.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use model::{
    Attribution, Carried, Direction, IcmpMessage, Layer4, MatchType, Process, RuleSetId, TcpFlags,
    Trace, Traffic, UnknownProcess, Verdict,
};
use zerocopy::FromBytes;

/// Which ring a record came from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Ring {
    /// Allowed connections: their first packets, their ends.
    Traces,
    /// Every dropped packet.
    Drops,
}

/// One decision, as the kernel tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// CPU that wrote it.
    pub cpu: u32,
    /// Its number on that CPU and ring.
    pub sequence: u64,
    /// The ring.
    pub ring: Ring,
    /// Nanoseconds of CLOCK_BOOTTIME.
    pub when_ns: u64,
    /// The decision.
    pub verdict: Verdict,
    /// Hubble's drop code; 0: not dropped.
    pub reason: u8,
    /// Number of a `policy::Why`; 0: no policy was asked.
    pub why: u8,
    /// Whether the endpoint sent the frame ([`Direction::Egress`]) or was to get it.
    pub hook: Direction,
    /// Which direction was judged; `None`: no policy was asked.
    pub direction: Option<Direction>,
    /// Whether it answers an earlier packet.
    pub is_reply: Option<bool>,
    /// The pod's interface on the node.
    pub ifindex: u32,
    /// Number of the endpoint; 0: there is none yet.
    pub endpoint_id: u32,
    /// The revision that judged; 0: none.
    pub revision: u32,
    /// EtherType.
    pub ether_type: u16,
    /// Source MAC.
    pub source_mac: [u8; 6],
    /// Destination MAC.
    pub destination_mac: [u8; 6],
    /// Source and destination; `None`: not IP, or it did not parse.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Transport; `None`: not reached.
    pub l4: Option<Layer4>,
    /// Identity of the source; 0: not resolved.
    pub source_identity: u32,
    /// Identity of the destination; 0: not resolved.
    pub destination_identity: u32,
    /// The deciding rule set, and one of equal precedence.
    pub rule_sets: [RuleSetId; 2],
    /// What would have been decided if policies in shadow mode were in force; `None`:
    /// none concerns the endpoint, or policy is not what decided.
    pub shadow: Option<Shadow>,
    /// What it tells of a connection after its first packet; `None`: it is a decision.
    pub trace: Option<Trace>,
    /// How specific the match was.
    pub match_type: MatchType,
    /// Bytes of the frame.
    pub length: u32,
    /// Cookie of this endpoint's socket; 0: unknown.
    pub cookie: u64,
    /// Cookie of the initiator's socket, when it is on this node; 0: unknown. Of a
    /// trace: 0, too, where the initiator is this endpoint.
    pub peer_cookie: u64,
    /// Process of this endpoint's end; its container is not known here.
    pub process: Attribution,
}

/// What would have been decided.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Shadow {
    /// The decision.
    pub verdict: Verdict,
    /// Number of a `policy::Why`.
    pub why: u8,
    /// The deciding rule set, and one of equal precedence.
    pub rule_sets: [RuleSetId; 2],
}

/// Why bytes of a ring are not a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a record has.
    #[error("a record needs {needed} bytes, this one has {0}", needed = size_of::<abi::Record>())]
    Short(usize),
    /// A number that this version does not know.
    #[error("field `{field}` holds {value}, which this version does not know")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u8,
    },
}

impl Record {
    /// Reads a record; what follows it is ignored (a newer datapath may append).
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (raw, _) =
            abi::Record::read_from_prefix(bytes).map_err(|_| DecodeError::Short(bytes.len()))?;
        let trace = trace(raw.kind, bytes)?;
        let judged = raw.why != abi::why::NONE as u8 || trace.is_some();
        Ok(Self {
            cpu: raw.cpu,
            sequence: raw.sequence,
            ring: ring(raw.ring)?,
            when_ns: raw.when_ns,
            verdict: verdict("verdict", raw.verdict)?,
            reason: raw.reason,
            why: raw.why,
            hook: direction("hook", raw.hook)?,
            direction: if judged { Some(direction("direction", raw.direction)?) } else { None },
            is_reply: reply(raw.reply)?,
            ifindex: raw.ifindex,
            endpoint_id: raw.endpoint,
            revision: raw.revision,
            ether_type: u16::from_be(raw.ether_type),
            source_mac: raw.source_mac,
            destination_mac: raw.destination_mac,
            addresses: (u32::from(raw.layer) >= abi::layer::NETWORK)
                .then(|| (address(&raw.source), address(&raw.destination))),
            l4: (u32::from(raw.layer) >= abi::layer::TRANSPORT).then(|| transport(&raw)),
            source_identity: raw.source_identity,
            destination_identity: raw.destination_identity,
            rule_sets: raw.rule_sets.map(RuleSetId),
            shadow: shadow(&raw)?,
            trace,
            match_type: match_type(raw.match_type)?,
            length: raw.length,
            cookie: raw.cookie,
            peer_cookie: raw.peer_cookie,
            process: process(&raw.process),
        })
    }
}

fn unknown<T>(field: &'static str, value: u8) -> Result<T, DecodeError> {
    Err(DecodeError::Unknown { field, value })
}

fn ring(value: u8) -> Result<Ring, DecodeError> {
    match u32::from(value) {
        abi::ring::TRACES => Ok(Ring::Traces),
        abi::ring::DROPS => Ok(Ring::Drops),
        _ => unknown("ring", value),
    }
}

fn verdict(field: &'static str, value: u8) -> Result<Verdict, DecodeError> {
    match u32::from(value) {
        abi::verdict::ALLOW => Ok(Verdict::Forwarded),
        abi::verdict::DENY => Ok(Verdict::Dropped),
        _ => unknown(field, value),
    }
}

fn shadow(raw: &abi::Record) -> Result<Option<Shadow>, DecodeError> {
    if u32::from(raw.shadow_verdict) == abi::verdict::NONE {
        return Ok(None);
    }
    Ok(Some(Shadow {
        verdict: verdict("shadow_verdict", raw.shadow_verdict)?,
        why: raw.shadow_why,
        rule_sets: raw.shadow_rule_sets.map(RuleSetId),
    }))
}

fn trace(kind: u8, bytes: &[u8]) -> Result<Option<Trace>, DecodeError> {
    let of = |raw: &abi::Traffic| Traffic { packets: raw.packets, bytes: raw.bytes };
    match u32::from(kind) {
        abi::kind::DECISION => Ok(None),
        abi::kind::ANSWER => Ok(Some(Trace::Answer)),
        abi::kind::END => {
            let (raw, _) = abi::EndRecord::read_from_prefix(bytes)
                .map_err(|_| DecodeError::Short(bytes.len()))?;
            Ok(Some(Trace::End((raw.lived_ns != 0).then(|| Carried {
                lived: Duration::from_nanos(raw.lived_ns),
                initiator: of(&raw.initiator),
                responder: of(&raw.responder),
            }))))
        }
        _ => unknown("kind", kind),
    }
}

fn direction(field: &'static str, value: u8) -> Result<Direction, DecodeError> {
    match u32::from(value) {
        abi::direction::INGRESS => Ok(Direction::Ingress),
        abi::direction::EGRESS => Ok(Direction::Egress),
        _ => unknown(field, value),
    }
}

fn reply(value: u8) -> Result<Option<bool>, DecodeError> {
    match u32::from(value) {
        abi::reply::UNKNOWN => Ok(None),
        abi::reply::NO => Ok(Some(false)),
        abi::reply::YES => Ok(Some(true)),
        _ => unknown("reply", value),
    }
}

fn match_type(value: u8) -> Result<MatchType, DecodeError> {
    match value {
        0 => Ok(MatchType::None),
        1 => Ok(MatchType::L3Only),
        2 => Ok(MatchType::L3L4),
        3 => Ok(MatchType::L4Only),
        4 => Ok(MatchType::All),
        5 => Ok(MatchType::L3Proto),
        6 => Ok(MatchType::ProtoOnly),
        _ => unknown("match_type", value),
    }
}

fn address(raw: &abi::Address) -> IpAddr {
    Ipv6Addr::from(raw.bytes).to_canonical()
}

fn transport(raw: &abi::Record) -> Layer4 {
    const ICMPV4: u8 = 1;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const ICMPV6: u8 = 58;
    const SCTP: u8 = 132;
    let source = u16::from_be(raw.source_port);
    let destination = u16::from_be(raw.destination_port);
    let icmp = IcmpMessage { kind: raw.icmp_type, code: raw.icmp_code };
    match raw.protocol {
        ICMPV4 => Layer4::Icmpv4(icmp),
        TCP => Layer4::Tcp { source, destination, flags: TcpFlags(raw.tcp_flags) },
        UDP => Layer4::Udp { source, destination },
        ICMPV6 => Layer4::Icmpv6(icmp),
        SCTP => Layer4::Sctp { source, destination },
        other => Layer4::Other(other),
    }
}

fn process(raw: &abi::Process) -> Attribution {
    match unknown_process(raw.origin) {
        Some(why) => Attribution::Unknown(why),
        None => Attribution::Known(Process {
            pid: raw.pid,
            uid: raw.uid,
            start_ns: raw.start_ns,
            comm: text(&raw.comm),
            binary: binary(raw),
            cgroup_id: raw.cgroup_id,
            container: String::new(),
        }),
    }
}

/// Why a process is not known; `None`: it is.
pub(crate) fn unknown_process(origin: u8) -> Option<UnknownProcess> {
    Some(match u32::from(origin) {
        abi::origin::KNOWN => return None,
        abi::origin::NO_SOCKET => UnknownProcess::NoSocket,
        abi::origin::KERNEL => UnknownProcess::Kernel,
        abi::origin::OLD_SOCKET => UnknownProcess::OlderThanAgent,
        abi::origin::NO_LISTENER => UnknownProcess::NoListener,
        abi::origin::CLOSED => UnknownProcess::Closed,
        _ => UnknownProcess::Other(origin),
    })
}

/// Up to the first NUL. File names are bytes: what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn binary(raw: &abi::Process) -> String {
    let path = text(raw.binary.get(usize::from(raw.binary_start)..).unwrap_or_default());
    if raw.truncated == 0 { path } else { format!("…{path}") }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn raw() -> abi::Record {
        let mut raw = abi::Record::new_zeroed();
        raw.verdict = abi::verdict::DENY as u8;
        raw.ring = abi::ring::DROPS as u8;
        raw.reason = abi::reason::POLICY_DENIED as u8;
        raw.why = abi::why::DEFAULT_DENY as u8;
        raw.hook = abi::direction::INGRESS as u8;
        raw.layer = abi::layer::TRANSPORT as u8;
        raw.protocol = 6;
        raw.tcp_flags = 2;
        raw.source_port = 40000u16.to_be();
        raw.destination_port = 8080u16.to_be();
        raw.source.bytes =
            "10.1.0.2".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
        raw.destination.bytes = "fd00::2".parse::<Ipv6Addr>().unwrap().octets();
        raw.process.origin = abi::origin::KNOWN as u8;
        raw.process.pid = 42;
        raw.process.comm[..4].copy_from_slice(b"curl");
        raw.process.binary[113..127].copy_from_slice(b"/usr/bin/curl\0");
        raw.process.binary_start = 113;
        raw
    }

    #[test]
    fn a_record_says_who_what_and_why() {
        let record = Record::decode(raw().as_bytes()).unwrap();
        assert_eq!(record.verdict, Verdict::Dropped);
        assert_eq!(record.reason, 133);
        assert_eq!(record.direction, Some(Direction::Ingress));
        assert_eq!(
            record.addresses,
            Some(("10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()))
        );
        let tcp = Layer4::Tcp { source: 40000, destination: 8080, flags: TcpFlags(2) };
        assert_eq!(record.l4, Some(tcp));
        let process = record.process.known().unwrap();
        assert_eq!((process.pid, process.binary.as_str()), (42, "/usr/bin/curl"));
    }

    #[test]
    fn a_path_that_was_cut_says_so() {
        let mut raw = raw();
        raw.process.truncated = 1;
        let record = Record::decode(raw.as_bytes()).unwrap();
        assert_eq!(record.process.known().unwrap().binary, "…/usr/bin/curl");
    }

    #[test]
    fn a_frame_that_did_not_parse_has_no_addresses() {
        let mut raw = raw();
        raw.layer = abi::layer::LINK as u8;
        raw.why = 0;
        let record = Record::decode(raw.as_bytes()).unwrap();
        assert_eq!((record.addresses, record.l4, record.direction), (None, None, None));
    }

    #[test]
    fn what_would_have_been_decided_is_told_where_it_is_known() {
        let mut raw = raw();
        assert_eq!(Record::decode(raw.as_bytes()).unwrap().shadow, None);
        raw.shadow_verdict = abi::verdict::ALLOW as u8;
        raw.shadow_why = abi::why::RULE as u8;
        raw.shadow_rule_sets = [7, 0];
        let rule_sets = [RuleSetId(7), RuleSetId(0)];
        let shadow = Shadow { verdict: Verdict::Forwarded, why: 2, rule_sets };
        assert_eq!(Record::decode(raw.as_bytes()).unwrap().shadow, Some(shadow));
        raw.shadow_verdict = 3;
        let error = Record::decode(raw.as_bytes()).unwrap_err();
        assert_eq!(error, DecodeError::Unknown { field: "shadow_verdict", value: 3 });
    }

    #[test]
    fn an_end_says_what_the_connection_carried_if_that_is_known() {
        let mut raw = abi::EndRecord::new_zeroed();
        raw.record = self::raw();
        raw.record.kind = abi::kind::END as u8;
        raw.record.why = 0;
        let decoded = Record::decode(raw.as_bytes()).unwrap();
        assert_eq!(decoded.trace, Some(Trace::End(None)));
        assert_eq!(decoded.direction, Some(Direction::Ingress));
        raw.lived_ns = 7_000_000;
        (raw.initiator.packets, raw.initiator.bytes) = (5, 400);
        (raw.responder.packets, raw.responder.bytes) = (4, 9000);
        let carried = Carried {
            lived: Duration::from_millis(7),
            initiator: Traffic { packets: 5, bytes: 400 },
            responder: Traffic { packets: 4, bytes: 9000 },
        };
        let decoded = Record::decode(raw.as_bytes()).unwrap();
        assert_eq!(decoded.trace, Some(Trace::End(Some(carried))));
        let short = Record::decode(&raw.as_bytes()[..size_of::<abi::Record>()]);
        assert_eq!(short, Err(DecodeError::Short(size_of::<abi::Record>())));
    }

    #[test]
    fn numbers_from_a_newer_kernel_side_are_refused_by_name() {
        let mut raw = raw();
        raw.verdict = 9;
        let error = Record::decode(raw.as_bytes()).unwrap_err();
        assert_eq!(error, DecodeError::Unknown { field: "verdict", value: 9 });
        assert_eq!(Record::decode(&[0; 10]), Err(DecodeError::Short(10)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bytes = [0u8; size_of::<abi::EndRecord>()];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (seed >> 56) as u8;
            }
            let _ = Record::decode(&bytes);
        }
    }
}
