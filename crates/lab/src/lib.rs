//! A small cluster on one Linux host: the same agents, datapath and CNI plugin
//! as anywhere, with network namespaces for nodes and OCI containers for pods.
//!
//! [`Lab::up`] makes what a directory of manifests describes, [`Lab::down`]
//! takes it away from any state, [`command`] is the command line's way in.
//! Everything is in namespaces of its own: nothing touches the host's network,
//! and two labs do not know of each other.
//!
//! It knows nothing of maps or programs, and judges nothing: what a pod may do is
//! decided by the agents, which it only starts.
#![forbid(unsafe_code)]

pub mod apply;
mod cgroup;
pub mod command;
mod container;
mod daemons;
mod definition;
mod delete;
pub mod dns;
mod down;
mod error;
mod exec;
pub mod groups;
mod health;
pub mod journal;
mod lab;
pub mod label;
mod launch;
mod link;
mod listening;
mod logs;
mod mounts;
pub mod netns;
mod nodes;
mod objects;
mod part;
pub mod places;
mod plan;
mod plugin;
mod pods;
mod preflight;
pub mod probe;
mod process;
mod progress;
mod ready;
mod registry;
mod relay;
mod restart;
mod side_by_side;
mod site;
mod stations;
mod status;
mod topology;
pub mod traffic;
mod up;

pub use error::Error;
pub use exec::Exec;
pub use lab::{Lab, down};
pub use launch::Output;
pub use process::Process;
pub use up::Options;
