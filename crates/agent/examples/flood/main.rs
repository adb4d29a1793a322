//! What an agent does when it is offered more than it can tell: does it lose count,
//! memory or its ability to answer, what rate does it sustain, and what does a flow
//! cost?
//!
//! `cargo run --release -p signet-agent --example flood -- [SECONDS [SIGNET]]`, as root;
//! with the `signet` program it also measures how long a packet takes until it is a line
//! of `signet observe --follow`. Ends with an error when a number does not add up or a
//! bound does not hold.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a benchmark")]

mod world;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use world::{Accounts, Flood, Seen, World};

/// Memory of an agent whose flows are all taken: 16 MiB of flows with what is beside
/// them, both rings, the records on their way, the program itself.
const MEMORY: usize = 128 << 20;

fn main() {
    let seconds = std::env::args().nth(1).map_or(60, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(folder.path());
    println!("flows from the kernel's ring to memory; one reading thread, one offering thread");
    println!(
        "{:>11} {:>6} {:>9} {:>11} {:>11} {:>11} {:>8} {:>9} {:>9} {:>9}",
        "offered/s",
        "equal",
        "seconds",
        "offered",
        "told",
        "lost",
        "us/flow",
        "MiB",
        "status",
        "policy"
    );
    measure_generated(&world, Duration::from_secs(seconds));
    for (per_second, equal) in [(1_000_000, 1), (1_000_000, 2), (1_000_000, 64)] {
        measure(&world, Flood { per_second, equal }, Duration::from_secs(seconds));
    }
    let mut sustained = 0;
    for per_second in [10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 125_000, 150_000, 200_000] {
        let flood = Flood { per_second, equal: 1 };
        if measure(&world, flood, Duration::from_secs(5)).lost > 0 {
            break;
        }
        sustained = per_second;
    }
    println!("sustained without loss, each flow another: {sustained} flows/s");
    if let Some(signet) = std::env::args().nth(2) {
        latency(&world, Path::new(&signet));
    }
    world.stop();
}

/// One line; what it was told and what was lost.
fn measure(world: &World, flood: Flood, during: Duration) -> Accounts {
    account(world, &flood.equal.to_string(), || world.flood(flood, during))
}

/// The same of packets that the kernel makes: beside the agent, no sender in user space
/// can offer as many.
fn measure_generated(world: &World, during: Duration) {
    const PER_SECOND: u64 = 1_000_000;
    let program = std::env::current_exe().unwrap().with_file_name("generate");
    if !program.exists() {
        let build = "cargo build --release -p signet-datapath --example generate";
        println!("not measured: a million different packets a second, for want of `{build}`");
        return;
    }
    account(world, "none", || world.generate(&program, PER_SECOND, during));
}

fn account(world: &World, equal: &str, offer: impl FnOnce() -> Seen) -> Accounts {
    let before = world.client.settled();
    let seen = offer();
    let after = world.client.settled();
    let offered = after.attempted - before.attempted;
    let (told, lost) = (after.delivered - before.delivered, after.lost - before.lost);
    let rate = seen.offered as f64 / seen.took.as_secs_f64();
    let cost = seen.reading.as_micros() as f64 / told.max(1) as f64;
    let slowest = seen.answers.last().copied().unwrap_or_default();
    println!(
        "{rate:>11.0} {equal:>6} {:>9.1} {offered:>11} {told:>11} {lost:>11} {cost:>8.2} {:>9.1} {:>7}ms {:>7}ms",
        seen.took.as_secs_f64(),
        seen.resident as f64 / f64::from(1 << 20),
        slowest.as_millis(),
        seen.policy.map_or(0, |took| took.as_millis()),
    );
    assert_eq!(offered, seen.offered, "every packet is counted by the kernel");
    assert_eq!(offered, told + lost, "every record is told, or told as lost");
    assert!(seen.resident < MEMORY, "memory: {} bytes", seen.resident);
    assert!(slowest < Duration::from_secs(1), "an answer took {slowest:?}");
    assert!(after.held <= after.capacity);
    Accounts { lost, ..after }
}

/// From the kernel's judgement of a packet to its line in another process.
fn latency(world: &World, signet: &Path) {
    const PER_SECOND: u64 = 10_000;
    let socket = world.client.socket();
    let mut follower = Command::new(signet)
        .args(["observe", "--follow", "-o", "compact", "--server"])
        .arg(socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let reading = thread::spawn(move || {
        let lines = lines.map_while(Result::ok);
        let (mut taken, mut lost) = (Vec::new(), 0);
        for line in lines {
            match after_midnight(&line) {
                Some(packet) => taken.push(now_after_midnight().saturating_sub(packet)),
                None => lost += 1,
            }
        }
        (taken, lost)
    });
    thread::sleep(Duration::from_secs(1));
    let flood = Flood { per_second: PER_SECOND, equal: 1 };
    let seen = world.flood(flood, Duration::from_secs(20));
    thread::sleep(Duration::from_secs(1));
    follower.kill().unwrap();
    follower.wait().unwrap();
    let (mut taken, lost) = reading.join().unwrap();
    taken.sort();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "packet to line at {PER_SECOND} flows/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, \
         longest {:.2} ms; {} lines of {} packets, {lost} lines about losses",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        taken.len(),
        seen.offered,
    );
}

/// The moment of a flow's line, `Nov 22 08:15:00.123: ...`; `None` for one about a loss.
fn after_midnight(line: &str) -> Option<Duration> {
    let (moment, _) = line.split_once(": ")?;
    let mut parts = moment.split_whitespace().nth(2)?.split(':');
    let mut next = || parts.next()?.parse::<f64>().ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    Some(Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds))
}

fn now_after_midnight() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Duration::new(now.as_secs() % 86_400, now.subsec_nanos())
}
