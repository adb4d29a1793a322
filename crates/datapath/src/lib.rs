//! The kernel side of a node: loads, attaches, pins and fills the programs of
//! `bpf/`, and reads what they report.
//!
//! The one crate with libbpf and `unsafe`. It is told what to hold
//! ([`Desired`]) and knows neither manifests nor where endpoints come from.
//!
//! Invariants:
//! - What is not installed completely is denied: programs before interfaces,
//!   tables before endpoints, entries before addresses.
//! - A change becomes visible by one write of one word.
//! - Nothing is pinned outside [`Config::pins`].
//!
//! Start at [`Datapath::open`].

mod account;
mod apply;
mod attach;
mod backlog;
mod book;
mod cgroup;
mod check;
mod control;
mod counters;
pub mod crash;
mod desired;
mod endpoint;
mod error;
mod fill;
mod heap;
mod in_force;
mod installed;
mod layout;
mod map;
mod object;
mod pins;
mod reader;
mod record;
mod recount;
mod recover;
mod services;
mod succession;
mod swap;
mod test_run;
mod trie;
mod uplink;

pub use attach::{AttachKind, attach_pod, detach_pod, is_attached, is_enforced};
pub use cgroup::HookState;
pub use check::{Fault, FaultKind};
pub use counters::{Counters, RingCounters, ServiceCounters, Sweeps};
pub use desired::{Applied, Config, Desired, Endpoint, Host, HostSubject, Limits, Traces, Trial};
pub use error::{ApplyError, AttachError, MapError, OpenError};
pub use fill::Fill;
pub use heap::trim_heap;
pub use in_force::{InForce, TableInForce};
pub use object::{Datapath, Features};
pub use reader::RecordReader;
pub use record::{DecodeError, Record, Ring, Shadow};
pub use services::{Backends, Frontend, Services};
pub use test_run::{PacketOutcome, TestRun};
pub use uplink::UplinkState;
