//! Crate `abi` of a version that exists only for tests: another layout of everything that is pinned.
#![forbid(unsafe_code)]

mod generated;

pub use generated::*;
