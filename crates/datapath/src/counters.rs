//! The kernel's own counts: what records and reported losses must add up to.

use std::collections::BTreeMap;
use std::time::Duration;

use model::UnknownProcess;

use crate::error::MapError;
use crate::object;
use crate::pins::Pins;
use crate::record;

/// Counts of one ring.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RingCounters {
    /// Records that were due, by CPU: the next record of a CPU has this number.
    pub attempts: Vec<u64>,
    /// Of these, how many found no room, by CPU.
    pub lost: Vec<u64>,
}

/// What became of attempts to reach services.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ServiceCounters {
    /// Led to a backend.
    pub translated: u64,
    /// Refused: nobody serves it.
    pub no_backend: u64,
    /// Refused: no memory to find the way back.
    pub no_room: u64,
}

/// Counts of a node since its maps were made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Allowed connections.
    pub traces: RingCounters,
    /// Dropped packets.
    pub drops: RingCounters,
    /// Dropped packets by Hubble's drop code; those never seen are left out.
    pub dropped_by_reason: BTreeMap<u8, u64>,
    /// Attempts to reach services.
    pub services: ServiceCounters,
    /// What the kernel freed on its own.
    pub sweeps: Sweeps,
    /// Drops of endpoints that are here now of which no record tells: more than they may
    /// cause in a second. They are among those that were lost.
    pub suppressed: u64,
    /// Records by what is known of their process: `None` when it is, else why not.
    pub attributed: BTreeMap<Option<&'static str>, u64>,
}

/// What the kernel's own sweep has done: it runs when no agent has swept for a while.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sweeps {
    /// How often it ran.
    pub runs: u64,
    /// Connections that it freed.
    pub freed: u64,
    /// The longest run.
    pub longest: Duration,
}

fn sweeps(pins: &Pins) -> Result<Sweeps, MapError> {
    let map = object::typed::<u32, abi::Sweeps>(pins, "sweeps")?;
    let found = map.get(&0)?.map(|raw| Sweeps {
        runs: raw.runs,
        freed: raw.freed,
        longest: Duration::from_nanos(raw.longest_ns),
    });
    Ok(found.unwrap_or_default())
}

/// Places of map `origin_counters`.
const ORIGINS: u8 = 16;

pub(crate) fn read(pins: &Pins) -> Result<Counters, MapError> {
    let rings = object::typed::<u32, abi::RingCounters>(pins, "ring_counters")?;
    let ring = |number: u32| -> Result<RingCounters, MapError> {
        let cpus = rings.get_percpu(&number)?;
        Ok(RingCounters {
            attempts: cpus.iter().map(|cpu| cpu.attempts).collect(),
            lost: cpus.iter().map(|cpu| cpu.lost).collect(),
        })
    };
    let drops = object::typed::<u32, u64>(pins, "drop_counters")?;
    let mut dropped_by_reason = BTreeMap::new();
    for reason in 0..=u8::MAX {
        let count: u64 = drops.get_percpu(&u32::from(reason))?.iter().sum();
        if count > 0 {
            dropped_by_reason.insert(reason, count);
        }
    }
    Ok(Counters {
        traces: ring(abi::ring::TRACES)?,
        drops: ring(abi::ring::DROPS)?,
        dropped_by_reason,
        services: services(pins)?,
        sweeps: sweeps(pins)?,
        suppressed: suppressed(pins)?,
        attributed: attributed(pins)?,
    })
}

fn suppressed(pins: &Pins) -> Result<u64, MapError> {
    let usage = object::typed::<u32, abi::Usage>(pins, "usage")?.dump()?;
    // Somebody may have written any number there.
    Ok(usage.iter().map(|(_, usage)| usage.suppressed).fold(0, u64::saturating_add))
}

fn attributed(pins: &Pins) -> Result<BTreeMap<Option<&'static str>, u64>, MapError> {
    let origins = object::typed::<u32, u64>(pins, "origin_counters")?;
    let mut attributed = BTreeMap::new();
    for origin in 1..ORIGINS {
        let count: u64 = origins.get_percpu(&u32::from(origin))?.iter().sum();
        if count > 0 {
            let unknown = record::unknown_process(origin).map(UnknownProcess::as_str);
            *attributed.entry(unknown).or_insert(0) += count;
        }
    }
    Ok(attributed)
}

fn services(pins: &Pins) -> Result<ServiceCounters, MapError> {
    let counters = object::typed::<u32, u64>(pins, "service_counters")?;
    let count =
        |what: u32| -> Result<u64, MapError> { Ok(counters.get_percpu(&what)?.iter().sum()) };
    Ok(ServiceCounters {
        translated: count(abi::service_count::TRANSLATED)?,
        no_backend: count(abi::service_count::NO_BACKEND)?,
        no_room: count(abi::service_count::NO_ROOM)?,
    })
}
