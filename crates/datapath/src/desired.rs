//! What the datapath of a node should hold, as plain values.
//!
//! Knows nothing about maps: `apply` turns the difference between this and what
//! the kernel holds into an ordered list of writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use model::IdentityId;
use policy::Table;

use crate::services::Services;

/// Where a node's kernel state lives and how large it may become.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder on bpffs; nothing else of Signet is pinned outside it.
    pub pins: PathBuf,
    /// Cgroup v2 folder whose processes are attributed; `None`: no process is known.
    pub cgroup: Option<PathBuf>,
    /// Sizes of the maps.
    pub limits: Limits,
}

/// Sizes, checked before anything is installed. What does not fit is refused whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Pods of this node.
    pub endpoints: u32,
    /// Connections that one endpoint may have at a time.
    pub connections_per_endpoint: u32,
    /// Addresses with a known identity, in the whole cluster.
    pub addresses: u32,
    /// Entries of one policy table, the old and the new ones during a change together.
    pub table_entries: u32,
    /// Addresses and ports of services, in the whole cluster.
    pub services: u32,
    /// Backends of all ports of all services together.
    pub backends: u32,
    /// Bytes of each record ring; a power of two, at least a page.
    pub ring_bytes: u32,
    /// Drop records that one endpoint may cause in a second; what is more is
    /// counted as lost, so that a flood leaves its neighbours' drops in the ring.
    pub drop_records: u32,
    /// What is told of connections after their first packet; for each endpoint as many
    /// records in a second as of drops.
    pub traces: Traces,
}

/// What is told of a connection after its first packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Traces {
    /// Nothing.
    None,
    /// The end of TCP connections, and what they carried.
    #[default]
    End,
    /// The first answer of every connection, too.
    All,
}

impl Traces {
    /// As the kernel side knows it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::None => abi::trace::NONE,
            Self::End => abi::trace::END,
            Self::All => abi::trace::ANSWERS,
        }
    }
}

impl Limits {
    /// Policy tables that fit: those of all endpoints, before and after a change
    /// that replaces every one of them.
    pub fn tables(&self) -> u32 {
        // The node itself may have two at a time.
        self.endpoints.saturating_add(2).saturating_mul(2)
    }

    /// Room for backends: those before and after a change that replaces every one.
    pub(crate) fn backend_slots(&self) -> u32 {
        self.backends.saturating_mul(2)
    }
}

/// What the node itself takes beside its pods: it, and whoever is behind it.
pub(crate) const OF_THE_HOST: u32 = 2;

impl Default for Limits {
    fn default() -> Self {
        Self {
            endpoints: 256,
            connections_per_endpoint: 8192,
            addresses: 131_072,
            table_entries: 65_536,
            services: 8192,
            backends: 16_384,
            ring_bytes: 8 << 20,
            drop_records: 1000,
            traces: Traces::default(),
        }
    }
}

/// One pod interface of this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Unique on the node and never used again for another pod; not zero.
    pub id: u32,
    /// Who it is.
    pub identity: IdentityId,
    /// Which of [`Desired::tables`] judges it.
    pub table: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its network namespace as the node sees it (`NETNSA_NSID`); negative: unknown.
    pub netns_id: i32,
}

/// The node itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Its own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// How it is judged; `None`: no policy selects it, and nobody judges it.
    pub subject: Option<HostSubject>,
}

/// How the node itself is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HostSubject {
    /// Who it is.
    pub identity: IdentityId,
    /// Which of [`Desired::tables`] judges it.
    pub table: u32,
    /// What becomes of that table unless it is confirmed.
    pub trial: Option<Trial>,
}

/// A table that judges for a while. The kernel ends it by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trial {
    /// Which of [`Desired::tables`] judges afterwards.
    pub fallback: u32,
    /// The end, in seconds of `CLOCK_MONOTONIC`; not zero.
    pub confirm_by: u32,
}

/// Everything the node should enforce.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// By index of the host-side interface.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// The node itself.
    pub host: Host,
    /// Identities of single addresses.
    pub addresses: BTreeMap<IpAddr, IdentityId>,
    /// Identities of ranges; the longest match counts, and what none covers is world.
    pub prefixes: BTreeMap<IpNet, IdentityId>,
    /// Policy tables by number; a number always means the same subject.
    pub tables: BTreeMap<u32, Arc<Table>>,
    /// Services, and who serves them.
    pub services: Services,
}

/// What an [`apply`](crate::Datapath::apply) did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Applied {
    /// The revision in force now; unchanged when nothing was to be written.
    pub revision: u32,
    /// Map elements written or removed.
    pub written: usize,
}
