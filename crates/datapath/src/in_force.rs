//! What the kernel enforces, read back: an agent that starts must know with what to go
//! on where it can make nothing better.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use abi::Subject;
use model::IdentityId;

use crate::desired::{HostSubject, Trial};
use crate::installed::{HOST_INTERFACE, Installed};
use crate::services::Frontend;
use crate::trie;

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Policy tables by number, without those that hold what no table can hold.
    pub tables: BTreeMap<u32, TableInForce>,
    /// The table of each pod, by the number of its endpoint.
    pub endpoints: BTreeMap<u32, u32>,
    /// How the node itself is judged.
    pub host: Option<HostSubject>,
    /// Ports of services that are led to backends.
    pub frontends: BTreeSet<Frontend>,
    /// Services' own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Another version's state judges, of which nothing is told here.
    pub foreign: bool,
}

/// One policy table.
#[derive(Clone, Debug)]
pub struct TableInForce {
    /// What it holds.
    pub places: Vec<(policy::Key, policy::Held)>,
    /// How many entries it has room for.
    pub room: u32,
}

pub(crate) fn read(installed: &Installed, revision: u32, foreign: bool) -> InForce {
    let tables = installed.tables.iter().filter_map(|(number, table)| {
        let places = trie::places(&table.image, revision)?;
        Some((*number, TableInForce { places, room: table.map.max_entries() }))
    });
    let subject = |endpoint: &abi::Endpoint| {
        if revision >= endpoint.from_revision { endpoint.after } else { endpoint.before }
    };
    let pods = installed.endpoints.iter().filter(|(ifindex, _)| **ifindex != HOST_INTERFACE);
    let host = installed.endpoints.get(&HOST_INTERFACE).map(subject);
    let (frontends, addresses) = installed.services.known();
    InForce {
        tables: tables.collect(),
        endpoints: pods.map(|(_, it)| (it.id, subject(it).table)).collect(),
        host: host.and_then(host_subject),
        frontends,
        addresses,
        foreign,
    }
}

fn host_subject(subject: Subject) -> Option<HostSubject> {
    let Subject { identity, table, fallback, confirm_by } = subject;
    Some(HostSubject {
        identity: IdentityId::try_from(identity).ok()?,
        table,
        trial: (confirm_by != 0).then_some(Trial { fallback, confirm_by }),
    })
}
