//! Which services the node leads to their backends, and who those are.
//!
//! An address that is a pod's or a node's cannot be made a service's by anybody
//! who may write one: it would take that pod off the network. What two services
//! claim, neither gets. What does not fit is left out port by port, who is there
//! before who comes; its address stays a service's own as long as that fits, so that
//! nobody is sent there unjudged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use datapath::{Backends, Frontend, Services};
use source::{ServiceName, Snapshot};

use super::{AddressBook, LastGood};

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

/// How many fit, and who is there.
pub(super) struct Room<'a> {
    /// Addresses, and their ports.
    pub services: u32,
    /// Of all ports.
    pub backends: u32,
    pub last_good: &'a LastGood,
}

/// Why what does not fit is not led anywhere.
const NO_ROOM: &str = "it does not fit: raise `max-services` or `max-backends`";

/// Every port of every service that has an address of its own.
pub(super) fn plan(
    snapshot: &Snapshot,
    book: &AddressBook,
    room: &Room<'_>,
    problems: &mut Vec<String>,
) -> (Services, Vec<ServiceView>, Option<String>) {
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
    let refused = fit(&mut services, room);
    for view in &mut views {
        let own = services.addresses.contains(&view.frontend.address);
        let led = services.frontends.contains_key(&view.frontend);
        if view.reason.is_empty() && !(own && led) {
            NO_ROOM.clone_into(&mut view.reason);
        }
    }
    (services, views, refused)
}

/// Leaves out what there is no room for, and says how much that is.
fn fit(services: &mut Services, room: &Room<'_>) -> Option<String> {
    let all = services.clone();
    let backends = |ends: &Backends| ends.ends.len();
    let needed = all.addresses.len() + all.frontends.len();
    let needed_backends: usize = all.frontends.values().map(backends).sum();
    let size = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let (limit, limit_backends) = (size(room.services), size(room.backends));
    if needed <= limit && needed_backends <= limit_backends {
        return None;
    }
    let is_new = |address: IpAddr| !room.last_good.has_service(address, None);
    let mut addresses: Vec<IpAddr> = all.addresses.iter().copied().collect();
    addresses.sort_by_key(|address| is_new(*address));
    services.addresses = addresses.into_iter().take(limit).collect();
    let mut frontends: Vec<(&Frontend, &Backends)> =
        all.frontends.iter().filter(|(it, _)| services.addresses.contains(&it.address)).collect();
    frontends.sort_by_key(|(it, _)| !room.last_good.has_service(it.address, Some(**it)));
    services.frontends.clear();
    let (mut left, mut left_backends) = (limit - services.addresses.len(), limit_backends);
    for (frontend, ends) in frontends {
        if left > 0 && backends(ends) <= left_backends {
            left -= 1;
            left_backends -= backends(ends);
            services.frontends.insert(*frontend, ends.clone());
        }
    }
    let out = all.frontends.len() - services.frontends.len();
    Some(format!(
        "{out} ports of services do not fit and are led nowhere: addresses and ports are {needed}, \
         {limit} is the limit (raise `max-services`); backends are {needed_backends}, \
         {limit_backends} is the limit (raise `max-backends`)"
    ))
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
