//! Which interfaces of this node are installed, as whom, and why others are not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datapath::{Endpoint, Limits};
use model::{Direction, EndpointRecord, IdentityBook, IdentityId, Labels, Pod, PodName};
use policy::{Key, Table, Why};
use source::Snapshot;

use super::last_good::LastGood;
use super::people::PodLabels;
use super::{Inputs, Plan, PlanOptions};
use crate::numbers::{Numbers, digest};

/// Why an interface is left out. Everything on it is dropped meanwhile.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LeftOut {
    /// Nothing says who the pod is.
    #[error("the cluster has no pod of this name")]
    UnknownPod,
    /// Another node's pod, or one that is not placed.
    #[error("the pod is placed on node `{0}`, not here")]
    OtherNode(String),
    /// Such a pod has no interface of its own.
    #[error("the pod uses the node's network")]
    HostNetwork,
    /// The record is from another incarnation of the pod, or forged.
    #[error("the interface has {interface}, the pod's status says {status}")]
    OtherAddresses {
        /// What the record says.
        interface: String,
        /// What the pod says.
        status: String,
    },
    /// Two records that cannot both be true.
    #[error("another record claims the same {0}")]
    Ambiguous(&'static str),
    /// The node's own, or no unicast address at all.
    #[error("{0} cannot be a pod's address")]
    NotAPodsAddress(IpAddr),
    /// The kernel program knows one address of each family.
    #[error("it has no address, or more than one of a family")]
    Addresses,
    /// Its policy could not be compiled, and there is no earlier table.
    #[error("its policy cannot be enforced: {0}")]
    Policy(String),
    /// A policy that may be about it was never accepted in any version.
    #[error("{0} is refused and has no earlier version (correct or remove it)")]
    RefusedPolicy(String),
    /// The node is full.
    #[error("the node has room for {0} endpoints (raise `max-endpoints`)")]
    NodeFull(u32),
}

/// One interface of one pod.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Its number in the datapath.
    pub id: u32,
    /// What the CNI plugin recorded.
    pub record: EndpointRecord,
    /// Who it is; `None` while that is not known.
    pub identity: Option<(IdentityId, Labels)>,
    /// Kind and name of the pod's owner.
    pub workload: Option<(String, String)>,
    /// Number of its table, and the table.
    pub table: Option<(u32, Arc<Table>)>,
    /// Why it is not installed; `None`: it is.
    pub left_out: Option<LeftOut>,
}

impl EndpointView {
    /// Its IPv4 address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.record.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.record.addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        })
    }

    /// Whether default deny is on in this direction; `None` without a table.
    pub fn default_deny(&self, direction: Direction) -> Option<bool> {
        default_deny(&self.table.as_ref()?.1, direction)
    }

    /// What names it for as long as it lives, across restarts of the agent.
    pub fn content(&self) -> [u8; 32] {
        content(&self.record)
    }

    /// As the datapath is told, by interface.
    pub(super) fn installed(&self) -> Option<(u32, Endpoint)> {
        if self.left_out.is_some() {
            return None;
        }
        let endpoint = Endpoint {
            id: self.id,
            identity: self.identity.as_ref()?.0,
            table: self.table.as_ref()?.0,
            mac: self.record.mac,
            ipv4: self.ipv4(),
            ipv6: self.ipv6(),
            netns_id: self.record.netns_id,
        };
        Some((self.record.ifindex, endpoint))
    }
}

/// Whether a table has default deny on in a direction.
pub(super) fn default_deny(table: &Table, direction: Direction) -> Option<bool> {
    let everything = Key::everything(direction);
    let (_, entry) = table.entries().find(|(key, _)| *key == everything)?;
    Some(entry.why == Why::DefaultDeny)
}

/// Records joined with pods.
pub(super) struct Joined {
    pub endpoints: Vec<EndpointView>,
    pub numbers: Numbers,
}

/// What names an endpoint for as long as it lives, and no other after it.
fn content(record: &EndpointRecord) -> [u8; 32] {
    digest([record.container_id.as_bytes(), record.pod_interface.as_bytes()])
}

