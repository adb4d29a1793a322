//! Services in the kernel: the addresses they are asked for by, and who serves them.
//!
//! A set of backends is written whole before a service names it, and taken away
//! when no program can be reading it any more: whoever asks for a service gets a
//! backend of the old set or of the new one. An address is known as a service's
//! own before its ports are and for longer, so that what is not led to a backend
//! is dropped and never sent on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use abi::{Address, Backend, BackendKey, MemberKey, Service, ServiceKey};

use crate::book::mapped;
use crate::error::MapError;
use crate::installed::different;
use crate::map::Map;
use crate::pins::Pins;

/// What a program asks for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Frontend {
    /// The service's own address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// IANA protocol number; TCP and UDP can be led to a backend.
    pub protocol: u8,
}

/// Who serves it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Backends {
    /// Addresses of the service's family, with ports; none: connections are refused.
    pub ends: BTreeSet<SocketAddr>,
    /// How long a client keeps its backend after using it; 0: not at all.
    pub affinity_seconds: u32,
}

/// Every service of the cluster that has an address of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Services {
    /// By what is asked for.
    pub frontends: BTreeMap<Frontend, Backends>,
    /// All addresses of services: none of them may be seen on the wire.
    pub addresses: BTreeSet<IpAddr>,
}

impl Services {
    /// Elements of map `services` that it takes.
    pub(crate) fn keys(&self) -> usize {
        self.frontends.len() + self.addresses.len()
    }

    /// Elements of map `backends` that it takes.
    pub(crate) fn backends(&self) -> usize {
        self.frontends.values().map(|backends| backends.ends.len()).sum()
    }
}

/// A [`ServiceKey`], byte by byte: what is amiss in one is not taken for another.
type Key = [u8; size_of::<ServiceKey>()];
/// A [`Backend`], byte by byte.
type End = [u8; size_of::<Backend>()];

/// Port and protocol of an address itself.
const ITSELF: (u16, u8) = (0, 0);

/// A set that nothing names: of services that nobody serves.
const NO_SET: u32 = 0;

/// The services' maps, and their content.
#[derive(Debug)]
pub(crate) struct InstalledServices {
    pub(crate) service_map: Map<ServiceKey, Service>,
    pub(crate) backend_map: Map<BackendKey, Backend>,
    member_map: Map<MemberKey, u32>,
    services: BTreeMap<Key, Service>,
    slots: BTreeMap<u32, BTreeMap<u32, End>>,
    members: BTreeMap<u32, BTreeMap<End, u32>>,
}

impl InstalledServices {
    /// Opens the pinned maps and reads them.
    pub(crate) fn read(pins: &Pins) -> Result<Self, MapError> {
        let mut installed = Self {
            service_map: Map::open("services", &pins.map("services"))?,
            backend_map: Map::open("backends", &pins.map("backends"))?,
            member_map: Map::open("members", &pins.map("members"))?,
            services: BTreeMap::new(),
            slots: BTreeMap::new(),
            members: BTreeMap::new(),
        };
        for (key, service) in installed.service_map.dump()? {
            installed.services.insert(zerocopy::transmute!(key), service);
        }
        for (key, backend) in installed.backend_map.dump()? {
            installed
                .slots
                .entry(key.set)
                .or_default()
                .insert(key.slot, zerocopy::transmute!(backend));
        }
        for (key, slot) in installed.member_map.dump()? {
            let end = zerocopy::transmute!(key.backend);
            installed.members.entry(key.set).or_default().insert(end, slot);
        }
        Ok(installed)
    }

    /// How many elements of which map another reading of them has differently.
    pub(crate) fn differences(&self, present: &Self) -> [(&'static str, usize); 3] {
        let services = different(&self.services, &present.services).count();
        let backends = different(&flat(&self.slots), &flat(&present.slots)).count();
        let members = different(&flat(&self.members), &flat(&present.members)).count();
        [("services", services), ("backends", backends), ("members", members)]
    }

    /// Addresses with their ports, and backends.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.services.len(), self.slots.values().map(BTreeMap::len).sum())
    }

