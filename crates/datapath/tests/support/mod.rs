//! A node's kernel state in a bpffs of its own, and frames to try on it.
//!
//! Needs root and a kernel; nothing is faked. The mount namespace is private,
//! so a test that dies leaves no mount and no pin.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod site;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datapath::{
    Config, Datapath, Desired, Endpoint, Host, Limits, Record, RecordReader, TestRun, Traces,
};
use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};
use model::{
    Direction, IdentityBook, IdentityId, Label, Labels, PolicyKind, PolicyName, Reserved, RuleId,
    RuleSet, Verdict,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Mode, Options, Peers, Policy, Ports, Rule, Selector, Table, Tier};

pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub const POD6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 3);
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const TABLE: u32 = 77;
pub const ENDPOINT: u32 = 9;

/// Sizes that let a test run in little memory.
pub const SMALL: Limits = Limits {
    endpoints: 16,
    connections_per_endpoint: 4096,
    addresses: 4096,
    table_entries: 65_536,
    services: 256,
    backends: 256,
    ring_bytes: 1 << 20,
    drop_records: 1_000_000,
    traces: Traces::End,
};

/// One node, open.
pub struct Node {
    pub datapath: Datapath,
    pub config: Config,
    reader: RecordReader,
    // Removed last: the pins are below it.
    folder: tempfile::TempDir,
}

impl Node {
    pub fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let config = Config { pins: folder.path().join("lab/node"), cgroup: None, limits };
        Self::open(config, folder)
    }

    fn open(config: Config, folder: tempfile::TempDir) -> Self {
        let datapath = Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let reader = RecordReader::open(&config.pins).unwrap();
        Self { datapath, config, reader, folder }
    }

    /// What a new agent finds after this one died.
    pub fn reopen(self) -> Self {
        let Self { datapath, config, reader, folder } = self;
        drop((datapath, reader));
        Self::open(config, folder)
    }

    pub fn pins(&self) -> PathBuf {
        self.config.pins.clone()
    }

    #[track_caller]
    pub fn apply(&mut self, desired: &Desired) -> u32 {
        self.datapath.apply(desired).unwrap_or_else(|error| panic!("{}", chain(&error))).revision
    }

    /// Judges a frame as the endpoint on the loopback interface.
    #[track_caller]
    pub fn judge(&self, direction: Direction, frame: &[u8]) -> Verdict {
        TestRun::new(&self.datapath).run(direction, frame, 1).unwrap().verdict
    }

    /// Judges a frame and returns the one record it left.
    #[track_caller]
    pub fn record(&self, direction: Direction, frame: &[u8]) -> Record {
        self.records();
        let verdict = self.judge(direction, frame);
        let mut records = self.records();
        assert_eq!(records.len(), 1, "one frame, one record: {records:?}");
        let record = records.remove(0);
        assert_eq!(record.verdict, verdict, "the record tells what happened");
        record
    }

    /// Drop code of a frame that must be dropped; 0 when it went on.
    #[track_caller]
    pub fn reason(&self, direction: Direction, frame: &[u8]) -> u8 {
        self.records();
        if self.judge(direction, frame) == Verdict::Forwarded {
            return 0;
        }
        self.records().pop().expect("a drop leaves a record").reason
    }

    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.reader.read(Duration::ZERO, &mut |record| records.push(record.unwrap())).unwrap();
        records
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error:?}");
        source = error.source();
    }
    text
}

/// Three workloads and everything reserved.
pub struct World {
    pub identities: IdentityBook,
}

impl World {
    pub fn new() -> Self {
        Self { identities: IdentityBook::new(["pay", "web", "dev"].map(labels)) }
    }

    pub fn id(&self, app: &str) -> IdentityId {
        self.identities.id(&labels(app)).unwrap()
    }

    pub fn table(&self, rules: Vec<Rule>) -> Table {
        self.table_of("pay", rules)
    }

    pub fn table_of(&self, subject: &str, rules: Vec<Rule>) -> Table {
        let policy = Policy { name: policy_name(), mode: Mode::Enforce, rules: rules.into() };
        let none = BTreeMap::new();
        let subject = labels(subject);
        policy::compile(&[policy], &subject, &none, &self.identities, &Options::default()).unwrap()
    }

    /// A table of the node itself.
    pub fn table_of_the_node(&self, rules: Vec<Rule>) -> Arc<Table> {
        let policy = Policy { name: policy_name(), mode: Mode::Enforce, rules: rules.into() };
        let (subject, none) = (Reserved::Host.identity().labels, BTreeMap::new());
        let options = Options::default();
        Arc::new(policy::compile(&[policy], &subject, &none, &self.identities, &options).unwrap())
    }

    /// The pod on the loopback interface, its peer, and this table.
    pub fn desired(&self, table: Table) -> Desired {
        let endpoint = Endpoint {
            id: ENDPOINT,
            identity: self.id("pay"),
            table: TABLE,
            mac: MAC,
            ipv4: Some(POD),
            ipv6: Some(POD6),
            netns_id: -1,
        };
        let web = self.id("web");
        let pay = self.id("pay");
        Desired {
            endpoints: [(TestRun::ifindex(), endpoint)].into(),
            host: Host { addresses: [IpAddr::from(NODE)].into(), subject: None },
            addresses: BTreeMap::from([
                (IpAddr::from(POD), pay),
                (IpAddr::from(POD6), pay),
                (IpAddr::from(PEER), web),
                (IpAddr::from(PEER6), web),
                (IpAddr::from(NODE), Reserved::Host.id()),
            ]),
            prefixes: BTreeMap::from([
                ("10.1.0.0/16".parse().unwrap(), Reserved::Unmanaged.id()),
                ("fd00:1::/32".parse().unwrap(), Reserved::Unmanaged.id()),
            ]),
            tables: [(TABLE, Arc::new(table))].into(),
            ..Desired::default()
        }
    }
}

