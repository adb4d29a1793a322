//! How an installation answers what a policy leaves open. The defaults are
//! those of the reference system.

use crate::cidr::CidrMatch;

/// Whom policy binds at all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Enforcement {
    /// Endpoints that a policy selects.
    #[default]
    Default,
    /// Every endpoint, in both directions, whether or not a policy selects it.
    Always,
    /// Nobody.
    Never,
}

/// Whether an endpoint's own node may always reach it (probes of the kubelet).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AllowLocalhost {
    /// Yes, unless a rule denies it.
    #[default]
    Always,
    /// Only if a rule allows it.
    Policy,
}

/// The installation's choices.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Whom policy binds.
    pub enforcement: Enforcement,
    /// Whether the own node may always enter.
    pub allow_localhost: AllowLocalhost,
    /// Name of this cluster: the value of `io.cilium.k8s.policy.cluster` here.
    pub cluster: String,
    /// Whether a peer selector that names no cluster means this one only.
    pub default_local_cluster: bool,
    /// The most entries one table may have; more is an error.
    pub max_entries: usize,
    /// Which ends in the cluster ranges match; `None`: each kind's own standard.
    pub cidr_match: Option<CidrMatch>,
    /// What is enforced; what is not is denied.
    pub capabilities: Capabilities,
}

/// What whoever acts on decisions can enforce. A rule that asks for more lets
/// nothing through on its route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// Tells ICMP types apart.
    pub icmp_types: bool,
    /// Looks inside connections.
    pub layer7: bool,
    /// Knows whether both ends have proved who they are.
    pub authentication: bool,
    /// Learns the addresses of names.
    pub names: bool,
    /// Judges packets of the node itself.
    pub nodes: bool,
    /// Gives identities the labels that [`References`](crate::References) asks
    /// for. Without them a rule that needs them could not even deny.
    pub labels: bool,
}

impl Capabilities {
    /// Everything the language says: for asking what policies mean.
    pub const ALL: Self = Self {
        icmp_types: true,
        layer7: true,
        authentication: true,
        names: true,
        nodes: true,
        labels: true,
    };

    /// What the datapath enforces today: addresses, protocols, ports and ICMP
    /// types of pods and nodes.
    pub const DATAPATH: Self = Self {
        icmp_types: true,
        layer7: false,
        authentication: false,
        names: false,
        nodes: true,
        labels: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::Default,
            allow_localhost: AllowLocalhost::Always,
            cluster: "default".to_owned(),
            default_local_cluster: true,
            max_entries: 65_536,
            cidr_match: None,
            capabilities: Capabilities::DATAPATH,
        }
    }
}
