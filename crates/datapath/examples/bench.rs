//! Nanoseconds per packet, above a program that judges nothing.
//!
//! `cargo run --release -p signet-datapath --example bench`, as root. Every
//! look-up has random keys over all entries; nothing is timed in user space. The
//! rings are read between runs, so records find room and cost what they cost.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datapath::{Config, Datapath, Desired, Endpoint, Limits, RecordReader, TestRun};
use libbpf_rs::{Object, ObjectBuilder, ProgramInput};
use model::{Direction, IdentityBook, Label, Labels, PolicyKind, PolicyName, RuleId};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Options, Peer, Peers, Policy, Port, PortMatch, Ports, Requirement};
use policy::{Rule, Selector, SelectorKey, Tier, Transport};

#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bench.bpf.o")));

type Outcome<T> = Result<T, Box<dyn Error>>;

const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const TABLE: u32 = 1;
const FIRST_PORT: u16 = 1024;
/// Runs of one measurement; the least is reported, and the spread beside it.
const RUNS: usize = 5;
/// Packets of one run that leaves records: they must fit the ring.
const WITH_RECORDS: u32 = 100_000;
const WITHOUT_RECORDS: u32 = 1_000_000;

/// What random keys are drawn from.
#[derive(Clone, Copy)]
struct Keys {
    peers: u32,
    source_ports: u32,
    port: u32,
    ports: u32,
}

fn main() -> Outcome<()> {
    let folder = std::env::temp_dir().join(format!("signet-bench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = private_bpffs(&folder).and_then(|()| run(&folder.join("node")));
    let _ = nix::mount::umount(&folder);
    let _ = std::fs::remove_dir(&folder);
    result
}

fn private_bpffs(folder: &Path) -> Outcome<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("{error}: run as root"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}

fn run(pins: &Path) -> Outcome<()> {
    println!("nanoseconds per packet above a program that judges nothing; random keys");
    println!("{:>8} {:>10} {:<14} {:>9} {:>14}", "rules", "peers", "case", "ns", "of 5 runs");
    for (rules, peers) in [(1, 1_000), (100, 1_000), (10_000, 10_000)] {
        let pins = pins.join(format!("{rules}"));
        measure(&pins, rules, peers)?;
    }
    Ok(())
}

fn measure(pins: &Path, rules: u16, peers: u32) -> Outcome<()> {
    let limits = Limits {
        endpoints: 4,
        connections_per_endpoint: 1_000_000,
        addresses: 131_072,
        table_entries: 65_536,
        ring_bytes: 64 << 20,
        drop_records: u32::MAX,
        ..Limits::default()
    };
    let config = Config { pins: pins.to_owned(), cgroup: None, limits };
    let mut datapath = Datapath::open(&config)?;
    datapath.apply(&desired(rules, peers)?)?;
    let reader = RecordReader::open(pins)?;

    // 100,000 connections, opened by the program itself, then met at random.
    let source_ports = (100_000 / peers).clamp(1, 60_000);
    let established = Keys { peers, source_ports, port: FIRST_PORT.into(), ports: 1 };
    let bench = load(pins, established)?;
    for _ in 0..20 {
        packets(&bench, "bench_egress", WITH_RECORDS / 2)?;
        drain(&reader)?;
    }
    report(rules, peers, "established", &bench, &reader, WITHOUT_RECORDS)?;

    let denied = Keys { port: 20_000, ports: 20_000, source_ports: 60_000, ..established };
    let bench = load(pins, denied)?;
    report(rules, peers, "new, denied", &bench, &reader, WITH_RECORDS)?;

    let allowed = Keys { ports: rules.into(), source_ports: 60_000, ..established };
    let bench = load(pins, allowed)?;
    report(rules, peers, "new, allowed", &bench, &reader, WITH_RECORDS)
}

/// The benchmark's programs on the maps of an open datapath.
fn load(pins: &Path, keys: Keys) -> Outcome<Object> {
    let mut open = ObjectBuilder::default().open_memory(&OBJECT.0)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == ".rodata.bench" {
            let numbers = [keys.peers, keys.source_ports, keys.port, keys.ports];
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
            map.set_initial_value(&bytes)?;
        } else if !name.contains('.') {
            map.reuse_pinned_map(pins.join("maps").join(&name))?;
        }
    }
    for mut program in open.progs_mut() {
        let wanted = program.name().to_string_lossy().starts_with("bench_");
        program.set_autoload(wanted);
    }
    Ok(open.load()?)
}

fn packets(bench: &Object, program: &str, count: u32) -> Outcome<Duration> {
    let program = bench
        .progs_mut()
        .find(|candidate| candidate.name() == program)
        .ok_or("the object lacks a program")?;
    let frame = frame();
    let input = ProgramInput { data_in: Some(&frame), repeat: count, ..ProgramInput::default() };
    Ok(program.test_run(input)?.duration)
}

fn report(
    rules: u16,
    peers: u32,
    case: &str,
    bench: &Object,
    reader: &RecordReader,
    count: u32,
) -> Outcome<()> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let baseline = packets(bench, "bench_baseline", count)?;
        let judged = packets(bench, "bench_egress", count)?;
        times.push(judged.saturating_sub(baseline).as_nanos());
        drain(reader)?;
    }
    times.sort_unstable();
    let (least, most) = (times[0], times[RUNS - 1]);
    println!("{rules:>8} {peers:>10} {case:<14} {least:>9} {:>14}", format!("{least} to {most}"));
    Ok(())
}

