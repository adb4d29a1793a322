//! What the kernel holds, mirrored: read once when the datapath is opened, kept
//! in step by every write.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use abi::{Address, Endpoint, Peer, PolicyEntry, PolicyKey, PrefixKey, Range};
use libbpf_rs::{MapHandle, MapType};

use crate::account::Accounts;
use crate::book::{Key, Prefix};
use crate::control::REVISIONS;
use crate::error::MapError;
use crate::map::Map;
use crate::pins::Pins;
use crate::services::InstalledServices;
use crate::trie::{Image, Node};

/// Stands in map `endpoints` for the node itself, which is behind no interface.
pub(crate) const HOST_INTERFACE: u32 = 0;

/// One policy table in the kernel.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) map: Map<PolicyKey, PolicyEntry>,
    pub(crate) image: Image,
    /// What the map holds, and nothing besides; `None`: that is to be found out.
    pub(crate) holds: Option<Arc<policy::Table>>,
}

impl Table {
    fn new(map: Map<PolicyKey, PolicyEntry>, image: Image) -> Self {
        Self { map, image, holds: None }
    }

    /// Whether the map is known to hold this very table.
    pub(crate) fn is(&self, table: &Arc<policy::Table>) -> bool {
        self.holds.as_ref().is_some_and(|holds| Arc::ptr_eq(holds, table))
    }
}

/// The maps that hold a node's desired state, and their content.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) endpoint_map: Map<u32, Endpoint>,
    pub(crate) accounts: Accounts,
    pub(crate) address_map: Map<Address, Peer>,
    pub(crate) prefix_map: Map<PrefixKey, Range>,
    table_map: Map<u32, u32>,
    pub(crate) endpoints: BTreeMap<u32, Endpoint>,
    pub(crate) addresses: BTreeMap<Key, Peer>,
    pub(crate) prefixes: BTreeMap<Prefix, Range>,
    pub(crate) tables: BTreeMap<u32, Table>,
    pub(crate) services: InstalledServices,
}

impl Installed {
    /// Opens the pinned maps and reads them.
    pub(crate) fn read(pins: &Pins) -> Result<Self, MapError> {
        let mut installed = Self {
            endpoint_map: Map::open("endpoints", &pins.map("endpoints"))?,
            accounts: Accounts::of(pins)?,
            address_map: Map::open("addresses", &pins.map("addresses"))?,
            prefix_map: Map::open("prefixes", &pins.map("prefixes"))?,
            table_map: Map::open("tables", &pins.map("tables"))?,
            endpoints: BTreeMap::new(),
            addresses: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            tables: BTreeMap::new(),
            services: InstalledServices::read(pins)?,
        };
        installed.endpoints = installed.endpoint_map.dump()?.into_iter().collect();
        // Accounts may be another version's, whose endpoints are not here yet.
        if !pins.is_staged() {
            installed.close_unowned()?;
        }
        let addresses = installed.address_map.dump()?.into_iter();
        installed.addresses = addresses.map(|(key, peer)| (key.bytes, peer)).collect();
        let prefixes = installed.prefix_map.dump()?.into_iter();
        installed.prefixes =
            prefixes.map(|(key, range)| ((key.prefix_bits, key.address.bytes), range)).collect();
        for (number, map_id) in installed.table_map.dump()? {
            let handle = MapHandle::from_map_id(map_id)
                .map_err(|source| table_error("open", number, source))?;
            let map = Map::new(table_name(number), handle);
            let image = map.dump()?.iter().map(|(key, entry)| (Node::from(key), *entry)).collect();
            installed.tables.insert(number, Table::new(map, image));
        }
        Ok(installed)
    }

    /// Ends accounts whose endpoint is gone.
    pub(crate) fn close_unowned(&self) -> Result<(), MapError> {
        let exists = |id| self.endpoints.values().any(|endpoint| endpoint.id == id);
        let owned = |id| match id {
            abi::endpoint_id::BEHIND => exists(abi::endpoint_id::HOST),
            id => exists(id),
        };
        self.accounts.close_unowned(owned)
    }

