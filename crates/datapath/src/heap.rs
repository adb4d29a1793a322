//! Gives freed memory back to the kernel. Here because this is the crate that may call
//! what the compiler cannot check; it knows nothing of who asks.

/// Gives back what this process has freed and its allocator keeps. After a large cluster
/// was read that is as much as what is held; it takes some milliseconds.
pub fn trim_heap() {
    // SAFETY: takes an integer, locks the allocator's own state and touches no memory
    // that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
