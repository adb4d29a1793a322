//! Types that the kernel programs and user space share.
//!
//! Generated from the BTF of `bpf/abi/anchor.bpf.c` by `cargo xtask codegen`; a
//! test says when they are stale. Plain integers only: what they mean is read
//! by crate `datapath`.
#![forbid(unsafe_code)]

mod generated;

pub use generated::*;
