//! Identities: a number that stands for a set of labels.
//!
//! The number comes from the labels' digest, so every node computes the same one
//! without asking anybody. Reserved numbers are those of Cilium, so that tools
//! that know them print their names.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU32;

use sha2::{Digest, Sha256};

use crate::label::{Label, Labels};

/// Identities of workloads start here; below lie the reserved numbers (1 to 255)
/// and the scopes that Hubble's tools read as CIDR (0x01) and remote node (0x02).
const FIRST_WORKLOAD: u32 = 0x0300_0000;

/// Nodes that are told apart by more than what they are, by labels or ranges, have
/// numbers from here on up to those of workloads: so the kernel knows a node by its
/// number.
const FIRST_NODE: u32 = 0x0200_0000;

/// The number under which the datapath knows an identity.
///
/// Zero is the datapath's "not yet resolved" and never a value of this type:
/// code that holds an `IdentityId` holds a resolved one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IdentityId(NonZeroU32);

/// Zero was taken for an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("0 is not an identity: it is the datapath's \"not yet resolved\"")]
pub struct NotAnIdentity;

impl TryFrom<u32> for IdentityId {
    type Error = NotAnIdentity;

    fn try_from(raw: u32) -> Result<Self, NotAnIdentity> {
        NonZeroU32::new(raw).map(Self).ok_or(NotAnIdentity)
    }
}

impl From<IdentityId> for u32 {
    fn from(id: IdentityId) -> Self {
        id.0.get()
    }
}

impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identities that exist without a workload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reserved {
    /// The node itself, and pods on its network.
    Host,
    /// Outside the cluster, on a single-stack node.
    World,
    /// Inside a pod range, but nobody knows who.
    Unmanaged,
    /// The health endpoint.
    Health,
    /// An endpoint without labels yet.
    Init,
    /// Another node.
    RemoteNode,
    /// A remote node that serves the Kubernetes API.
    KubeApiserver,
    /// Source of traffic from an ingress proxy.
    Ingress,
    /// Outside the cluster, IPv4, on a dual-stack node.
    WorldIpv4,
    /// Outside the cluster, IPv6, on a dual-stack node.
    WorldIpv6,
}

impl Reserved {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Host,
        Self::World,
        Self::Unmanaged,
        Self::Health,
        Self::Init,
        Self::RemoteNode,
        Self::KubeApiserver,
        Self::Ingress,
        Self::WorldIpv4,
        Self::WorldIpv6,
    ];

    /// Its number, 1 to 10.
    pub fn id(self) -> IdentityId {
        let raw = match self {
            Self::Host => 1,
            Self::World => 2,
            Self::Unmanaged => 3,
            Self::Health => 4,
            Self::Init => 5,
            Self::RemoteNode => 6,
            Self::KubeApiserver => 7,
            Self::Ingress => 8,
            Self::WorldIpv4 => 9,
            Self::WorldIpv6 => 10,
        };
        IdentityId(NonZeroU32::MIN.saturating_add(raw - 1))
    }

    /// Its name: the key of its reserved label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::World => "world",
            Self::Unmanaged => "unmanaged",
            Self::Health => "health",
            Self::Init => "init",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
            Self::Ingress => "ingress",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
        }
    }

    /// The reserved identity with this number.
    pub fn from_id(id: IdentityId) -> Option<Self> {
        Self::ALL.into_iter().find(|reserved| reserved.id() == id)
    }

    /// The identity, number and labels.
    pub fn identity(self) -> Identity {
        let mut labels: Labels = [Label::reserved(self.name())].into_iter().collect();
        if self == Self::KubeApiserver {
            labels.insert(Label::reserved(Self::RemoteNode.name()));
        }
        Identity { id: self.id(), labels }
    }
}

/// A number and the labels it stands for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity {
    /// The number.
    pub id: IdentityId,
    /// What it stands for.
    pub labels: Labels,
}

/// SHA-256 over the labels' texts, each framed by its length.
fn digest(labels: &Labels, attempt: u32) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in labels.to_strings() {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    if attempt > 0 {
        hasher.update(attempt.to_be_bytes());
    }
    hasher.finalize().into()
}

/// The number that the digest of labels gives: its first four bytes, moved out of the
/// reserved scopes without bias worth naming (1.2 % of the space is shifted); of a
/// node its last three.
fn candidate(labels: &Labels, attempt: u32) -> IdentityId {
    let digest = digest(labels, attempt);
    let raw = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let is_node = [Reserved::Host, Reserved::RemoteNode]
        .into_iter()
        .any(|reserved| labels.has_reserved(reserved.name()));
    let raw = match raw {
        raw if is_node => FIRST_NODE | raw & 0x00ff_ffff,
        raw if raw < FIRST_WORKLOAD => raw + FIRST_WORKLOAD,
        raw => raw,
    };
    IdentityId(NonZeroU32::new(raw).unwrap_or(NonZeroU32::MAX))
}

/// The numbers of a known collection of label sets.
///
/// Two label sets whose digests start alike are told apart by their whole
/// digests: the smaller digest keeps the number, the other tries the next
/// attempt. The result depends on the collection only, never on its order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IdentityBook {
    by_labels: BTreeMap<Labels, IdentityId>,
    by_id: HashMap<IdentityId, Labels>,
}

