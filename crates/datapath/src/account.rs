//! What each endpoint takes of what all share: its connections, its records, its
//! half-received datagrams. An endpoint without an account can open nothing.

use std::hash::{BuildHasher, Hasher, RandomState};

use abi::Usage;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use zerocopy::{FromZeros, IntoBytes};

use crate::crash;
use crate::error::MapError;
use crate::map::Map;
use crate::pins::Pins;

/// Stands in map `usage` for interfaces without an endpoint.
pub(crate) const NOBODY: u32 = 0;

/// The maps that hold accounts, by number of the endpoint.
#[derive(Debug)]
pub(crate) struct Accounts {
    usage: Map<u32, Usage>,
    /// What is in it concerns the kernel alone: a lock and what it guards.
    fragments: MapHandle,
}

impl Accounts {
    pub(crate) fn of(pins: &Pins) -> Result<Self, MapError> {
        let fragments = MapHandle::from_pinned_path(pins.map("fragments"))
            .map_err(|source| failed("open", source))?;
        Ok(Self { usage: Map::open("usage", &pins.map("usage"))?, fragments })
    }

    /// A new account, and an empty one if there was one.
    pub(crate) fn open(&self, id: u32) -> Result<(), MapError> {
        self.forget_fragments(id)?;
        self.open_usage(id)
    }

    /// As [`Self::open`], but one that another version has opened is kept.
    pub(crate) fn keep(&self, id: u32) -> Result<(), MapError> {
        let known = self.fragments.lookup(id.as_bytes(), MapFlags::ANY);
        if known.map_err(|source| failed("read", source))?.is_none() {
            self.forget_fragments(id)?;
        }
        if self.usage.contains(&id)? { Ok(()) } else { self.open_usage(id) }
    }

    fn forget_fragments(&self, id: u32) -> Result<(), MapError> {
        let empty = vec![0; self.fragments.value_size() as usize];
        crash::point();
        self.fragments
            .update(id.as_bytes(), &empty, MapFlags::ANY)
            .map_err(|source| failed("write", source))
    }

    fn open_usage(&self, id: u32) -> Result<(), MapError> {
        // The standard library's seed for hash maps: nobody outside knows it.
        let salt = RandomState::new().build_hasher().finish() as u32;
        let mut usage = Usage::new_zeroed();
        usage.salt = salt;
        self.usage.set(&id, &usage)
    }

    /// The one of interfaces without an endpoint, for the drops that they cause.
    pub(crate) fn open_nobody_s(&self) -> Result<(), MapError> {
        self.usage.set(&NOBODY, &Usage::new_zeroed())
    }

    /// How many there may be.
    pub(crate) fn room(&self) -> u32 {
        self.usage.max_entries()
    }

    /// Each, but that of interfaces without an endpoint.
    pub(crate) fn all(&self) -> Result<Vec<(u32, Usage)>, MapError> {
        let mut all = self.usage.dump()?;
        all.retain(|(id, _)| *id != NOBODY);
        Ok(all)
    }

    /// Whether there is one.
    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.usage.get(&id).is_ok_and(|usage| usage.is_some())
    }

    /// Ends an account; one that is not there is as good.
    pub(crate) fn close(&self, id: u32) -> Result<(), MapError> {
        self.usage.remove(&id)?;
        crash::point();
        match self.fragments.delete(id.as_bytes()) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(failed("remove from", error))
            }
            _ => Ok(()),
        }
    }

    /// Ends those whose endpoint's removal was cut short; number 0 is nobody's.
    pub(crate) fn close_unowned(&self, owned: impl Fn(u32) -> bool) -> Result<(), MapError> {
        let keys = self.usage.handle().keys().chain(self.fragments.keys());
        let ids = keys.filter_map(|key| key.as_slice().try_into().ok()).map(u32::from_ne_bytes);
        let unowned: Vec<u32> = ids.filter(|id| *id != NOBODY && !owned(*id)).collect();
        unowned.into_iter().try_for_each(|id| self.close(id))
    }
}

fn failed(step: &'static str, source: libbpf_rs::Error) -> MapError {
    MapError { step, map: "fragments".into(), source }
}
