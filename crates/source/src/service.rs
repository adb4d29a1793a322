//! Services of the cluster, and who serves them.
//!
//! Backends come from `Endpoints` and `EndpointSlice` objects; only where the
//! cluster has none for a service are they the pods that its selector selects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use policy::TargetPort;

use crate::snapshot::Snapshot;

/// `namespace/name`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A service, as clients meet it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// Its own addresses; none: it is a name only.
    pub addresses: Vec<IpAddr>,
    /// `clusterIP: None`: its name stands for its backends.
    pub headless: bool,
    /// Which pods serve it; empty: its backends are listed.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<policy::ServicePort>,
    /// How long a client keeps its backend; 0: not at all.
    pub affinity_seconds: u32,
    /// Whether backends count that are not ready.
    pub unready: bool,
}

/// Addresses that serve the same ports: a subset of `Endpoints`, or a slice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Serving {
    /// Ready for traffic.
    pub ready: Vec<IpAddr>,
    /// There, and not ready.
    pub unready: Vec<IpAddr>,
    /// Name, protocol and number of each port.
    pub ports: Vec<(String, u8, u16)>,
}

impl Snapshot {
    /// Who serves one port of a service, in one family.
    pub fn serving(
        &self,
        service: &Service,
        port: &policy::ServicePort,
        ipv4: bool,
    ) -> BTreeSet<SocketAddr> {
        let of_family = |address: &IpAddr| address.is_ipv4() == ipv4;
        let Some(listed) = self.endpoints.get(&service.name) else {
            return self.selected(service, port).filter(|end| of_family(&end.ip())).collect();
        };
        let mut ends = BTreeSet::new();
        for serving in listed {
            let named = serving.ports.iter().filter(|(name, protocol, _)| {
                (name.as_str(), *protocol) == (port.name.as_str(), port.protocol)
            });
            let unready = serving.unready.iter().filter(|_| service.unready);
            for address in serving.ready.iter().chain(unready).filter(|it| of_family(it)) {
                ends.extend(named.clone().map(|(_, _, number)| SocketAddr::new(*address, *number)));
            }
        }
        ends
    }

    /// Every address behind a service, whatever its ports.
    pub fn behind(&self, service: &Service) -> BTreeSet<IpAddr> {
        match self.endpoints.get(&service.name) {
            None => self.pods_of(service).flat_map(|pod| pod.addresses).collect(),
            Some(listed) => {
                let unready = |serving: &'_ Serving| {
                    serving.unready.iter().filter(|_| service.unready).copied().collect::<Vec<_>>()
                };
                let all = listed.iter().map(|it| [it.ready.clone(), unready(it)].concat());
                all.flatten().collect()
            }
        }
    }

    fn pods_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = model::Pod> + 'a {
        let selects = |pod: &model::Pod| {
            let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
            service.selector.iter().all(has)
        };
        // A service without a selector selects nobody, not everybody.
        let there =
            (!service.selector.is_empty()).then(|| self.pods.of_namespace(&service.name.namespace));
        there.into_iter().flatten().filter(selects)
    }

    /// The pods that a service selects, at the port that it means on each; a pod
    /// without a port of that name serves nothing.
    fn selected<'a>(
        &'a self,
        service: &'a Service,
        port: &'a policy::ServicePort,
    ) -> impl Iterator<Item = SocketAddr> + 'a {
        self.pods_of(service).flat_map(move |pod| {
            let number = match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => pod
                    .ports
                    .get(&name.to_ascii_lowercase())
                    .filter(|(protocol, _)| *protocol == port.protocol)
                    .map(|(_, number)| *number),
            };
            let ends = move |address: IpAddr| Some(SocketAddr::new(address, number?));
            pod.addresses.into_iter().filter_map(ends)
        })
    }
}

#[cfg(test)]
mod tests;