impl IdentityBook {
    /// Numbers every distinct label set of `sets`; the reserved identities are
    /// always part of it.
    pub fn new(sets: impl IntoIterator<Item = Labels>) -> Self {
        Self::with_host(Reserved::Host.identity().labels, sets)
    }

    /// The same on a node that is more than a node: one that serves the API has
    /// that label, too, and keeps its number.
    pub fn with_host(host: Labels, sets: impl IntoIterator<Item = Labels>) -> Self {
        let mut book = Self::default();
        for reserved in Reserved::ALL {
            let Identity { id, labels } = reserved.identity();
            let labels = if reserved == Reserved::Host { host.clone() } else { labels };
            book.by_id.insert(id, labels.clone());
            book.by_labels.insert(labels, id);
        }
        let mut pending: BTreeMap<[u8; 32], Labels> = sets
            .into_iter()
            .filter(|labels| !book.by_labels.contains_key(labels))
            .map(|labels| (digest(&labels, 0), labels))
            .collect();
        let mut attempt = 0;
        while !pending.is_empty() {
            let mut losers = BTreeMap::new();
            for (first_digest, labels) in pending {
                let id = candidate(&labels, attempt);
                match book.by_id.entry(id) {
                    Entry::Occupied(_) => {
                        losers.insert(first_digest, labels);
                    }
                    Entry::Vacant(place) => {
                        place.insert(labels.clone());
                        book.by_labels.insert(labels, id);
                    }
                }
            }
            pending = losers;
            attempt += 1;
        }
        book
    }

    /// The number of a label set of this book.
    pub fn id(&self, labels: &Labels) -> Option<IdentityId> {
        self.by_labels.get(labels).copied()
    }

    /// What a number stands for.
    pub fn labels(&self, id: IdentityId) -> Option<&Labels> {
        self.by_id.get(&id)
    }

    /// All identities, sorted by their labels.
    pub fn iter(&self) -> impl Iterator<Item = (IdentityId, &Labels)> {
        self.by_labels.iter().map(|(labels, id)| (*id, labels))
    }

    /// How many, the reserved ones included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Never: the reserved identities are always there.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str]) -> Labels {
        texts.iter().map(|text| text.parse::<Label>().unwrap()).collect()
    }

    #[test]
    fn zero_is_not_an_identity() {
        assert_eq!(IdentityId::try_from(0), Err(NotAnIdentity));
    }

    #[test]
    fn reserved_identities_keep_their_numbers() {
        let book = IdentityBook::new([]);
        assert_eq!(book.id(&labels(&["reserved:host"])), Some(Reserved::Host.id()));
        assert_eq!(u32::from(Reserved::WorldIpv6.id()), 10);
    }

    #[test]
    fn the_same_labels_give_the_same_number_whatever_else_is_known() {
        let a = labels(&["app=a", "io.kubernetes.pod.namespace=x"]);
        let b = labels(&["app=b"]);
        let alone = IdentityBook::new([a.clone()]).id(&a);
        let together = IdentityBook::new([b, a.clone()]).id(&a);
        assert!(alone.is_some());
        assert_eq!(alone, together);
    }

    #[test]
    fn workloads_stay_out_of_the_reserved_scopes() {
        let sets: Vec<Labels> = (0..2000).map(|n| labels(&[&format!("app=a{n}")])).collect();
        let book = IdentityBook::new(sets.clone());
        for set in &sets {
            assert!(u32::from(book.id(set).unwrap()) >= FIRST_WORKLOAD);
        }
        assert_eq!(book.len(), 2000 + Reserved::ALL.len());
    }

    #[test]
    fn a_node_is_known_by_its_number() {
        let sets = ["host", "remote-node"].map(|name| {
            let other = if name == "host" { "cidr:192.0.2.0/24" } else { "node:zone=a" };
            labels(&[&format!("reserved:{name}"), other])
        });
        let world = labels(&["reserved:world", "reserved:kube-apiserver"]);
        let book = IdentityBook::new(sets.iter().cloned().chain([world.clone()]));
        for set in &sets {
            assert_eq!(u32::from(book.id(set).unwrap()) >> 24, 2, "{set:?}");
        }
        assert!(u32::from(book.id(&world).unwrap()) >= FIRST_WORKLOAD, "no node");
    }

    #[test]
    fn a_collision_gives_two_numbers_in_either_order() {
        // Found by search: both digests start with the same four bytes.
        let (a, b) = collision();
        assert_eq!(candidate(&a, 0), candidate(&b, 0));
        let forward = IdentityBook::new([a.clone(), b.clone()]);
        let backward = IdentityBook::new([b.clone(), a.clone()]);
        assert_ne!(forward.id(&a), forward.id(&b));
        assert_eq!(forward, backward);
    }

    /// Searches until two label sets collide: about 80,000 tries by the birthday bound.
    fn collision() -> (Labels, Labels) {
        let mut seen = HashMap::new();
        for n in 0u32.. {
            let set = labels(&[&format!("app=x{n}")]);
            if let Some(other) = seen.insert(candidate(&set, 0), set.clone()) {
                return (other, set);
            }
        }
        unreachable!("the space is finite")
    }
}
