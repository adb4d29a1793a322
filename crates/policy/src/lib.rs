//! Decides whether one workload may talk to another.
//!
//! Policies of every kind arrive lowered to [`Policy`], are compiled for one
//! subject to a [`Table`], and the table is what the datapath holds.
//! [`evaluate`] reads the rules directly; it is slow, obvious, and the meaning
//! of the language: the table must agree with it.
//!
//! Invariants:
//! - No I/O, no clock, no YAML, no Kubernetes types. Inputs are arguments.
//! - What cannot be expressed whole is an error, never a smaller table.
//! - Equal policies compile to equal tables, whatever the order they came in.
//!
//! Start at [`compile`]; for what rules mean, at [`evaluate`].
#![forbid(unsafe_code)]

mod compile;
mod evaluate;
mod fold;
mod options;
mod ports;
mod precedence;
mod rule;
mod scope;
mod selector;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use compile::{CompileError, compile};
pub use evaluate::{Probe, evaluate};
pub use options::{AllowLocalhost, Enforcement, Options};
pub use ports::{Port, PortMatch, Ports, Transport};
pub use precedence::Tier;
pub use rule::{Action, Entity, Peer, Peers, Policy, Rule};
pub use scope::{clusterwide_peer, namespaced_peer, namespaced_subject};
pub use selector::{Operator, Requirement, Selector, SelectorKey};
pub use table::{Decision, Entry, Found, Key, Table, Why};
