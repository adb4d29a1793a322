//! Objects that rules refer to by name or label: services and groups of ranges.
//!
//! [`resolve`] writes what they stand for into the rules. What is not known
//! stays as it is and matches nobody: a rule must never grow because something
//! is missing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Label, Labels, Source};

use crate::cidr::{CidrPeer, Reach};
use crate::peer::Peer;
use crate::rule::{Peers, Policy, Rule};
use crate::scope::POD_NAMESPACE;
use crate::selector::{Requirement, Selector, SelectorKey};

/// What rules may refer to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Catalogue {
    /// Services.
    pub services: Vec<Service>,
    /// Groups of ranges.
    pub groups: Vec<CidrGroup>,
}

/// A Kubernetes service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Which pods serve it; empty: its backends are listed.
    pub selector: BTreeMap<String, String>,
    /// Addresses of its backends.
    pub backends: Vec<IpAddr>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it says that it has none: its name stands for its backends.
    pub headless: bool,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service, and where it leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: String,
    /// IANA protocol number.
    pub protocol: u8,
    /// Its number.
    pub port: u16,
    /// The port of the backends.
    pub target: TargetPort,
}

/// A port of backends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name that each backend's container gives it.
    Name(String),
}

/// A `CiliumCIDRGroup`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CidrGroup {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ranges.
    pub ranges: Vec<IpNet>,
}

/// Groups of ranges, less some parts of them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GroupPeer {
    /// Which.
    pub groups: GroupSelector,
    /// Parts that are not meant.
    pub except: Vec<IpNet>,
    /// The kind's own standard.
    pub reach: Reach,
}

/// Which groups.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum GroupSelector {
    /// The one of this name.
    Name(String),
    /// Those whose labels match; keys are bare.
    Labels(Selector),
}

impl GroupSelector {
    fn selects(&self, group: &CidrGroup) -> bool {
        match self {
            Self::Name(name) => group.name == *name,
            Self::Labels(selector) => selector.matches(&labels(&group.labels)),
        }
    }
}

/// Services.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ServicePeer {
    /// Where; `None`: anywhere.
    pub namespace: Option<String>,
    /// Which.
    pub services: ServiceSelector,
}

/// Which services.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ServiceSelector {
    /// Those of this name.
    Name(String),
    /// Those whose labels match; keys are bare.
    Labels(Selector),
}

impl ServicePeer {
    fn selects(&self, service: &Service) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == service.namespace)
            && match &self.services {
                ServiceSelector::Name(name) => service.name == *name,
                ServiceSelector::Labels(selector) => selector.matches(&labels(&service.labels)),
            }
    }
}

fn labels(map: &BTreeMap<String, String>) -> Labels {
    map.iter().map(|(key, value)| Label::k8s(key, value)).collect()
}

/// The policies, with every reference that the catalogue knows written out.
pub fn resolve(policies: &[Policy], catalogue: &Catalogue) -> Vec<Policy> {
    let refers = |rule: &Rule| match &rule.peers {
        Peers::Any => false,
        Peers::OneOf(peers) => {
            peers.iter().any(|peer| matches!(peer, Peer::Group(_) | Peer::Service(_)))
        }
    };
    let resolved = |rule: &Rule| {
        let mut rule = rule.clone();
        if let Peers::OneOf(peers) = &mut rule.peers {
            *peers = peers.drain(..).flat_map(|peer| catalogue.resolve(peer)).collect();
        }
        rule
    };
    let policies = policies.iter().map(|policy| match policy.rules.iter().any(refers) {
        true => Policy { rules: policy.rules.iter().map(resolved).collect(), ..policy.clone() },
        false => policy.clone(),
    });
    policies.collect()
}

impl Catalogue {
    /// What a peer stands for; itself, if that is not known or nothing to know.
    fn resolve(&self, peer: Peer) -> Vec<Peer> {
        let resolved: Vec<Peer> = match &peer {
            Peer::Group(group) => self
                .groups
                .iter()
                .filter(|known| group.groups.selects(known))
                .flat_map(|known| known.ranges.iter().map(|range| ranged(group, *range)))
                .collect(),
            Peer::Service(service) => self
                .services
                .iter()
                .filter(|known| service.selects(known))
                .flat_map(serving)
                .collect(),
            _ => return vec![peer],
        };
        if resolved.is_empty() { vec![peer] } else { resolved }
    }

    /// Whether a reference stands for anything.
    pub fn knows(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Group(group) => self.groups.iter().any(|known| group.groups.selects(known)),
            Peer::Service(service) => self.services.iter().any(|known| service.selects(known)),
            _ => true,
        }
    }
}

fn ranged(group: &GroupPeer, net: IpNet) -> Peer {
    let except = group.except.iter().copied().filter(|except| net.contains(except)).collect();
    Peer::Cidr(CidrPeer { net, except, reach: group.reach })
}

/// The ends that serve a service: pods by their labels, or listed addresses,
/// which are then outside the cluster.
fn serving(service: &Service) -> Vec<Peer> {
    if service.selector.is_empty() {
        let host = |address: &IpAddr| CidrPeer {
            net: IpNet::from(*address),
            except: Vec::new(),
            reach: Reach::World,
        };
        return service.backends.iter().map(|address| Peer::Cidr(host(address))).collect();
    }
    let mut selector: Selector = service
        .selector
        .iter()
        .map(|(key, value)| {
            let key = SelectorKey { source: Source::K8s, key: key.clone() };
            Requirement::equals(key, value.as_str())
        })
        .collect();
    selector.insert(Requirement::equals(SelectorKey::k8s(POD_NAMESPACE), &*service.namespace));
    vec![Peer::LocalEndpoints(selector)]
}
