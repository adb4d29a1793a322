//! Maps with typed keys and values.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr;

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

    /// Every element of a hash table, many with one call. What comes and goes
    /// meanwhile may be among them.
    pub(crate) fn each(&self, mut see: impl FnMut(K, V)) -> Result<(), MapError> {
        const AT_ONCE: usize = 4096;
        let (key, value) = (size_of::<K>(), size_of::<V>());
        let found = (self.handle.key_size() as usize, self.handle.value_size() as usize);
        if found != (key, value) {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it has another layout");
            return Err(self.failed("read", source.into()));
        }
        let (mut keys, mut values) = (vec![0u8; key * AT_ONCE], vec![0u8; value * AT_ONCE]);
        // Where the kernel goes on; it writes four bytes.
        let (mut at, mut begun) = (0u64, false);
        loop {
            let mut count = AT_ONCE as u32;
            let place = (&raw mut at).cast::<libc::c_void>();
            // SAFETY: keys and values have room for as many elements of the sizes that
            // the map was asked for, `at` for a place, and all outlive the call; no
            // options is an option.
            let result = unsafe {
                libbpf_sys::bpf_map_lookup_batch(
                    self.handle.as_fd().as_raw_fd(),
                    if begun { place } else { ptr::null_mut() },
                    place,
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &mut count,
                    ptr::null(),
                )
            };
            let over = result == -libc::ENOENT;
            if result != 0 && !over {
                let source = io::Error::from_raw_os_error(-result);
                return Err(self.failed("read", source.into()));
            }
            let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value));
            for (key, value) in pairs.take(count as usize) {
                if let (Ok(key), Ok(value)) = (K::read_from_bytes(key), V::read_from_bytes(value)) {
                    see(key, value);
                }
            }
            if over {
                return Ok(());
            }
            begun = true;
        }
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
