//! The CNI plugin: gives a pod its interface, its addresses and its guard.
//!
//! A container runtime runs `signet cni` for each pod, in the node's network
//! namespace, with `CNI_*` variables and a network configuration on stdin
//! (CNI specification 1.1.0). [`command`] speaks that protocol, `wiring` talks
//! to the kernel, [`ipam`] keeps the addresses, [`record`] leaves a note for the
//! agent.
//!
//! It knows nothing of policy. What it promises is order: the programs that
//! judge a pod's packets are attached before either end of its link is up, and
//! until an agent installs the pod they drop everything.

#![forbid(unsafe_code)]

pub mod attachment;
pub mod command;
pub mod config;
pub mod environment;
pub mod failure;
mod file;
pub mod ipam;
mod presence;
pub mod programs;
pub mod record;
pub mod result;
pub mod version;
mod wiring;
