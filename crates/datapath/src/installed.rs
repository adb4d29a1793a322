//! What the kernel holds, mirrored: read once when the datapath is opened, kept
//! in step by every write.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use abi::{Address, Endpoint, Peer, PolicyEntry, PolicyKey, PrefixKey, Range};
use libbpf_rs::{MapHandle, MapType};

use crate::account::Accounts;
use crate::book::{Key, Prefix};
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
        let exists = |id| installed.endpoints.values().any(|endpoint| endpoint.id == id);
        let owned = |id| match id {
            abi::endpoint_id::BEHIND => exists(abi::endpoint_id::HOST),
            id => exists(id),
        };
        installed.accounts.close_unowned(owned)?;
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
            installed.tables.insert(number, Table { map, image });
        }
        Ok(installed)
    }

    /// Waits for an RCU grace period where membarrier cannot: updating a map of
    /// maps does, before it returns.
    pub(crate) fn wait_by_update(&self) -> Result<(), MapError> {
        let Some((number, table)) = self.tables.iter().next() else { return Ok(()) };
        let fd = table.map.handle().as_fd().as_raw_fd() as u32;
        self.table_map.set(number, &fd)
    }

    /// The highest revision that any element speaks of.
    pub(crate) fn highest_revision(&self) -> u32 {
        let tables = self.tables.values().flat_map(|table| table.image.values());
        let endpoints = self.endpoints.values().map(|endpoint| endpoint.from_revision);
        let addresses = self.addresses.values().map(|peer| peer.from_revision);
        let prefixes = self.prefixes.values().map(|range| range.from_revision);
        let tables = tables.map(|entry| entry.from_revision);
        tables.chain(endpoints).chain(addresses).chain(prefixes).max().unwrap_or(0)
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
        self.tables.insert(number, Table { map, image });
        Ok(())
    }

    /// Lets a table go that no endpoint refers to.
    pub(crate) fn remove_table(&mut self, number: u32) -> Result<(), MapError> {
        self.table_map.remove(&number)?;
        self.tables.remove(&number);
        Ok(())
    }
}

fn table_name(number: u32) -> String {
    format!("table {number}")
}

fn table_error(step: &'static str, number: u32, source: libbpf_rs::Error) -> MapError {
    MapError { step, map: table_name(number), source }
}
