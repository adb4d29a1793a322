//! Ends of questions: from what is written (`pod:ns/name`) to who that is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::{Label, Labels, Node, Pod, PodName, Reserved};

use crate::catalogue::{Service, TargetPort};
use crate::question::Asked;
use crate::question::probe::{Ask, PortName, ProbeError};

/// Who an end is, before it is known where the other end is.
#[derive(Clone, Debug)]
pub(super) enum Who<'a> {
    /// A pod of its own network; of this cluster, unless another is named.
    Pod { pod: &'a Pod, cluster: Option<String> },
    /// A node, or whoever is on its network.
    Node(&'a Node),
    /// Somebody by address, who is none of these.
    Address(IpAddr),
    /// Somebody of a cluster that is not joined: whoever has one of these addresses.
    Apart(Vec<IpAddr>),
    /// A name outside the cluster.
    Name(String),
    /// By what it is.
    Entity(Reserved),
    /// The node of the other end.
    OwnNode,
}

/// An end, and the port it is asked at.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub who: Who<'a>,
    /// What to call it in an answer.
    pub name: String,
    /// The service it stands behind.
    pub service: Option<&'a Service>,
}

impl<'a> Asked<'a> {
    /// All ends that a text can mean.
    pub(super) fn ends(&self, text: &str) -> Result<Vec<Target<'a>>, ProbeError> {
        let (cluster, rest) = match text.strip_prefix("cluster:") {
            Some(rest) => match rest.split_once('/') {
                Some((cluster, rest)) if !cluster.is_empty() => (Some(cluster.to_owned()), rest),
                _ => return Err(unknown(text)),
            },
            None => (None, text),
        };
        let Some((kind, name)) = rest.split_once(':') else { return Err(unknown(text)) };
        let foreign = cluster.filter(|cluster| *cluster != self.options.cluster);
        let one = |who| Ok(vec![Target { who, name: text.to_owned(), service: None }]);
        let apart = foreign.as_ref().and_then(|cluster| self.cluster.apart.get(cluster));
        if let Some(nodes) = apart {
            return one(apart_from(kind, name, nodes).ok_or_else(|| unknown(text))?);
        }
        match kind {
            "pod" => {
                let pod = self.pod(name)?;
                one(self.who_is(pod, foreign))
            }
            "pods" => self.pods(name, foreign),
            "svc" => self.service(text, name),
            "node" => match self.cluster.nodes.iter().find(|node| node.name == name) {
                Some(node) => one(Who::Node(node)),
                None => Err(ProbeError(format!("there is no node `{name}`"))),
            },
            "ip" => match name.parse::<IpAddr>() {
                Ok(address) => self.address(text, address.to_canonical()),
                Err(_) => Err(ProbeError(format!("`{name}` is no address"))),
            },
            "fqdn" if !name.is_empty() => one(Who::Name(name.to_ascii_lowercase())),
            "entity" if name == "host" => one(Who::OwnNode),
            "entity" => match Reserved::ALL.into_iter().find(|reserved| reserved.name() == name) {
                Some(reserved) => one(Who::Entity(reserved)),
                None => Err(ProbeError(format!("there is no entity `{name}`"))),
            },
            _ => Err(unknown(text)),
        }
    }

    fn pod(&self, text: &str) -> Result<&'a Pod, ProbeError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| unknown(text))?;
        let wanted = PodName { namespace: namespace.to_owned(), name: name.to_owned() };
        let found = self.cluster.pods.iter().find(|pod| pod.name == wanted);
        found.ok_or_else(|| ProbeError(format!("there is no pod `{wanted}`")))
    }

    /// A pod on its node's network is its node.
    fn who_is(&self, pod: &'a Pod, cluster: Option<String>) -> Who<'a> {
        if !pod.host_network {
            return Who::Pod { pod, cluster };
        }
        match self.node_of(pod) {
            Some(node) => Who::Node(node),
            None => Who::Entity(Reserved::RemoteNode),
        }
    }

    pub(super) fn node_of(&self, pod: &Pod) -> Option<&'a Node> {
        self.cluster.nodes.iter().find(|node| node.name == pod.node && !pod.node.is_empty())
    }

    /// Pods of a namespace that have all of these labels.
    fn pods(&self, text: &str, cluster: Option<String>) -> Result<Vec<Target<'a>>, ProbeError> {
        let (namespace, wanted) = text.split_once('/').ok_or_else(|| unknown(text))?;
        let mut labels = Vec::new();
        for pair in wanted.split(',').filter(|pair| !pair.is_empty()) {
            labels.push(pair.split_once('=').ok_or_else(|| unknown(text))?);
        }
        let has = |pod: &Pod| {
            labels.iter().all(|(key, value)| pod.labels.get(*key).is_some_and(|v| v == value))
        };
        let found: Vec<Target<'a>> = self
            .cluster
            .pods
            .iter()
            .filter(|pod| pod.name.namespace == namespace && has(pod))
            .map(|pod| Target {
                who: self.who_is(pod, cluster.clone()),
                name: format!("pod:{}", pod.name),
                service: None,
            })
            .collect();
        if found.is_empty() {
            return Err(ProbeError(format!("no pod of `{namespace}` has the labels `{wanted}`")));
        }
        Ok(found)
    }

    fn service(&self, text: &str, name: &str) -> Result<Vec<Target<'a>>, ProbeError> {
        let (namespace, name) = name.split_once('/').ok_or_else(|| unknown(text))?;
        let services = &self.cluster.catalogue.services;
        let found =
            services.iter().find(|known| known.namespace == namespace && known.name == name);
        let Some(service) = found else {
            return Err(ProbeError(format!("there is no service `{namespace}/{name}`")));
        };
        Ok(self.backends(service))
    }

    /// Who serves a service; nobody is possible.
    fn backends(&self, service: &'a Service) -> Vec<Target<'a>> {
        let serves = |pod: &&Pod| {
            pod.name.namespace == service.namespace
                && service
                    .selector
                    .iter()
                    .all(|(key, value)| pod.labels.get(key).is_some_and(|v| v == value))
        };
        let behind = |who, name: String| Target { who, name, service: Some(service) };
        if !service.selector.is_empty() {
            let pods = self.cluster.pods.iter().filter(serves);
            return pods
                .map(|pod| behind(self.who_is(pod, None), format!("pod:{}", pod.name)))
                .collect();
        }
        let who = |address: &IpAddr| behind(self.at(*address), format!("ip:{address}"));
        service.backends.iter().map(who).collect()
    }

    fn address(&self, text: &str, address: IpAddr) -> Result<Vec<Target<'a>>, ProbeError> {
        let services = &self.cluster.catalogue.services;
        if let Some(service) = services.iter().find(|known| known.addresses.contains(&address)) {
            return Ok(self.backends(service));
        }
        Ok(vec![Target { who: self.at(address), name: text.to_owned(), service: None }])
    }

    /// Who has an address.
    fn at(&self, address: IpAddr) -> Who<'a> {
        let pod = self.cluster.pods.iter().find(|pod| pod.addresses.contains(&address));
        if let Some(pod) = pod.filter(|pod| !pod.host_network) {
            return Who::Pod { pod, cluster: None };
        }
        match self.cluster.nodes.iter().find(|node| node.addresses.contains(&address)) {
            Some(node) => Who::Node(node),
            None => Who::Address(address),
        }
    }

    /// Labels of an end as the other end's peer. `other` is the node the other
    /// end is on, `learnt` whether the other end has asked for the end's name.
    pub(super) fn peer_labels(
        &self,
        who: &Who<'a>,
        other: Option<&Node>,
        learnt: bool,
        family: u8,
    ) -> Labels {
        let references = &self.references;
        let base = |reserved: Reserved| reserved.identity().labels;
        match who {
            Who::Pod { pod, cluster } => {
                let cluster = cluster.as_ref().unwrap_or(&self.options.cluster);
                let labels = self.pod_labels(pod, cluster);
                references.at_address(&labels, self.address_of(pod, family))
            }
            Who::Node(node) => self.node_labels(node, other, family),
            Who::OwnNode => match other {
                Some(node) => self.node_labels(node, other, family),
                None => base(Reserved::Host),
            },
            Who::Address(address) => self.address_labels(*address),
            Who::Apart(addresses) => {
                let address = addresses.iter().find(|at| at.is_ipv4() == (family == 4));
                self.address_labels(address.copied().unwrap_or_else(|| nowhere(family)))
            }
            Who::Name(name) => {
                let world = references.at_address(&base(Reserved::World), nowhere(family));
                if learnt { references.learnt(&world, name) } else { world }
            }
            Who::Entity(Reserved::World | Reserved::WorldIpv4 | Reserved::WorldIpv6) => {
                references.at_address(&base(Reserved::World), nowhere(family))
            }
            Who::Entity(Reserved::KubeApiserver) => {
                match self.cluster.api_servers.iter().find(|at| at.is_ipv4() == (family == 4)) {
                    Some(address) => match self.at(*address) {
                        Who::Node(node) => self.node_labels(node, other, family),
                        _ => self.address_labels(*address),
                    },
                    None => base(Reserved::KubeApiserver),
                }
            }
            Who::Entity(reserved) => base(*reserved),
        }
    }

    /// A node is the host of whoever is on it, and another node for all others.
    fn node_labels(&self, node: &Node, other: Option<&Node>, family: u8) -> Labels {
        let own = other.is_some_and(|other| other.name == node.name);
        let serves = node.addresses.iter().any(|at| self.cluster.api_servers.contains(at));
        let mut labels = if own {
            Reserved::Host.identity().labels
        } else {
            let base = Reserved::RemoteNode.identity().labels;
            self.references.of_node(&base, &node.labels, &self.options.cluster)
        };
        if serves {
            labels.insert(Label::reserved(Reserved::KubeApiserver.name()));
        }
        match node.addresses.iter().find(|at| at.is_ipv4() == (family == 4)) {
            Some(address) => self.references.at_address(&labels, *address),
            None => labels,
        }
    }

    /// What stands at an address of a node that is not the node's own.
    pub(super) fn reserved_at(&self, address: IpAddr) -> Option<Reserved> {
        self.cluster.nodes.iter().find_map(|node| node.reserved.get(&address)).copied()
    }

    /// Labels of an address that no pod and no node has.
    fn address_labels(&self, address: IpAddr) -> Labels {
        if let Some(reserved) = self.reserved_at(address)
            && !self.cluster.api_servers.contains(&address)
        {
            return self.references.at_address(&reserved.identity().labels, address);
        }
        let ranges = self.cluster.nodes.iter().flat_map(|node| &node.pod_cidrs);
        let in_pods = ranges.into_iter().any(|range| range.contains(&address));
        if in_pods {
            let base = Reserved::Unmanaged.identity().labels;
            return self.references.at_address(&base, address);
        }
        let mut world = Reserved::World.identity().labels;
        if self.cluster.api_servers.contains(&address) {
            world.insert(Label::reserved(Reserved::KubeApiserver.name()));
        }
        self.references.at_address(&world, address)
    }

    /// A pod's address; if it has none yet, a made-up one, in its node's range if
    /// that is known: rules may be about that range.
    fn address_of(&self, pod: &Pod, family: u8) -> IpAddr {
        let of_family = |at: &IpAddr| at.is_ipv4() == (family == 4);
        if let Some(known) = pod.addresses.iter().copied().find(of_family) {
            return known;
        }
        let at = self.cluster.pods.iter().position(|known| known.name == pod.name);
        let at = u16::try_from(at.unwrap_or_default()).unwrap_or_default();
        let ranges = self.node_of(pod).map(|node| node.pod_cidrs.as_slice()).unwrap_or_default();
        let range = ranges.iter().find(|range| of_family(&range.addr()));
        // The first address of a range is the network's, the next the gateway's.
        if let Some(address) = range.and_then(|range| nth(range, u128::from(at) + 2)) {
            return address;
        }
        let number = at.saturating_add(1);
        let [high, low] = number.to_be_bytes();
        match family {
            4 => Ipv4Addr::new(10, 244, high, low).into(),
            _ => Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number).into(),
        }
    }
}

