//! The programs that judge a pod's packets, as far as the plugin touches them.
//!
//! A trait, so that tests can refuse, delay and watch; [`Pinned`] is the kernel's
//! side, by way of `datapath`.

use std::error::Error;
use std::path::{Path, PathBuf};

use datapath::AttachError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// There is nothing to attach, yet.
    #[error(
        "the agent has never run on this node: no pinned programs at `{}`; start `signet agent`, \
         or mount bpffs here if it runs",
        pins.display()
    )]
    NotInstalled {
        /// Where they should be.
        pins: PathBuf,
    },
    /// The kernel, or what is pinned, would not.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
}

impl From<AttachError> for ProgramsError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::NotInstalled { pins } => Self::NotInstalled { pins },
            other => Self::Refused(other.into()),
        }
    }
}

/// What can be done with the pinned programs without an agent.
///
/// All calls happen in the network namespace of the node.
pub trait Programs {
    /// Attaches both directions to the host side of a pod's link. Called before
    /// the link is up.
    fn attach(&self, pins: &Path, interface: &str, ifindex: u32) -> Result<(), ProgramsError>;

    /// Removes what [`Programs::attach`] pinned and what the agent installed for
    /// the interface; nothing to remove is no error.
    fn detach(&self, pins: &Path, ifindex: u32) -> Result<(), ProgramsError>;

    /// Whether both directions are attached.
    fn is_attached(&self, pins: &Path, ifindex: u32) -> Result<bool, ProgramsError>;

    /// Whether the agent has installed the endpoint: until then all is dropped.
    fn is_enforced(&self, pins: &Path, ifindex: u32) -> Result<bool, ProgramsError>;
}

/// The programs that an agent has pinned in this kernel.
#[derive(Clone, Copy, Debug)]
pub struct Pinned;

impl Programs for Pinned {
    fn attach(&self, pins: &Path, interface: &str, ifindex: u32) -> Result<(), ProgramsError> {
        Ok(datapath::attach_pod(pins, interface, ifindex)?)
    }

    fn detach(&self, pins: &Path, ifindex: u32) -> Result<(), ProgramsError> {
        Ok(datapath::detach_pod(pins, ifindex)?)
    }

    fn is_attached(&self, pins: &Path, ifindex: u32) -> Result<bool, ProgramsError> {
        Ok(datapath::is_attached(pins, ifindex)?)
    }

    fn is_enforced(&self, pins: &Path, ifindex: u32) -> Result<bool, ProgramsError> {
        Ok(datapath::is_enforced(pins, ifindex)?)
    }
}
