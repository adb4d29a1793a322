//! The control element, mapped into memory: a revision becomes visible by one
//! atomic store, never by a copy that a packet could see half of.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use abi::Control;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::crash;

/// No node changes its policy so often: once a second for 34 years. What is not below
/// was written by somebody else, and is near what a table's end is marked by.
pub(crate) const REVISIONS: u32 = 1 << 30;

/// The page that holds the one [`Control`] of a node.
#[derive(Debug)]
pub(crate) struct ControlWord {
    page: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

// SAFETY: the page is shared memory that is only touched through atomics and
// stays mapped until drop; no method depends on the thread it runs on.
unsafe impl Send for ControlWord {}

impl ControlWord {
    /// Maps the element of a BPF_F_MMAPABLE array.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        let length = NonZeroUsize::new(4096).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice; no memory
        // that Rust knows of is replaced. There is no safe call for this.
        let page = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                fd,
                0,
            )
        }?;
        Ok(Self { page, length })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset + size_of::<u32>() <= size_of::<Control>());
        // SAFETY: the page is mapped for as long as `self` lives, `offset` is
        // that of a `u32` field of `Control` at the page's start, so aligned and
        // inside; the kernel only reads it, and user space only through here.
        unsafe { self.page.byte_add(offset).cast::<AtomicU32>().as_ref() }
    }

    /// Everything, word by word.
    pub(crate) fn read(&self) -> Control {
        let get = |offset| self.word(offset).load(Ordering::Acquire);
        Control {
            abi_version: self.version(),
            revision: self.revision(),
            epoch: get(std::mem::offset_of!(Control, epoch)),
            world_ipv4: get(std::mem::offset_of!(Control, world_ipv4)),
            world_ipv6: get(std::mem::offset_of!(Control, world_ipv6)),
            connections: get(std::mem::offset_of!(Control, connections)),
            drop_records: get(std::mem::offset_of!(Control, drop_records)),
            trace: get(std::mem::offset_of!(Control, trace)),
            host: get(std::mem::offset_of!(Control, host)),
        }
    }

    fn set(&self, offset: usize, value: u32) {
        crash::point();
        self.word(offset).store(value, Ordering::Release);
    }

    pub(crate) fn version(&self) -> u32 {
        self.word(std::mem::offset_of!(Control, abi_version)).load(Ordering::Acquire)
    }

    pub(crate) fn revision(&self) -> u32 {
        self.word(std::mem::offset_of!(Control, revision)).load(Ordering::Acquire)
    }

    /// From here on packets are judged by this revision.
    pub(crate) fn set_revision(&self, revision: u32) {
        self.set(std::mem::offset_of!(Control, revision), revision);
    }

    /// From here on connections are judged again.
    pub(crate) fn next_epoch(&self) {
        crash::point();
        self.word(std::mem::offset_of!(Control, epoch)).fetch_add(1, Ordering::AcqRel);
    }

    /// What an endpoint may have, from here on.
    pub(crate) fn set_quotas(&self, connections: u32, drop_records: u32) {
        self.set(std::mem::offset_of!(Control, connections), connections);
        self.set(std::mem::offset_of!(Control, drop_records), drop_records);
    }

    /// What is told of connections after their first packet, from here on: a number of
    /// [`abi::trace`].
    pub(crate) fn set_trace(&self, trace: u32) {
        self.set(std::mem::offset_of!(Control, trace), trace);
    }

    /// Whether the node itself is judged, from here on.
    pub(crate) fn set_host(&self, judged: bool) {
        let offset = std::mem::offset_of!(Control, host);
        if self.word(offset).load(Ordering::Acquire) != u32::from(judged) {
            self.set(offset, judged.into());
        }
    }

    /// Writes everything; the version last, because nothing counts before it.
    pub(crate) fn initialise(&self, control: &Control) {
        let set = |offset, value| self.set(offset, value);
        set(std::mem::offset_of!(Control, revision), control.revision);
        set(std::mem::offset_of!(Control, epoch), control.epoch);
        set(std::mem::offset_of!(Control, world_ipv4), control.world_ipv4);
        set(std::mem::offset_of!(Control, world_ipv6), control.world_ipv6);
        set(std::mem::offset_of!(Control, connections), control.connections);
        set(std::mem::offset_of!(Control, drop_records), control.drop_records);
        set(std::mem::offset_of!(Control, trace), control.trace);
        set(std::mem::offset_of!(Control, host), control.host);
        set(std::mem::offset_of!(Control, abi_version), control.abi_version);
    }
}

impl Drop for ControlWord {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrowed from it outlives `self`.
        // A failure leaves a page mapped, which harms nobody.
        let _ = unsafe { munmap(self.page, self.length.get()) };
    }
}
