//! The state of a cluster, from a directory of manifests.
//!
//! The one crate that knows the shapes of Kubernetes' own objects. Policies are
//! the `manifest` crate's; what any of it means for a node is the agent's.
//!
//! Start at [`Directory`], which reads, and [`Changes`], which says when to.
#![forbid(unsafe_code)]

mod changes;
mod contents;
mod directory;
mod object;
mod pods;
mod service;
mod snapshot;

pub use changes::{AT_MOST, Changes, QUIET};
pub use contents::{Refused, Scope};
pub use directory::{Accepted, Directory, FILE_MAX, ScanError};
pub use object::ObjectName;
pub use pods::{PackedPod, Pods};
pub use service::{Service, ServiceName, Serving};
pub use snapshot::Snapshot;

/// Reads the text of one manifest alone, as [`Directory`] does for each file.
pub fn read(file: &str, text: &str) -> Snapshot {
    Snapshot::join(&[(file, &contents::Contents::of(file, text))], None)
}
