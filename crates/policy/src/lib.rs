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
//! - Rules see labels only: addresses, names and ports reach them as labels
//!   (see [`References`]).
//!
//! Start at [`compile`]; for what rules mean, at [`evaluate`]; for what a
//! cluster's policies mean together, at [`question`].
#![forbid(unsafe_code)]

mod carrier;
mod catalogue;
mod cidr;
mod compile;
mod conflict;
mod evaluate;
mod fold;
mod layer7;
mod mode;
mod name;
mod options;
mod passing;
mod peer;
mod population;
mod ports;
mod precedence;
pub mod question;
mod references;
mod rule;
mod scope;
mod selector;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unsupported;

pub use catalogue::{
    Catalogue, CidrGroup, GroupPeer, GroupSelector, Service, ServicePeer, ServicePort,
    ServiceSelector, TargetPort, resolve,
};
pub use cidr::{CidrMatch, CidrPeer, Reach, cidr_label};
pub use compile::{CompileError, Compiler, compile};
pub use conflict::{Conflict, Disagreement, conflicts};
pub use evaluate::{Probe, evaluate, refuses_carrier};
pub use layer7::{
    API_KEYS, HeaderMatch, HttpRequest, HttpRule, KafkaRequest, KafkaRole, KafkaRule, Layer7,
    Listener, Mismatch, Pattern, PatternError, Request, Requests, TlsContext,
};
pub use mode::{Mode, World, shadow_of};
pub use name::{NameError, NamePattern};
pub use options::{AllowLocalhost, Capabilities, Enforcement, Options};
pub use peer::{Entity, Peer};
pub use ports::{Port, PortMatch, Ports, Transport};
pub use precedence::Tier;
pub use references::{References, node_key};
pub use rule::{Action, Authentication, Peers, Policy, Rule, Rules, Subject};
pub use scope::{clusterwide_peer, namespaced_peer, namespaced_subject};
pub use selector::{Operator, Requirement, Selector, SelectorKey};
pub use table::{Decision, Entry, Found, Held, Key, NotAWhy, Table, Why};
pub use unsupported::{Feature, Unsupported, unsupported};
