//! How full the maps are, so that nobody learns it from a refusal.

use std::io;

use abi::Usage;
use libbpf_rs::{MapCore, MapHandle};
use nix::time::{ClockId, clock_gettime};

use crate::backlog;
use crate::desired::Limits;
use crate::error::MapError;
use crate::installed::{HOST_INTERFACE, Installed};
use crate::pins::Pins;

/// For so many seconds an endpoint's drops count as those of the last second.
const RECENT: u64 = 4;

/// One map, or one share of a map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fill {
    /// `endpoints`, `addresses`...
    pub what: &'static str,
    /// How many there are.
    pub used: u64,
    /// How many may be.
    pub limit: u64,
}

/// Of tables and endpoints, the fullest counts: each has a limit of its own.
pub(crate) fn read(
    installed: &Installed,
    pins: &Pins,
    limits: &Limits,
) -> Result<Vec<Fill>, MapError> {
    let usage: Vec<Usage> = installed.accounts.all()?.into_iter().map(|(_, usage)| usage).collect();
    let connections: Vec<u64> = usage.iter().map(|usage| usage.connections).collect();
    let (services, backends) = installed.services.fill();
    let pods = installed.endpoints.keys().filter(|ifindex| **ifindex != HOST_INTERFACE);
    let entries = installed.tables.values().map(|table| table.image.len());
    let fill =
        |what, used: usize, limit: u32| Fill { what, used: used as u64, limit: u64::from(limit) };
    let quota = u64::from(limits.connections_per_endpoint);
    let mut found = vec![
        fill("endpoints", pods.count(), limits.endpoints),
        fill("addresses", installed.addresses.len(), limits.addresses),
        fill("ranges", installed.prefixes.len(), limits.addresses),
        fill("tables", installed.tables.len(), limits.tables()),
        fill("entries of the largest table", entries.max().unwrap_or(0), limits.table_entries),
        Fill {
            what: "connections",
            // Somebody may have written any number there.
            used: connections.iter().copied().fold(0, u64::saturating_add),
            limit: quota * u64::from(limits.endpoints),
        },
        Fill {
            what: "connections of the busiest endpoint",
            used: connections.iter().copied().max().unwrap_or(0),
            limit: quota,
        },
        fill("addresses and ports of services", services, limits.services),
        fill("backends of services", backends, limits.backends),
        Fill {
            what: "drop records of the busiest endpoint in a second",
            used: drop_records(&usage).min(limits.drop_records.into()),
            limit: limits.drop_records.into(),
        },
    ];
    for (what, map) in
        [("bytes of the ring of traces", "traces"), ("bytes of the ring of drops", "drops")]
    {
        found.push(ring(what, map, pins)?);
    }
    Ok(found)
}

/// The most that one endpoint has caused in a second, of those that began lately.
fn drop_records(usage: &[Usage]) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec());
    let now = u64::try_from(now).unwrap_or(0);
    let recent = usage.iter().filter(|usage| usage.second.saturating_add(RECENT) > now);
    recent.map(|usage| usage.drop_records).max().unwrap_or(0)
}

/// What waits in a ring of records.
fn ring(what: &'static str, map: &str, pins: &Pins) -> Result<Fill, MapError> {
    let failed = |source| MapError { step: "read", map: map.to_owned(), source };
    let ring = MapHandle::from_pinned_path(pins.map(map)).map_err(failed)?;
    let waiting = backlog::waiting(&ring).map_err(|error: io::Error| failed(error.into()))?;
    Ok(Fill { what, used: waiting, limit: ring.max_entries().into() })
}
