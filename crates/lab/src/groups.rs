//! Which of the lab's cgroups is for whom.
//!
//! A node's own folder holds its containers and nothing else: the socket hooks
//! of its agent are attached there, and see exactly the pods.

use std::path::PathBuf;

use crate::cgroup::{Hierarchies, create};
use crate::error::Error;
use crate::places::Places;

/// Agents and relay.
const DAEMONS: &str = "_agents";
/// What `up` runs to its end: the CNI plugin, the container runtime.
const SETUP: &str = "_setup";
/// Clients of probes that start on a node itself.
const PROBES: &str = "_probes";
/// External hosts.
const EXTERNAL: &str = "_external";

/// The lab's folders in the version 2 hierarchy.
///
/// Names of nodes cannot start with `_`, so none of these is a node's.
#[derive(Clone, Debug)]
pub struct Groups {
    root: PathBuf,
    relative: PathBuf,
}

impl Groups {
    /// Of this lab.
    pub(crate) fn of(places: &Places, hierarchies: &Hierarchies) -> Self {
        Self { root: hierarchies.unified().join(places.cgroup()), relative: places.cgroup() }
    }

    /// Makes all that are needed before the first process starts.
    pub(crate) fn create<'a>(&self, nodes: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        for group in [self.daemons(), self.setup(), self.probes()] {
            create(&group)?;
        }
        create(&self.root.join(EXTERNAL))?;
        nodes.map(|node| self.node(node)).try_for_each(|group| create(&group))
    }

    /// Agents and relay.
    pub fn daemons(&self) -> PathBuf {
        self.root.join(DAEMONS)
    }

    /// What `up` runs to its end.
    pub fn setup(&self) -> PathBuf {
        self.root.join(SETUP)
    }

    /// Clients that start on a node itself.
    pub fn probes(&self) -> PathBuf {
        self.root.join(PROBES)
    }

    /// A node's containers.
    pub fn node(&self, node: &str) -> PathBuf {
        self.root.join(node)
    }

    /// A pod's container, from the root of the hierarchies.
    pub fn container(&self, node: &str, id: &str) -> PathBuf {
        PathBuf::from("/").join(&self.relative).join(node).join(id)
    }

    /// An external host's container, from the root of the hierarchies.
    pub fn external(&self, id: &str) -> PathBuf {
        PathBuf::from("/").join(&self.relative).join(EXTERNAL).join(id)
    }
}