/// Joins each record with its pod.
pub(super) fn join(inputs: &Inputs, options: &PlanOptions, before: Option<&Plan>) -> Joined {
    let nothing = Numbers::default();
    let numbers = Numbers::assign(
        before.map_or(&nothing, |before| &before.endpoint_numbers),
        inputs.records.iter().map(content),
    );
    let mut records: Vec<EndpointRecord> = inputs.records.iter().map(canonical).collect();
    records.sort_by(|a, b| {
        (&a.pod, &a.container_id, a.ifindex).cmp(&(&b.pod, &b.container_id, b.ifindex))
    });
    let claims = Claims::of(&records, &inputs.snapshot);
    let endpoints = records.into_iter().map(|record| {
        let pod = inputs.snapshot.pods.get(&record.pod);
        EndpointView {
            id: numbers.get(&content(&record)).unwrap_or_default(),
            left_out: claims.objection(&record, pod.as_ref(), options),
            identity: None,
            workload: pod.and_then(|pod| pod.workload),
            table: None,
            record,
        }
    });
    Joined { endpoints: endpoints.collect(), numbers }
}

fn canonical(record: &EndpointRecord) -> EndpointRecord {
    let addresses = record.addresses.iter().map(IpAddr::to_canonical).collect();
    EndpointRecord { addresses, ..record.clone() }
}

/// How often something that only one record may have is claimed.
struct Claims {
    interfaces: BTreeMap<u32, usize>,
    contents: BTreeMap<[u8; 32], usize>,
    pods: BTreeMap<PodName, usize>,
}

impl Claims {
    fn of(records: &[EndpointRecord], snapshot: &Snapshot) -> Self {
        let mut claims =
            Self { interfaces: BTreeMap::new(), contents: BTreeMap::new(), pods: BTreeMap::new() };
        for record in records {
            *claims.interfaces.entry(record.ifindex).or_default() += 1;
            *claims.contents.entry(content(record)).or_default() += 1;
            // A record that the pod's status contradicts is no rival.
            let pod = snapshot.pods.get(&record.pod);
            if pod.is_some_and(|pod| agrees(record, &pod)) {
                *claims.pods.entry(record.pod.clone()).or_default() += 1;
            }
        }
        claims
    }

    /// Why the record cannot be believed, if so.
    fn objection(
        &self,
        record: &EndpointRecord,
        pod: Option<&Pod>,
        options: &PlanOptions,
    ) -> Option<LeftOut> {
        let Some(pod) = pod else { return Some(LeftOut::UnknownPod) };
        let twice = |count: Option<&usize>| count.is_some_and(|count| *count > 1);
        let families =
            |ipv4: bool| record.addresses.iter().filter(|one| one.is_ipv4() == ipv4).count();
        if pod.node != options.node {
            Some(LeftOut::OtherNode(pod.node.clone()))
        } else if pod.host_network {
            Some(LeftOut::HostNetwork)
        } else if record.addresses.is_empty() || families(true) > 1 || families(false) > 1 {
            Some(LeftOut::Addresses)
        } else if !agrees(record, pod) {
            Some(LeftOut::OtherAddresses {
                interface: list(&record.addresses),
                status: list(&pod.addresses),
            })
        } else if twice(self.interfaces.get(&record.ifindex)) {
            Some(LeftOut::Ambiguous("interface"))
        } else if twice(self.contents.get(&content(record))) {
            Some(LeftOut::Ambiguous("container"))
        } else if twice(self.pods.get(&record.pod)) {
            Some(LeftOut::Ambiguous("pod"))
        } else {
            None
        }
    }
}

/// A pod that has no address yet contradicts nothing: the plugin runs before the
/// status is written.
fn agrees(record: &EndpointRecord, pod: &Pod) -> bool {
    let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
    pod.addresses.is_empty() || set(&pod.addresses) == set(&record.addresses)
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}

/// Says who each endpoint is, left out or not, where that is known.
pub(super) fn identify(
    endpoints: &mut [EndpointView],
    labels: &PodLabels,
    identities: &IdentityBook,
) {
    for endpoint in endpoints {
        let labels = labels.get(&endpoint.record.pod);
        endpoint.identity =
            labels.and_then(|labels| Some((identities.id(labels)?, labels.clone())));
    }
}

/// Leaves out what does not fit; who was there before goes first.
pub(super) fn fit(endpoints: &mut [EndpointView], limits: Limits, last_good: &LastGood) {
    let room = usize::try_from(limits.endpoints).unwrap_or(usize::MAX);
    let mut candidates: Vec<&mut EndpointView> =
        endpoints.iter_mut().filter(|endpoint| endpoint.left_out.is_none()).collect();
    candidates.sort_by_key(|endpoint| !last_good.has_endpoint(endpoint.id));
    for endpoint in candidates.into_iter().skip(room) {
        endpoint.left_out = Some(LeftOut::NodeFull(limits.endpoints));
    }
}