    /// Ports of services, and services' own addresses.
    pub(crate) fn known(&self) -> (BTreeSet<Frontend>, BTreeSet<IpAddr>) {
        let (mut frontends, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for key in self.services.keys() {
            let ServiceKey { address, port, protocol, .. } = zerocopy::transmute!(*key);
            let address = Ipv6Addr::from(address.bytes).to_canonical();
            if (port, protocol) == ITSELF {
                addresses.insert(address);
            } else {
                frontends.insert(Frontend { address, port: u16::from_be(port), protocol });
            }
        }
        (frontends, addresses)
    }

    /// Moves the maps to what is wanted; returns how many elements were written.
    /// Sets that nothing names any more stay.
    pub(crate) fn write(&mut self, wanted: &Services) -> Result<usize, MapError> {
        let mut written = 0;
        let own = |address: &IpAddr| key(*address, ITSELF);
        let itself = Service { set: NO_SET, backends: 0, affinity_seconds: 0 };
        for key in wanted.addresses.iter().map(own) {
            written += self.set(key, itself)?;
        }
        let mut kept: BTreeSet<Key> = wanted.addresses.iter().map(own).collect();
        for (frontend, backends) in &wanted.frontends {
            let key = key(frontend.address, (frontend.port, frontend.protocol));
            kept.insert(key);
            written += self.write_service(key, backends)?;
        }
        let gone = self.services.keys().filter(|key| !kept.contains(*key)).copied();
        let (addresses, ports): (Vec<Key>, Vec<Key>) = gone.partition(|key| {
            let ServiceKey { port, protocol, .. } = zerocopy::transmute!(*key);
            (port, protocol) == ITSELF
        });
        for key in ports.into_iter().chain(addresses) {
            self.service_map.remove(&zerocopy::transmute!(key))?;
            self.services.remove(&key);
            written += 1;
        }
        Ok(written)
    }

    fn write_service(&mut self, key: Key, backends: &Backends) -> Result<usize, MapError> {
        let ends: Vec<End> =
            backends.ends.iter().map(|end| zerocopy::transmute!(backend(*end))).collect();
        let known = self.services.get(&key).map(|service| service.set);
        let same = known.filter(|set| self.is(*set, &ends));
        let mut written = 0;
        let set = match same {
            Some(set) => set,
            None if ends.is_empty() => NO_SET,
            None => {
                written += 2 * ends.len();
                self.create_set(&ends)?
            }
        };
        let count = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        let affinity_seconds = backends.affinity_seconds;
        Ok(written + self.set(key, Service { set, backends: count, affinity_seconds })?)
    }

    fn set(&mut self, key: Key, service: Service) -> Result<usize, MapError> {
        let same = |known: &Service| {
            (known.set, known.backends, known.affinity_seconds)
                == (service.set, service.backends, service.affinity_seconds)
        };
        if self.services.get(&key).is_some_and(same) {
            return Ok(0);
        }
        self.service_map.set(&zerocopy::transmute!(key), &service)?;
        self.services.insert(key, service);
        Ok(1)
    }

    /// Whether a set holds exactly these.
    fn is(&self, set: u32, ends: &[End]) -> bool {
        let slots = self.slots.get(&set).into_iter().flatten();
        let members = self.members.get(&set).into_iter().flatten();
        slots.map(|(slot, end)| (*slot, *end)).eq((0..).zip(ends.iter().copied()))
            && members.map(|(end, slot)| (*slot, *end)).eq((0..).zip(ends.iter().copied()))
    }

    /// Writes a set under a number that nothing knows.
    fn create_set(&mut self, ends: &[End]) -> Result<u32, MapError> {
        let named = self.services.values().map(|service| service.set);
        let numbers = named.chain(self.slots.keys().copied()).chain(self.members.keys().copied());
        let numbers: BTreeSet<u32> = numbers.chain([NO_SET]).collect();
        let mut set = numbers.last().map_or(1, |last| last.wrapping_add(1));
        while numbers.contains(&set) {
            set = set.wrapping_add(1);
        }
        for (slot, end) in (0..).zip(ends) {
            let backend: Backend = zerocopy::transmute!(*end);
            self.backend_map.set(&BackendKey { set, slot }, &backend)?;
            self.slots.entry(set).or_default().insert(slot, *end);
            self.member_map.set(&MemberKey { set, backend }, &slot)?;
            self.members.entry(set).or_default().insert(*end, slot);
        }
        Ok(set)
    }

    /// Sets that no service names.
    pub(crate) fn unnamed(&self) -> BTreeSet<u32> {
        let named: BTreeSet<u32> = self.services.values().map(|service| service.set).collect();
        let all = self.slots.keys().chain(self.members.keys()).copied();
        all.filter(|set| !named.contains(set)).collect()
    }

    /// Takes sets away that no program reads any more.
    pub(crate) fn remove_sets(&mut self, sets: &BTreeSet<u32>) -> Result<usize, MapError> {
        let mut removed = 0;
        for &set in sets {
            for slot in self.slots.remove(&set).unwrap_or_default().into_keys() {
                self.backend_map.remove(&BackendKey { set, slot })?;
                removed += 1;
            }
            for end in self.members.remove(&set).unwrap_or_default().into_keys() {
                let backend = zerocopy::transmute!(end);
                self.member_map.remove(&MemberKey { set, backend })?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Elements of a map whose key begins with the number of a set.
fn flat<K: Copy + Ord, V: Copy>(sets: &BTreeMap<u32, BTreeMap<K, V>>) -> BTreeMap<(u32, K), V> {
    let elements =
        sets.iter().flat_map(|(set, of)| of.iter().map(move |(key, value)| (set, key, value)));
    elements.map(|(set, key, value)| ((*set, *key), *value)).collect()
}

fn key(address: IpAddr, (port, protocol): (u16, u8)) -> Key {
    let address = Address { bytes: mapped(address) };
    zerocopy::transmute!(ServiceKey { address, port: port.to_be(), protocol, pad: 0 })
}

fn backend(end: SocketAddr) -> Backend {
    let address = Address { bytes: mapped(end.ip()) };
    Backend { address, port: end.port().to_be(), pad: [0; 2] }
}