fn drain(reader: &RecordReader) -> Outcome<()> {
    while reader.read(Duration::ZERO, &mut |_| {})? > 0 {}
    Ok(())
}

/// A TCP segment with SYN that the pod sends; addresses and ports are rewritten.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1];
    frame.extend(MAC);
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(POD.octets());
    frame.extend([10, 2, 0, 0]);
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    frame
}

/// Every peer an identity of its own; each rule one port, for one of the teams
/// that the peers are of.
fn desired(rules: u16, peers: u32) -> Outcome<Desired> {
    let cluster = || Label::k8s("io.cilium.k8s.policy.cluster", "default");
    let subject: Labels = [Label::k8s("app", "pay"), cluster()].into_iter().collect();
    let labels = |peer: u32| -> Labels {
        [Label::k8s("app", format!("a{peer}")), Label::k8s("team", "bank"), cluster()]
            .into_iter()
            .collect()
    };
    let book = IdentityBook::new((0..peers).map(labels).chain([subject.clone()]));
    let name = PolicyName {
        kind: PolicyKind::CiliumNetworkPolicy,
        namespace: Some("bank".into()),
        name: "bench".into(),
    };
    let rule = |number: u16| Rule {
        id: RuleId { policy: name.clone(), path: format!("spec.egress[{number}]") },
        tier: Tier::Normal,
        priority: 0,
        subject: policy::Subject::Endpoints(Selector::default()),
        direction: Direction::Egress,
        action: Action::Allow,
        // A rule about a team costs an entry for each peer: a few of them suffice.
        peers: if matches!(number, 1 | 3) { team() } else { Peers::Any },
        ports: Ports::OneOf(vec![PortMatch {
            transport: Transport::Tcp,
            port: Port::Range(FIRST_PORT + number, FIRST_PORT + number),
        }]),
        default_deny: true,
        authentication: None,
        layer7: None,
        log: None,
    };
    let policy = Policy { name: name.clone(), rules: (0..rules).map(rule).collect() };
    let options = Options { max_entries: 60_000, ..Options::default() };
    let table = policy::compile(&[policy], &subject, &BTreeMap::new(), &book, &options)?;
    let identity = book.id(&subject).ok_or("the subject has no identity")?;
    let endpoint = Endpoint {
        id: 1,
        identity,
        table: TABLE,
        mac: MAC,
        ipv4: Some(POD),
        ipv6: None,
        netns_id: -1,
    };
    let addresses = (0..peers)
        .filter_map(|peer| {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 2, 0, 0)) + peer);
            Some((IpAddr::from(address), book.id(&labels(peer))?))
        })
        .collect();
    Ok(Desired {
        endpoints: [(TestRun::ifindex(), endpoint)].into(),
        addresses,
        prefixes: BTreeMap::new(),
        tables: [(TABLE, Arc::new(table))].into(),
        ..Desired::default()
    })
}

fn team() -> Peers {
    let requirement = Requirement::equals(SelectorKey::parse("k8s:team"), "bank");
    Peers::OneOf(vec![Peer::Endpoints([requirement].into_iter().collect())])
}
