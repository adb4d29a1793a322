//! Which services the node leads to their backends, and who those are.
//!
//! An address that is a pod's or a node's cannot be made a service's by anybody
//! who may write one: it would take that pod off the network. What two services
//! claim, neither gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use datapath::{Backends, Frontend, Services};
use source::{ServiceName, Snapshot};

use super::AddressBook;

/// Stream control transmission has no socket hooks: its services are names only.
const SCTP: u8 = 132;

/// One port of one service at one address, as it is planned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceView {
    /// The service.
    pub name: ServiceName,
    /// Name of the port; empty: it has none.
    pub port_name: String,
    /// What clients ask for.
    pub frontend: Frontend,
    /// Who serves it.
    pub backends: BTreeSet<SocketAddr>,
    /// How long a client keeps its backend.
    pub affinity_seconds: u32,
    /// Why clients cannot reach it; empty: they can.
    pub reason: String,
}

/// Every port of every service that has an address of its own.
pub(super) fn plan(
    snapshot: &Snapshot,
    book: &AddressBook,
    problems: &mut Vec<String>,
) -> (Services, Vec<ServiceView>) {
    let mut views = views(snapshot);
    let mut claims: BTreeMap<IpAddr, BTreeSet<&ServiceName>> = BTreeMap::new();
    for service in snapshot.services.values() {
        for address in &service.addresses {
            claims.entry(*address).or_default().insert(&service.name);
        }
    }
    for view in &mut views {
        let address = view.frontend.address;
        let others = claims.get(&address).is_some_and(|names| names.len() > 1);
        view.reason = if book.get(&address).is_some() {
            format!("{address} is the address of a pod or a node")
        } else if others {
            format!("{address} is claimed by several services")
        } else if view.frontend.protocol == SCTP {
            "SCTP has no socket hooks: ask for a backend's own address".to_owned()
        } else if view.backends.is_empty() {
            "no backend is ready: connections are refused".to_owned()
        } else {
            String::new()
        };
    }
    let mut services = Services::default();
    for (address, names) in &claims {
        if book.get(address).is_some() {
            problems.push(format!(
                "service {} has the address {address} of a pod or a node: it is not led anywhere",
                joined(names)
            ));
            continue;
        }
        services.addresses.insert(*address);
        if names.len() > 1 {
            problems.push(format!(
                "{address} is claimed by services {}: neither is led anywhere",
                joined(names)
            ));
        }
    }
    for view in &views {
        let alone = claims.get(&view.frontend.address).is_some_and(|names| names.len() == 1);
        let own = services.addresses.contains(&view.frontend.address);
        if alone && own && view.frontend.protocol != SCTP {
            let ends = view.backends.clone();
            let backends = Backends { ends, affinity_seconds: view.affinity_seconds };
            services.frontends.insert(view.frontend, backends);
        }
    }
    (services, views)
}

fn views(snapshot: &Snapshot) -> Vec<ServiceView> {
    let mut views = Vec::new();
    for service in snapshot.services.values() {
        for port in &service.ports {
            for address in &service.addresses {
                let frontend =
                    Frontend { address: *address, port: port.port, protocol: port.protocol };
                views.push(ServiceView {
                    name: service.name.clone(),
                    port_name: port.name.clone(),
                    frontend,
                    backends: snapshot.serving(service, port, address.is_ipv4()),
                    affinity_seconds: service.affinity_seconds,
                    reason: String::new(),
                });
            }
        }
    }
    views
}

fn joined(names: &BTreeSet<&ServiceName>) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests;
