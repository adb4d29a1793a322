//! The agent of a node: joins the cluster's state, the kernel and the API.
//!
//! A pure core, [`planner`], says what the node should enforce; [`control`]
//! looks, plans and installs; [`records`] turns what the kernel reports into
//! flows; [`service`] shows what is in force. [`command`] wires them.
//!
//! The agent may die at any moment: what it installed is pinned and goes on
//! without it. It knows nothing of BPF, of YAML or of protobuf's encoding.
#![forbid(unsafe_code)]

mod accepted;
mod catalogue;
mod cgroup;
mod chain;
pub mod command;
pub mod config;
pub mod control;
mod enforced;
pub mod events;
pub mod flow;
pub mod health;
pub mod ledger;
pub mod lock;
mod losses;
pub mod metrics;
mod numbers;
mod peers;
pub mod planner;
pub mod records;
pub mod service;
pub mod state;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod trial;
pub mod uplinks;

pub use command::{AgentError, run};
pub use config::{AgentConfig, AgentSettings, ConfigError, TcpSettings};
pub use datapath::Traces;