    /// Where another reading of the same maps says something else: a line for each
    /// map, without endpoints that are `leaving`.
    pub(crate) fn differences(&self, present: &Self, leaving: &BTreeSet<u32>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut note = |map: &str, count: usize| {
            if count > 0 {
                lines
                    .push(format!("{count} elements of map `{map}` were changed by somebody else"));
            }
        };
        let endpoints = different(&self.endpoints, &present.endpoints);
        note("endpoints", endpoints.filter(|ifindex| !leaving.contains(*ifindex)).count());
        note("addresses", different(&self.addresses, &present.addresses).count());
        note("prefixes", different(&self.prefixes, &present.prefixes).count());
        let ids =
            |tables: &BTreeMap<u32, Table>| -> BTreeSet<u32> { tables.keys().copied().collect() };
        note("tables", ids(&self.tables).symmetric_difference(&ids(&present.tables)).count());
        for (number, table) in &self.tables {
            if let Some(other) = present.tables.get(number) {
                note(&table_name(*number), different(&table.image, &other.image).count());
            }
        }
        for (map, count) in self.services.differences(&present.services) {
            note(map, count);
        }
        let closed = present.endpoints.values().filter(|it| !present.accounts.is_open(it.id));
        note("usage", closed.count());
        lines
    }

    /// Bytes of the kernel that policy tables take.
    pub(crate) fn tables_memory(&self) -> u64 {
        self.tables.values().map(|table| table.map.memory()).sum()
    }

    /// Waits for an RCU grace period where membarrier cannot: updating a map of
    /// maps does, before it returns.
    pub(crate) fn wait_by_update(&self) -> Result<(), MapError> {
        let Some((number, table)) = self.tables.iter().next() else { return Ok(()) };
        let fd = table.map.handle().as_fd().as_raw_fd() as u32;
        self.table_map.set(number, &fd)
    }

    /// The highest revision that any element speaks of and that a node may come to.
    pub(crate) fn highest_revision(&self) -> u32 {
        let tables = self.tables.values().flat_map(|table| table.image.values());
        let endpoints = self.endpoints.values().map(|endpoint| endpoint.from_revision);
        let addresses = self.addresses.values().map(|peer| peer.from_revision);
        let prefixes = self.prefixes.values().map(|range| range.from_revision);
        let tables = tables.map(|entry| entry.from_revision);
        let all = tables.chain(endpoints).chain(addresses).chain(prefixes);
        all.filter(|revision| *revision < REVISIONS).max().unwrap_or(0)
    }

    /// Makes a table, fills it, and only then lets it be found.
    pub(crate) fn create_table(
        &mut self,
        number: u32,
        entries: u32,
        image: Image,
    ) -> Result<(), MapError> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: libbpf_sys::BPF_F_NO_PREALLOC,
            ..Default::default()
        };
        let handle = MapHandle::create(
            MapType::LpmTrie,
            Some("policy_table"),
            size_of::<PolicyKey>() as u32,
            size_of::<PolicyEntry>() as u32,
            entries,
            &options,
        )
        .map_err(|source| table_error("create", number, source))?;
        let map = Map::new(table_name(number), handle);
        for (node, entry) in &image {
            map.set(&PolicyKey::from(*node), entry)?;
        }
        let fd = map.handle().as_fd().as_raw_fd() as u32;
        self.table_map.set(&number, &fd)?;
        self.tables.insert(number, Table::new(map, image));
        Ok(())
    }

    /// Lets a table go that no endpoint refers to.
    pub(crate) fn remove_table(&mut self, number: u32) -> Result<(), MapError> {
        self.table_map.remove(&number)?;
        self.tables.remove(&number);
        Ok(())
    }
}

/// Keys whose values are not the same, or that only one of the two has.
pub(crate) fn different<'a, K: Ord, V: PartialEq>(
    one: &'a BTreeMap<K, V>,
    other: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let changed = one.iter().filter(|(key, value)| other.get(*key) != Some(*value));
    let more = other.keys().filter(|key| !one.contains_key(*key));
    changed.map(|(key, _)| key).chain(more)
}

fn table_name(number: u32) -> String {
    format!("table {number}")
}

fn table_error(step: &'static str, number: u32, source: libbpf_rs::Error) -> MapError {
    MapError { step, map: table_name(number), source }
}
