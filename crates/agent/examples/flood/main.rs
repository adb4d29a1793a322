//! What an agent does when it is offered more than it can tell: does it lose count,
//! memory or its ability to answer, what rate does it sustain, and what does a flow
//! cost?
//!
//! `cargo run --release -p signet-agent --example flood -- [SECONDS]`, as root. Ends
//! with an error when a number does not add up or a bound does not hold.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a benchmark")]

mod world;

use std::time::Duration;

use world::{Accounts, Flood, World};

/// Memory of an agent whose flows are all taken: 16 MiB of flows with what is beside
/// them, both rings, the records on their way, the program itself.
const MEMORY: usize = 128 << 20;

fn main() {
    let seconds = std::env::args().nth(1).map_or(60, |text| text.parse().unwrap());
    let folder = std::env::temp_dir().join(format!("signet-flood-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut world = World::new(&folder);
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
    world.stop();
    let _ = nix::mount::umount2(&folder.join("bpf"), nix::mount::MntFlags::MNT_DETACH);
    let _ = std::fs::remove_dir_all(&folder);
}

/// One line; what it was told and what was lost.
fn measure(world: &World, flood: Flood, during: Duration) -> Accounts {
    let before = world.client.settled();
    let seen = world.flood(flood, during);
    let after = world.client.settled();
    let offered = after.attempted - before.attempted;
    let (told, lost) = (after.delivered - before.delivered, after.lost - before.lost);
    let rate = seen.offered as f64 / seen.took.as_secs_f64();
    let cost = seen.reading.as_micros() as f64 / told.max(1) as f64;
    let slowest = seen.answers.last().copied().unwrap_or_default();
    println!(
        "{rate:>11.0} {:>6} {:>9.1} {offered:>11} {told:>11} {lost:>11} {cost:>8.2} {:>9.1} {:>7}ms {:>7}ms",
        flood.equal,
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
