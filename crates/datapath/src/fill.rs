//! How full the maps are, so that nobody learns it from a refusal.

use crate::desired::Limits;
use crate::error::MapError;
use crate::installed::{HOST_INTERFACE, Installed};

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
pub(crate) fn read(installed: &Installed, limits: &Limits) -> Result<Vec<Fill>, MapError> {
    let connections = installed.accounts.connections()?;
    let pods = installed.endpoints.keys().filter(|ifindex| **ifindex != HOST_INTERFACE);
    let entries = installed.tables.values().map(|table| table.image.len());
    let fill =
        |what, used: usize, limit: u32| Fill { what, used: used as u64, limit: u64::from(limit) };
    let quota = u64::from(limits.connections_per_endpoint);
    Ok(vec![
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
    ])
}
