//! What can go wrong with kernel state, step by step.

use std::io;
use std::path::PathBuf;

/// A map could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} map `{map}`")]
pub struct MapError {
    /// `read`, `write`, `open`...
    pub step: &'static str,
    /// Name of the map.
    pub map: String,
    /// What the kernel said.
    #[source]
    pub source: libbpf_rs::Error,
}

/// Why the datapath could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The object that was built in does not parse, or a map cannot be sized.
    #[error("cannot prepare the kernel programs ({step})")]
    Prepare {
        /// What was tried.
        step: &'static str,
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// The kernel refused the programs.
    #[error("the kernel refused the programs (Linux 6.1 or newer is needed, with BTF)")]
    Load {
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A folder or file on bpffs could not be made or removed.
    #[error("cannot {step} `{}`", path.display())]
    Pin {
        /// `create`, `remove`, `pin`...
        step: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder for pins is not on bpffs.
    #[error("`{}` is not on bpffs: run `mount -t bpf bpf /sys/fs/bpf` first", path.display())]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// Pinned by a version whose state cannot be taken over. It stays in force.
    #[error(
        "the state pinned at `{}` has layout {found} and cannot be taken over by this program, \
         which has {known}: {reason}; it stays in force: start the version that made it again, \
         or drain the node and remove the folder",
        path.display()
    )]
    Version {
        /// The folder.
        path: PathBuf,
        /// Version of the pinned state.
        found: u32,
        /// Version of this program.
        known: u32,
        /// What is missing.
        reason: String,
    },
    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The word that packets are judged by could not be mapped.
    #[error("cannot map the control word into memory")]
    Control(#[source] io::Error),
    /// A socket hook could not be put in place or replaced.
    #[error("cannot attach the socket hooks to `{}`", path.display())]
    Cgroup {
        /// The cgroup.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit is zero or too large.
    #[error("limit `{limit}` is {value}: it must be {must}")]
    Limit {
        /// Field of `Limits`.
        limit: &'static str,
        /// What it is.
        value: u64,
        /// What it must be.
        must: &'static str,
    },
}

/// Why a desired state was not installed; what was in force still is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// More than a map holds. Refused before anything was written.
    #[error("{what} do not fit: {needed} needed, {limit} is the limit (raise `{field}`)")]
    TooMany {
        /// `endpoints`, `addresses`, `entries of table 7`...
        what: String,
        /// How many are needed.
        needed: usize,
        /// How many fit.
        limit: u32,
        /// Field of `Limits`.
        field: &'static str,
    },
    /// An endpoint names a table that is not there. Refused before anything was written.
    #[error("endpoint on interface {ifindex} needs table {table}, which is missing")]
    NoTable {
        /// Interface of the endpoint.
        ifindex: u32,
        /// The table.
        table: u32,
    },
    /// Two endpoints have one number, or the number is zero. Refused before anything was written.
    #[error("endpoint number {id} on interface {ifindex} is not unique, or zero")]
    EndpointId {
        /// Interface of the endpoint.
        ifindex: u32,
        /// The number.
        id: u32,
    },
    /// What another version has in force could not be replaced. It stays in force
    /// where it was not replaced yet; the next call goes on.
    #[error("cannot take over from another version ({step}): {reason}")]
    Succession {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// A map could not be written.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// Why programs could not be attached to a pod's interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nothing is pinned: there is no policy that could be enforced.
    #[error("no pinned programs at `{}`: the agent has never run on this node", pins.display())]
    NotInstalled {
        /// Folder on bpffs.
        pins: PathBuf,
    },
    /// Neither tcx nor clsact took the program.
    #[error("cannot attach {hook} to `{interface}`")]
    Attach {
        /// `ingress` or `egress`.
        hook: &'static str,
        /// Interface.
        interface: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A pin could not be made or removed.
    #[error("cannot {step} `{}`", path.display())]
    Pin {
        /// `pin` or `remove`.
        step: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let level = error.to_string();
        // Transparent errors say what their source says.
        if !text.ends_with(&level) {
            text = format!("{text}: {level}");
        }
        cause = error.source();
    }
    text
}
