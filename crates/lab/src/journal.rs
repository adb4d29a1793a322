//! `lab.json`: what of a lab exists or is about to.
//!
//! Written before the first thing is made and again as more becomes known, so
//! that whoever ends or asks about a lab needs no manifests.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::definition::pod::qualified;
use crate::error::Error;
use crate::process::Process;

/// The form of the file; another one is not read.
pub const VERSION: u32 = 2;

/// A node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Its cluster; `None`: the first.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Ranges of its pods.
    pub pod_cidrs: Vec<IpNet>,
}

/// A container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Name within its pod, or the external host's.
    pub name: String,
    /// The runtime's id.
    pub id: String,
    /// Its first process; `None` until it runs.
    pub process: Option<Process>,
    /// The TCP port that it listens on once it is ready.
    pub ready_port: Option<u16>,
}

/// A host outside the cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct External {
    /// Name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What runs there, and where probes from it start.
    pub container: Container,
    /// TCP ports that it listens on once it is ready.
    pub listens: Vec<u16>,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pod {
    /// Its cluster; `None`: the first.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// The id under which the CNI plugin knows it.
    pub sandbox: String,
    /// Its addresses; none until the plugin has answered.
    pub addresses: Vec<IpAddr>,
    /// Whether it is on its node's network, and so is its node to others.
    #[serde(default)]
    pub host_network: bool,
    /// Its containers.
    pub containers: Vec<Container>,
    /// The workload that made it, as `Kind/namespace/name`.
    pub owner: Option<String>,
}

impl Pod {
    /// `namespace/name`, with the cluster before it where that is not the first.
    pub fn full_name(&self) -> String {
        qualified(self.cluster.as_deref(), &format!("{}/{}", self.namespace, self.name))
    }

    /// What changes of it are told under.
    pub fn object_name(&self) -> String {
        let name = format!("Pod/{}/{}", self.namespace, self.name);
        qualified(self.cluster.as_deref(), &name)
    }

    /// The name of its network namespace within the lab.
    pub fn member(&self) -> String {
        if self.host_network {
            return self.node.clone();
        }
        self.full_name().replace('/', ".")
    }

    /// The name of the workload that made it, as [`Self::full_name`], without its kind.
    pub fn workload(&self) -> Option<String> {
        let (_, name) = self.owner.as_deref()?.split_once('/')?;
        Some(qualified(self.cluster.as_deref(), name))
    }
}

/// A cluster beside the first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// Name.
    pub name: String,
    /// The folder that its manifests came from.
    pub manifests: PathBuf,
}

/// An agent, or the relay.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Daemon {
    /// Name of the agent's node; `relay` has none.
    pub node: Option<String>,
    /// Its process.
    pub process: Process,
    /// What it prints.
    pub log: PathBuf,
}

/// All of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journal {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the lab.
    pub name: String,
    /// The directory it came from.
    pub directory: PathBuf,
    /// Name of the first cluster.
    pub cluster: String,
    /// The other clusters.
    #[serde(default)]
    pub clusters: Vec<Cluster>,
    /// The plugin that makes pods' interfaces, when it is not Signet's own.
    #[serde(default)]
    pub cni: Option<String>,
    /// Flags of every agent beside those that say where it is.
    #[serde(default)]
    pub agent: Vec<String>,
    /// Whether `up` has come to its end.
    pub ready: bool,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// External hosts.
    pub external: Vec<External>,
    /// Links of the fabric that were ever made; the next one has this number.
    pub links: usize,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Agents and relay that were started.
    pub daemons: Vec<Daemon>,
}

impl Journal {
    /// The cluster of a node; `None`: the first, or there is no such node.
    pub fn cluster_of(&self, node: &str) -> Option<&str> {
        self.nodes.iter().find(|it| it.name == node)?.cluster.as_deref()
    }

    /// The nodes of a cluster.
    pub fn nodes_of<'a>(&'a self, cluster: Option<&'a str>) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.cluster.as_deref() == cluster)
    }

    /// The clusters: the first, as `None`, and the others.
    pub fn all_clusters(&self) -> impl Iterator<Item = Option<&str>> {
        std::iter::once(None).chain(self.clusters.iter().map(|it| Some(it.name.as_str())))
    }

    /// Reads it; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::file("read", path))?,
        };
        let malformed =
            |detail: String| Error::Malformed { what: format!("`{}`", path.display()), detail };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        if value["version"] != VERSION {
            return Err(malformed(format!("it has version {}", value["version"])));
        }
        let journal =
            serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
        Ok(Some(journal))
    }

    /// Writes it whole.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Malformed {
            what: "the journal".into(),
            detail: error.to_string(),
        })?;
        replace(path, &text)
    }
}

/// Writes a file so that a reader sees the old text or the new, never a part. Of
/// several writers at once, each has a draft of its own; the last one wins.
pub fn replace(path: &Path, text: &str) -> Result<(), Error> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id()));
    fs::write(&draft, text).map_err(Error::file("write", &draft))?;
    fs::rename(&draft, path).map_err(Error::file("replace", path))
}
