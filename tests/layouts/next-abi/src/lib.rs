//! Crate `abi` of a version that exists only for tests: another layout of what is desired.
#![forbid(unsafe_code)]

mod generated;

pub use generated::*;
