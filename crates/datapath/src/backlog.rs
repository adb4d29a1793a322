//! How much of a record ring waits to be read, whoever reads it.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// Bytes of a ring that were written and not read. Its first page says how far it was
/// read, its second how far it was written.
pub(crate) fn waiting(ring: impl AsFd) -> io::Result<u64> {
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok());
    let page = page.ok_or(io::ErrorKind::Unsupported)?;
    let length = NonZeroUsize::new(2 * page).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping at an address of the kernel's choice, which is only read; no
    // memory that Rust knows of is replaced. There is no safe call for this.
    let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, ring, 0) }?;
    let position = |offset| {
        // SAFETY: `offset` is the start of one of the two mapped pages, so aligned and
        // inside; the kernel keeps an integer of 64 bits there, and the reference does
        // not outlive this closure.
        let word = unsafe { start.byte_add(offset).cast::<AtomicU64>().as_ref() };
        word.load(Ordering::Acquire)
    };
    let (read, written) = (position(0), position(page));
    // SAFETY: the mapping made above, whole; nothing refers to it any more.
    unsafe { munmap(start, length.get()) }?;
    Ok(written.saturating_sub(read))
}
