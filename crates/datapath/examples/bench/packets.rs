//! Nanoseconds per packet, above a program that judges nothing.
//!
//! Measured by BPF_PROG_TEST_RUN: nothing is timed in user space. The rings are
//! read between runs, so records find room and cost what they cost, and
//! connections that a run opened are removed before the next.

use std::path::Path;
use std::time::{Duration, Instant};

use datapath::{RecordReader, TestRun};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput};
use zerocopy::{FromBytes, IntoBytes};

use crate::Outcome;
use crate::site::{self, Cluster, FIRST_PORT, MAC, OPEN_PORT, POD, Pins, Rules};

#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bench.bpf.o")));

/// Rules, and remote identities beside them.
const RULES: [u32; 4] = [0, 100, 10_000, 100_000];
const REMOTE: u32 = 100_000;
/// Connections that are open while everything else is measured.
const CONNECTIONS: u32 = 100_000;
/// Runs of one measurement; the least is reported, and the most beside it.
const RUNS: usize = 7;
/// Packets of a run that opens connections or leaves records: they fit the ring,
/// and none of them meets another's source port.
const NEW: u32 = 20_000;
const ESTABLISHED: u32 = 500_000;
/// A port that no rule allows.
const DENIED_PORT: u16 = 40_000;
/// TCX_NEXT and TC_ACT_SHOT: see `bpf/lib/base.h`.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;

/// What keys are drawn from; see `struct bench_keys`.
#[derive(Clone, Copy)]
struct Keys {
    count: u32,
    peers: u32,
    port: u16,
    in_turn: bool,
    fresh: bool,
}

pub fn measure() -> Outcome<()> {
    println!("packets: ns above a program that judges nothing; {REMOTE} identities, ");
    println!("{CONNECTIONS} open connections; hot: one key, random: drawn from all of them");
    println!("{:>8}  {:<22} {:>6}  {:>14}", "rules", "case", "ns", "of 7 runs");
    let pins = Pins::new()?;
    let cluster = Cluster::new(REMOTE);
    for rules in RULES {
        node(&pins.node(&format!("{rules}")), &cluster, Rules::new(rules))?;
    }
    Ok(())
}

fn node(pins: &Path, cluster: &Cluster, rules: Rules) -> Outcome<()> {
    let mut datapath = site::open(pins.to_owned(), site::large())?;
    let start = Instant::now();
    let table = cluster.table(rules)?;
    let (compiled, entries) = (start.elapsed(), table.len());
    let start = Instant::now();
    datapath.apply(&cluster.desired(TestRun::ifindex(), table)?)?;
    let bench = Bench { pins, rules, reader: RecordReader::open(pins)? };

    let flows =
        Keys { count: CONNECTIONS, peers: REMOTE, port: OPEN_PORT, in_turn: true, fresh: false };
    let installed = start.elapsed();
    let opening = bench.load(flows)?;
    for _ in 0..5 {
        packets(&opening, "bench_egress", CONNECTIONS / 5)?;
        bench.drain()?;
    }
    let random = Keys { in_turn: false, ..flows };
    bench.report("established, hot", Keys { count: 1, ..random }, ESTABLISHED)?;
    bench.report("established, random", random, ESTABLISHED)?;

    let count = rules.count.max(1);
    let every_rule =
        Keys { count, peers: rules.peers, port: FIRST_PORT, in_turn: false, fresh: true };
    bench.report("new-allowed, hot", Keys { count: 1, ..every_rule }, NEW)?;
    bench.report("new-allowed, random", every_rule, NEW)?;
    if rules.count > 0 {
        let denied = Keys { count: REMOTE, peers: REMOTE, port: DENIED_PORT, ..every_rule };
        bench.report("new-denied, hot", Keys { count: 1, ..denied }, NEW)?;
        bench.report("new-denied, random", denied, NEW)?;
    }
    println!(
        "{:>8}  {entries} entries, compiled in {:.0?}, installed in {:.0?}",
        rules.count, compiled, installed
    );
    Ok(())
}

