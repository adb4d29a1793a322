//! Compares what endpoints' accounts say with the connections that there are.
//!
//! Packets move both meanwhile, so a small difference says nothing. All connections
//! are read only when an account has moved by much since they last were.

use std::collections::{BTreeMap, BTreeSet};

use abi::{Connection, ConnectionKey, Usage};

use crate::account::Accounts;
use crate::error::MapError;
use crate::object;
use crate::pins::Pins;

/// An account may move, or differ, by one part in so many of the quota.
const PARTS: u32 = 8;

/// What comes and goes while connections are read makes a difference that passes.
const READINGS: u32 = 3;

/// Connections of an endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u64,
    /// Those that count against peers, each by two hashes.
    of_peers: [u64; 2],
}

impl Count {
    fn is_near(&self, other: &Self, part: u64) -> bool {
        let mut of_peers = self.of_peers.iter().zip(other.of_peers);
        self.all.abs_diff(other.all) < part && of_peers.all(|(own, it)| own.abs_diff(it) < part)
    }
}

impl From<&Usage> for Count {
    fn from(usage: &Usage) -> Self {
        let sum = |peers: [u32; 256]| peers.into_iter().map(u64::from).sum();
        Self { all: usage.connections, of_peers: [usage.peers, usage.peers_again].map(sum) }
    }
}

/// What accounts said when they were right.
#[derive(Debug, Default)]
pub(crate) struct Recount(BTreeMap<u32, Count>);

impl Recount {
    /// Numbers of the accounts that are wrong.
    pub(crate) fn wrong(
        &mut self,
        accounts: &Accounts,
        pins: &Pins,
        quota: u32,
    ) -> Result<BTreeSet<u32>, MapError> {
        let part = u64::from(quota / PARTS).max(1);
        let said = counts(accounts)?;
        self.0.retain(|id, _| said.contains_key(id));
        let moved = |id: &u32, count| !self.0.get(id).is_some_and(|was| was.is_near(count, part));
        let suspects = said.iter().filter(|(id, count)| moved(id, count));
        let mut suspects: BTreeSet<u32> = suspects.map(|(id, _)| *id).collect();
        for _ in 0..READINGS {
            if suspects.is_empty() {
                break;
            }
            let present = present(pins)?;
            let said = counts(accounts)?;
            suspects.retain(|id| {
                let Some(count) = said.get(id) else { return false };
                let right = count.is_near(&present.get(id).copied().unwrap_or_default(), part);
                if right {
                    self.0.insert(*id, *count);
                }
                !right
            });
        }
        Ok(suspects)
    }
}

fn counts(accounts: &Accounts) -> Result<BTreeMap<u32, Count>, MapError> {
    Ok(accounts.all()?.iter().map(|(id, usage)| (*id, Count::from(usage))).collect())
}

/// The connections there are, by endpoint.
fn present(pins: &Pins) -> Result<BTreeMap<u32, Count>, MapError> {
    let mut counts: BTreeMap<u32, Count> = BTreeMap::new();
    let conntrack = object::typed::<ConnectionKey, Connection>(pins, "conntrack")?;
    conntrack.each(|key, connection| {
        let count = counts.entry(key.endpoint).or_default();
        count.all += 1;
        let more = u64::from(counts_against_its_peer(&connection));
        count.of_peers = count.of_peers.map(|count| count + more);
    })?;
    Ok(counts)
}

/// As `connection_is_shared` of the kernel: what the node itself opens does not.
fn counts_against_its_peer(connection: &Connection) -> bool {
    u32::from(connection.direction) == abi::direction::INGRESS
        && u32::from(connection.flags) & abi::connection_flag::NODE == 0
}
