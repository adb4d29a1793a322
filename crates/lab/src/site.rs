//! One lab while it is being worked on: its paths, its cgroups, its program.

use std::path::PathBuf;

use crate::error::Error;
use crate::groups::Groups;
use crate::journal::Node;
use crate::places::Places;

/// What every step of `up` needs.
#[derive(Clone, Debug)]
pub struct Site {
    /// Paths.
    pub places: Places,
    /// Cgroups.
    pub groups: Groups,
    /// The `signet` program, which is agent, relay and CNI plugin too.
    pub signet: PathBuf,
    /// The first cluster's name.
    pub cluster: String,
    /// The plugin that makes pods' interfaces, when it is not Signet's own.
    pub cni: Option<String>,
    /// Flags of every agent beside those that say where it is.
    pub agent: Vec<String>,
    /// Nodes.
    pub nodes: Vec<Node>,
}

impl Site {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| Error::Unknown(format!("there is no node `{name}`")))
    }
}