pub fn labels(app: &str) -> Labels {
    [
        Label::k8s("app", app),
        Label::k8s("io.kubernetes.pod.namespace", "bank"),
        Label::k8s("io.cilium.k8s.policy.cluster", "default"),
    ]
    .into_iter()
    .collect()
}

pub fn policy_name() -> PolicyName {
    PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("bank".into()),
        name: "test".into(),
    }
}

/// A rule about every pod; `path` is its name.
pub fn rule(path: &str, direction: Direction, action: Action, peers: Peers, ports: Ports) -> Rule {
    Rule {
        id: RuleId { policy: policy_name(), path: path.to_owned() },
        tier: Tier::Normal,
        priority: 0,
        subject: policy::Subject::Endpoints(Selector::default()),
        direction,
        action,
        peers,
        ports,
        default_deny: true,
        authentication: None,
        layer7: None,
        log: None,
    }
}

/// Peers with this `app` label.
pub fn app(name: &str) -> Peers {
    let requirement =
        policy::Requirement::equals(policy::SelectorKey::parse("k8s:app"), name.to_owned());
    Peers::OneOf(vec![policy::Peer::Endpoints([requirement].into_iter().collect())])
}

pub fn tcp(port: u16) -> Ports {
    Ports::OneOf(vec![policy::PortMatch {
        transport: policy::Transport::Tcp,
        port: policy::Port::Range(port, port),
    }])
}

/// One port, or ICMP type, of a protocol.
pub fn numbered(protocol: u8, port: u16) -> Ports {
    Ports::OneOf(vec![policy::PortMatch {
        transport: policy::Transport::Number(protocol),
        port: policy::Port::Range(port, port),
    }])
}

/// A protocol whatever the port.
pub fn protocol(number: u8) -> Ports {
    Ports::OneOf(vec![policy::PortMatch {
        transport: policy::Transport::Number(number),
        port: policy::Port::Any,
    }])
}

pub fn rule_set(rules: &[&str], because: bool) -> RuleSet {
    let id = |path: &&str| RuleId { policy: policy_name(), path: (*path).to_owned() };
    RuleSet {
        rules: rules.iter().map(id).collect(),
        because: if because { vec![policy_name()] } else { vec![] },
    }
}

/// Flags of a TCP segment.
#[derive(Clone, Copy)]
pub enum Tcp {
    Syn,
    SynAck,
    Ack,
    Rst,
    Fin,
}

fn ethernet(direction: Direction) -> PacketBuilderStep<etherparse::Ethernet2Header> {
    match direction {
        Direction::Egress => PacketBuilder::ethernet2(MAC, ROUTER_MAC),
        Direction::Ingress => PacketBuilder::ethernet2(ROUTER_MAC, MAC),
    }
}

fn with_ip(
    direction: Direction,
    source: IpAddr,
    destination: IpAddr,
) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet(direction).ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet(direction).ipv6(source.octets(), destination.octets(), 64)
        }
        _ => panic!("two ends of one family"),
    }
}

/// A TCP segment that the pod sends (egress) or is to get (ingress).
pub fn segment(
    direction: Direction,
    (source, source_port): (impl Into<IpAddr>, u16),
    (destination, destination_port): (impl Into<IpAddr>, u16),
    flags: Tcp,
) -> Vec<u8> {
    let step = with_ip(direction, source.into(), destination.into());
    let step = step.tcp(source_port, destination_port, 1, 1024);
    let step = match flags {
        Tcp::Syn => step.syn(),
        Tcp::SynAck => step.syn().ack(1),
        Tcp::Ack => step.ack(1),
        Tcp::Rst => step.rst(),
        Tcp::Fin => step.fin().ack(1),
    };
    let mut frame = Vec::new();
    step.write(&mut frame, &[]).unwrap();
    frame
}

pub fn datagram(
    direction: Direction,
    (source, source_port): (impl Into<IpAddr>, u16),
    (destination, destination_port): (impl Into<IpAddr>, u16),
) -> Vec<u8> {
    let step = with_ip(direction, source.into(), destination.into());
    let mut frame = Vec::new();
    step.udp(source_port, destination_port).write(&mut frame, b"signet").unwrap();
    frame
}

/// An ICMP echo request, or the reply to one.
pub fn echo(
    direction: Direction,
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    id: u16,
    reply: bool,
) -> Vec<u8> {
    let (source, destination) = (source.into(), destination.into());
    let step = with_ip(direction, source, destination);
    let mut frame = Vec::new();
    match (source.is_ipv4(), reply) {
        (true, false) => step.icmpv4_echo_request(id, 1).write(&mut frame, b"ping").unwrap(),
        (true, true) => step.icmpv4_echo_reply(id, 1).write(&mut frame, b"ping").unwrap(),
        (false, false) => step.icmpv6_echo_request(id, 1).write(&mut frame, b"ping").unwrap(),
        (false, true) => step.icmpv6_echo_reply(id, 1).write(&mut frame, b"ping").unwrap(),
    }
    frame
}

/// A packet of any protocol with this payload.
pub fn raw(
    direction: Direction,
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    /// Means nothing to the library, which would write headers of its own.
    const UNASSIGNED: IpNumber = IpNumber(253);
    let (source, destination) = (source.into(), destination.into());
    let mut frame = Vec::new();
    with_ip(direction, source, destination).write(&mut frame, UNASSIGNED, payload).unwrap();
    frame[if source.is_ipv4() { 23 } else { 20 }] = protocol;
    frame
}