/// An end of a cluster that is not joined. Its pods are not known here: one is taken to
/// be the first of a range of them.
fn apart_from<'a>(kind: &str, name: &str, nodes: &[Node]) -> Option<Who<'a>> {
    match kind {
        "pod" | "pods" => {
            let ranges = nodes.iter().flat_map(|node| &node.pod_cidrs);
            Some(Who::Apart(ranges.filter_map(|range| nth(range, 2)).collect()))
        }
        "node" => {
            let node = nodes.iter().find(|node| node.name == name)?;
            Some(Who::Apart(node.addresses.clone()))
        }
        _ => None,
    }
}

/// The address that is so many behind the first of a range, if it is in it.
fn nth(range: &IpNet, number: u128) -> Option<IpAddr> {
    let address: IpAddr = match range.network() {
        IpAddr::V4(first) => {
            Ipv4Addr::from(u32::from(first).checked_add(u32::try_from(number).ok()?)?).into()
        }
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first).checked_add(number)?).into(),
    };
    range.contains(&address).then_some(address)
}

/// An address outside every range that anybody names, but the whole world's.
fn nowhere(family: u8) -> IpAddr {
    match family {
        4 => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn unknown(text: &str) -> ProbeError {
    ProbeError(format!(
        "`{}` is no end: write pod:NS/NAME, pods:NS/K=V, svc:NS/NAME, node:NAME, ip:ADDRESS, \
         fqdn:NAME or entity:NAME",
        text.escape_debug()
    ))
}

/// The port at which a target is reached; for a service, behind it.
pub(super) fn port_of(ask: &Ask, target: &Target<'_>) -> Result<u16, ProbeError> {
    let named = |name: &str| match &target.who {
        Who::Pod { pod, .. } => match pod.ports.get(name) {
            Some((protocol, port)) if *protocol == ask.protocol => Ok(*port),
            _ => Err(ProbeError(format!("`{}` has no port `{name}`", target.name))),
        },
        _ => Err(ProbeError(format!("`{}` has no names of ports", target.name))),
    };
    if matches!(ask.protocol, 1 | 58) {
        return Ok(ask.icmp_port());
    }
    let Some(port) = &ask.port else { return Ok(0) };
    let Some(service) = target.service.filter(|service| !service.ports.is_empty()) else {
        return match port {
            PortName::Number(number) => Ok(*number),
            PortName::Name(name) => named(name),
        };
    };
    let asked = service.ports.iter().find(|known| {
        known.protocol == ask.protocol
            && match port {
                PortName::Number(number) => known.port == *number,
                PortName::Name(name) => known.name == *name,
            }
    });
    match asked.map(|known| &known.target) {
        Some(TargetPort::Number(number)) => Ok(*number),
        Some(TargetPort::Name(name)) => named(name),
        None => Err(ProbeError(format!(
            "the service `{}/{}` has no such port",
            service.namespace, service.name
        ))),
    }
}