struct Bench<'a> {
    pins: &'a Path,
    rules: Rules,
    reader: RecordReader,
}

impl Bench<'_> {
    /// The benchmark's programs on the maps of an open datapath.
    fn load(&self, keys: Keys) -> Outcome<Object> {
        let mut open = ObjectBuilder::default().open_memory(&OBJECT.0)?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name == ".rodata.bench" {
                let Keys { count, peers, port, in_turn, fresh } = keys;
                let words = [count, peers, port.into(), in_turn.into(), fresh.into()];
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                map.set_initial_value(&bytes)?;
            } else if !name.contains('.') {
                map.reuse_pinned_map(self.pins.join("maps").join(&name))?;
            }
        }
        for mut program in open.progs_mut() {
            let wanted = program.name().to_string_lossy().starts_with("bench_");
            program.set_autoload(wanted);
        }
        Ok(open.load()?)
    }

    fn report(&self, case: &str, keys: Keys, count: u32) -> Outcome<()> {
        let bench = self.load(keys)?;
        let mut times = Vec::new();
        // What is measured must be what the row says.
        let records = if keys.fresh { count } else { 0 };
        let verdict = if keys.port == DENIED_PORT { DROP } else { PASS };
        for _ in 0..RUNS {
            let (_, baseline) = packets(&bench, "bench_baseline", count)?;
            let (returned, judged) = packets(&bench, "bench_egress", count)?;
            times.push(judged.saturating_sub(baseline).as_nanos());
            let left = self.drain()?;
            if returned != verdict || left != usize::try_from(records)? {
                let error =
                    format!("{case}: returned {returned}, left {left} records of {records}");
                return Err(error.into());
            }
            if keys.fresh {
                self.close_new()?;
            }
        }
        times.sort_unstable();
        let (least, most) = (times[0], times[RUNS - 1]);
        let rules = self.rules.count;
        println!("{rules:>8}  {case:<22} {least:>6}  {:>14}", format!("{least} to {most}"));
        Ok(())
    }

    /// Reads all records there are; how many.
    fn drain(&self) -> Outcome<usize> {
        let mut records = 0;
        while self.reader.read(Duration::ZERO, &mut |_| records += 1)? > 0 {}
        Ok(records)
    }

    /// Removes what a run opened; the connections of before stay.
    fn close_new(&self) -> Outcome<()> {
        let maps = self.pins.join("maps");
        let conntrack = MapHandle::from_pinned_path(maps.join("conntrack"))?;
        let (stay, go): (Vec<_>, Vec<_>) = conntrack.keys().partition(|key| is_flow(key));
        if stay.len() != usize::try_from(CONNECTIONS)? {
            return Err(format!("{} connections are open, not {CONNECTIONS}", stay.len()).into());
        }
        for key in go {
            conntrack.delete(&key)?;
        }
        let usage = MapHandle::from_pinned_path(maps.join("usage"))?;
        let key = site::ENDPOINT.to_ne_bytes();
        let bytes = usage.lookup(&key, MapFlags::ANY)?.ok_or("the endpoint has no quota")?;
        let mut used = abi::Usage::read_from_bytes(&bytes).map_err(|error| error.to_string())?;
        used.connections = CONNECTIONS.into();
        Ok(usage.update(&key, used.as_bytes(), MapFlags::EXIST)?)
    }
}

fn is_flow(key: &[u8]) -> bool {
    abi::ConnectionKey::read_from_bytes(key)
        .is_ok_and(|key| u16::from_be(key.remote_port) == OPEN_PORT)
}

/// What the last run of a program returned, and the mean time of all.
fn packets(bench: &Object, program: &str, count: u32) -> Outcome<(u32, Duration)> {
    let program = bench
        .progs_mut()
        .find(|candidate| candidate.name() == program)
        .ok_or("the object lacks a program")?;
    let frame = frame();
    let input = ProgramInput { data_in: Some(&frame), repeat: count, ..ProgramInput::default() };
    let output = program.test_run(input)?;
    Ok((output.return_value, output.duration))
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
