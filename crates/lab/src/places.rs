//! Where a lab's things are: names and paths only, nothing is touched here.
//!
//! Everything that a lab creates on the host lies under one of these, so that
//! `down` finds it again even when the journal is lost.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Directory of all labs' state; also the lock under which shared things change.
pub const RUN: &str = "/run/signet";
/// Where network namespaces have names, as `ip netns` expects it.
pub const NETNS: &str = "/run/netns";
/// Where the BPF file system is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Present while the BPF file system was mounted by a lab.
pub const BPFFS_MARKER: &str = "/run/signet/mounted-bpffs";
/// The folder that all labs share in each cgroup hierarchy and in the BPF file system.
pub const FOLDER: &str = "signet";
/// The namespace that joins nodes and external hosts.
pub const FABRIC: &str = "fabric";

const LONGEST_NAME: usize = 32;

/// Name of a lab: a DNS label of at most 32 bytes, so that it is safe in every path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LabName(String);

/// A text that cannot name a lab.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` cannot name a lab: use 1 to 32 of a-z, 0-9 and `-`, first and last not `-`")]
pub struct NotALabName(pub String);

impl FromStr for LabName {
    type Err = NotALabName;

    fn from_str(text: &str) -> Result<Self, NotALabName> {
        if text.len() <= LONGEST_NAME && is_dns_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotALabName(text.to_owned()))
        }
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the text is a DNS label (RFC 1123): what nodes, pods and hosts are called.
pub fn is_dns_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The paths of one lab.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    name: LabName,
}

impl Places {
    /// Of the lab with this name.
    pub fn new(name: LabName) -> Self {
        Self { name }
    }

    /// The lab's name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// All state in files.
    pub fn run(&self) -> PathBuf {
        Path::new(RUN).join(self.name.as_str())
    }

    /// What exists, or is about to.
    pub fn journal(&self) -> PathBuf {
        self.run().join("lab.json")
    }

    /// The manifests that agents of the first cluster read: the lab's API server.
    pub fn cluster(&self) -> PathBuf {
        self.run().join("cluster")
    }

    /// The same of a cluster; `None`: the first.
    pub fn objects(&self, cluster: Option<&str>) -> PathBuf {
        cluster.map_or_else(|| self.cluster(), |name| self.run().join("clusters").join(name))
    }

    /// The root file system of every container: the host's, read-only.
    pub fn rootfs(&self) -> PathBuf {
        self.run().join("rootfs")
    }

    /// The container runtime's own state.
    pub fn runtime(&self) -> PathBuf {
        self.run().join("runc")
    }

    /// One folder per container: its OCI bundle.
    pub fn bundles(&self) -> PathBuf {
        self.run().join("bundles")
    }

    /// What containers print.
    pub fn logs(&self) -> PathBuf {
        self.run().join("logs")
    }

    /// What a pod's container prints.
    pub fn pod_log(&self, pod: &str, container: &str) -> PathBuf {
        self.logs().join(format!("{}_{container}.log", pod.replace('/', "_")))
    }

    /// What pods of a namespace find in `/etc` before what the host has there.
    pub fn settings(&self, namespace: &str) -> PathBuf {
        self.run().join("etc").join(namespace)
    }

    /// The socket of the merged Observer.
    pub fn relay_socket(&self) -> PathBuf {
        self.run().join("relay.sock")
    }

    /// The agents that it asks, a line each.
    pub fn relay_nodes(&self) -> PathBuf {
        self.run().join("relay-nodes")
    }

    /// A node's agent's files.
    pub fn state(&self, node: &str) -> PathBuf {
        self.run().join(node)
    }

    /// The socket of a node's agent.
    pub fn agent_socket(&self, node: &str) -> PathBuf {
        self.state(node).join("agent.sock")
    }

    /// A node's folder in the BPF file system.
    pub fn pins(&self, node: &str) -> PathBuf {
        self.all_pins().join(node)
    }

    /// The lab's folder in the BPF file system.
    pub fn all_pins(&self) -> PathBuf {
        Path::new(BPFFS).join(FOLDER).join(self.name.as_str())
    }

    /// The name of one of the lab's network namespaces: `member` is a node, an
    /// external host, `fabric`, `NAMESPACE.POD` or `CLUSTER.NAMESPACE.POD`.
    pub fn netns(&self, member: &str) -> PathBuf {
        Path::new(NETNS).join(format!("{}{member}", self.netns_prefix()))
    }

    /// What the names of all its network namespaces start with.
    pub fn netns_prefix(&self) -> String {
        format!("signet.{}.", self.name)
    }

    /// The lab's folder inside any cgroup hierarchy.
    pub fn cgroup(&self) -> PathBuf {
        Path::new(FOLDER).join(self.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, legal: bool) {
        assert_eq!(text.parse::<LabName>().is_ok(), legal, "{text}");
    }

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        check("../etc", false);
        check("a/b", false);
        check("", false);
        check(".", false);
    }

    #[test]
    fn names_that_would_be_mistaken_for_another_labs_are_refused() {
        check("a.b", false);
        check("tiny", true);
        check("bank-2", true);
        check("-a", false);
        check("Bank", false);
    }

    #[test]
    fn paths_are_those_that_agents_and_tools_expect() {
        let places = Places::new("tiny".parse().unwrap());
        assert_eq!(
            places.netns("payment.pay-svc").to_str(),
            Some("/run/netns/signet.tiny.payment.pay-svc")
        );
        assert_eq!(places.pins("node-1").to_str(), Some("/sys/fs/bpf/signet/tiny/node-1"));
        assert_eq!(
            places.agent_socket("node-1").to_str(),
            Some("/run/signet/tiny/node-1/agent.sock")
        );
    }
}
