//! Manifests to policies, or a refusal that names the line.
//!
//! [`read`] turns text into [`Document`]s of any kind, with the place of every
//! value; [`policies`] turns those that are policies into the `policy` crate's
//! input. What is not understood is refused, never ignored and never guessed.
//!
//! Invariants:
//! - No I/O. Names of files are only repeated in messages.
//! - No input panics, and none takes more than a bounded time and memory.
//! - A policy is taken whole or not at all.
//!
//! Start at [`policies`].
#![forbid(unsafe_code)]

mod address;
mod check;
mod cilium;
mod cluster;
mod document;
mod envelope;
mod fields;
mod group;
mod kind;
mod kubernetes;
mod outcome;
mod read;
mod selector;
mod tiered;

pub use check::{Cost, Report, check};
pub use cluster::{BadAnnotation, cluster, generated as lab_node, reserved_addresses};
pub use document::{Document, Key, Node, Position, Value};
pub use outcome::{Note, Outcome, Refusal, policies};
pub use read::{read, read_bytes};
