//! Maps with typed keys and values.

use std::fs;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::crash;
use crate::error::MapError;

/// A map whose keys and values are plain types of crate `abi`.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    name: String,
    handle: MapHandle,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Map<K, V>
where
    K: FromBytes + IntoBytes + Immutable,
    V: FromBytes + IntoBytes + Immutable,
{
    pub(crate) fn new(name: impl Into<String>, handle: MapHandle) -> Self {
        Self { name: name.into(), handle, types: PhantomData }
    }

    pub(crate) fn open(name: &str, path: &Path) -> Result<Self, MapError> {
        MapHandle::from_pinned_path(path)
            .map(|handle| Self::new(name, handle))
            .map_err(|source| MapError { step: "open", map: name.to_owned(), source })
    }

    pub(crate) fn handle(&self) -> &MapHandle {
        &self.handle
    }

    pub(crate) fn max_entries(&self) -> u32 {
        self.handle.max_entries()
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let bytes = self
            .handle
            .lookup(key.as_bytes(), MapFlags::ANY)
            .map_err(|source| self.failed("read", source))?;
        Ok(bytes.and_then(|bytes| V::read_from_bytes(&bytes).ok()))
    }

    /// Whether there is an element, whatever is in it.
    pub(crate) fn contains(&self, key: &K) -> Result<bool, MapError> {
        let found = self.handle.lookup(key.as_bytes(), MapFlags::ANY);
        found.map(|value| value.is_some()).map_err(|source| self.failed("read", source))
    }

    pub(crate) fn set(&self, key: &K, value: &V) -> Result<(), MapError> {
        crash::point();
        self.handle
            .update(key.as_bytes(), value.as_bytes(), MapFlags::ANY)
            .map_err(|source| self.failed("write", source))
    }

    /// Removes an element; one that is not there is as good.
    pub(crate) fn remove(&self, key: &K) -> Result<(), MapError> {
        crash::point();
        match self.handle.delete(key.as_bytes()) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(self.failed("remove from", error))
            }
            _ => Ok(()),
        }
    }

    /// Every element, in no order.
    pub(crate) fn dump(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut elements = Vec::new();
        for bytes in self.handle.keys() {
            let Ok(key) = K::read_from_bytes(&bytes) else { continue };
            if let Some(value) = self.get(&key)? {
                elements.push((key, value));
            }
        }
        Ok(elements)
    }

    /// Bytes of the kernel that it takes.
    pub(crate) fn memory(&self) -> u64 {
        memory(self.handle.as_fd())
    }

    /// One value for each CPU.
    pub(crate) fn get_percpu(&self, key: &K) -> Result<Vec<V>, MapError> {
        let values = self
            .handle
            .lookup_percpu(key.as_bytes(), MapFlags::ANY)
            .map_err(|source| self.failed("read", source))?;
        Ok(values
            .unwrap_or_default()
            .iter()
            .filter_map(|bytes| V::read_from_bytes(bytes).ok())
            .collect())
    }

    fn failed(&self, step: &'static str, source: libbpf_rs::Error) -> MapError {
        MapError { step, map: self.name.clone(), source }
    }
}

/// `memlock` of a map: since Linux 6.4 what it really uses, before that at most.
pub(crate) fn memory(map: BorrowedFd<'_>) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()));
    let info = info.unwrap_or_default();
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
