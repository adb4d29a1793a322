//! What rules mention besides labels: ranges, names, names of ports, labels of
//! nodes. Whoever keeps the address book asks it which labels an address has.
//!
//! An identity carries a range, a name or a port only if some rule mentions it,
//! so that policies that mention none split no identity.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{Direction, Label, Labels, Source};

use crate::cidr::{CidrMatch, Place, cidr_label};
use crate::name::NamePattern;
use crate::options::Options;
use crate::peer::{FQDN, Peer};
use crate::rule::{Peers, Policy};

/// The source of labels that Signet makes from what an end has.
const GENERATED: &str = "gen";
/// The key of the label that holds an end's named ports.
const NAMED_PORTS: &str = "io.cilium.k8s.named-ports";
/// The source of labels of nodes.
const NODE: &str = "node";

/// Everything that a number of policies mention.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct References {
    world: BTreeSet<IpNet>,
    nodes: BTreeSet<IpNet>,
    cluster: BTreeSet<IpNet>,
    ports: BTreeSet<String>,
    names: BTreeSet<NamePattern>,
    node_labels: bool,
}

impl References {
    /// What these policies mention. They must be resolved.
    pub fn of(policies: &[Policy], options: &Options) -> Self {
        let mut found = Self::default();
        for rule in policies.iter().flat_map(|policy| &policy.rules) {
            if rule.direction == Direction::Egress {
                found.ports.extend(rule.ports.names().map(str::to_owned));
            }
            let Peers::OneOf(peers) = &rule.peers else { continue };
            for peer in peers {
                found.add(peer, options);
            }
        }
        // One family's whole world is told from the other's by its own range.
        if found.world.iter().any(|net| net.prefix_len() == 0) {
            found.world.insert(IpNet::V4(Ipv4Net::default()));
            found.world.insert(IpNet::V6(Ipv6Net::default()));
        }
        found
    }

    fn add(&mut self, peer: &Peer, options: &Options) {
        match peer {
            Peer::Cidr(range) => {
                let also = CidrMatch::of(range.reach, options);
                for net in range.nets().map(|net| net.trunc()) {
                    self.world.insert(net);
                    if also.nodes {
                        self.nodes.insert(net);
                    }
                    if also.pods {
                        self.cluster.insert(net);
                    }
                }
            }
            Peer::Name(pattern) => {
                self.names.insert(pattern.clone());
            }
            Peer::Nodes(_) => self.node_labels = true,
            _ => {}
        }
    }

    /// Whether both mention the same names of ports: [`Self::with_ports`] is the same.
    pub fn same_ports(&self, other: &Self) -> bool {
        self.ports == other.ports
    }

    /// Labels of whoever has an address, from the labels it has anyhow.
    pub fn at_address(&self, base: &Labels, address: IpAddr) -> Labels {
        let ranges = match Place::of(base) {
            Place::World => &self.world,
            Place::Node => &self.nodes,
            Place::Cluster => &self.cluster,
        };
        let mut labels = base.clone();
        if let Some(net) = longest(ranges, address) {
            labels.insert(cidr_label(net));
        }
        labels
    }

    /// Labels of a pod that has these named ports.
    pub fn with_ports(&self, base: &Labels, ports: &BTreeMap<String, (u8, u16)>) -> Labels {
        let mut labels = base.clone();
        let texts: Vec<String> = ports
            .iter()
            .filter(|(name, _)| self.ports.contains(*name))
            .map(|(name, (protocol, port))| format!("{name}.{protocol}.{port}"))
            .collect();
        if !texts.is_empty() {
            labels.insert(Label {
                key: NAMED_PORTS.to_owned(),
                source: Source::Other(GENERATED.to_owned()),
                value: texts.join("_"),
            });
        }
        labels
    }

    /// Labels of another node.
    pub fn of_node(&self, base: &Labels, node: &BTreeMap<String, String>, cluster: &str) -> Labels {
        let mut labels = base.clone();
        if self.node_labels {
            labels.insert(Label::k8s(crate::scope::CLUSTER, cluster));
            for (key, value) in node {
                labels.insert(Label {
                    key: key.clone(),
                    source: Source::Other(NODE.to_owned()),
                    value: value.clone(),
                });
            }
        }
        labels
    }

    /// Labels of an address outside the cluster that was learnt for a name.
    pub fn learnt(&self, base: &Labels, name: &str) -> Labels {
        let mut labels = base.clone();
        for pattern in self.names.iter().filter(|pattern| pattern.matches(name)) {
            labels.insert(Label {
                key: pattern.as_str().to_owned(),
                source: Source::Other(FQDN.to_owned()),
                value: String::new(),
            });
        }
        labels
    }

    /// The ranges outside the cluster that need an identity, each with its labels.
    pub fn ranges(&self) -> impl Iterator<Item = (IpNet, Labels)> {
        self.world.iter().map(|net| {
            let labels = [Label::reserved("world"), cidr_label(*net)].into_iter().collect();
            (*net, labels)
        })
    }

    /// The name patterns.
    pub fn names(&self) -> impl Iterator<Item = &NamePattern> {
        self.names.iter()
    }
}

/// The longest of the ranges that contains the address.
fn longest(ranges: &BTreeSet<IpNet>, address: IpAddr) -> Option<IpNet> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (0..=bits)
        .rev()
        .filter_map(|length| IpNet::new(address, length).ok())
        .map(|net| net.trunc())
        .find(|net| ranges.contains(net))
}

/// The named ports that an end's labels say it has.
pub(crate) fn named_ports(labels: &Labels) -> BTreeMap<String, (u8, u16)> {
    let generated = |label: &&Label| label.source == Source::Other(GENERATED.to_owned());
    let text = labels.get(NAMED_PORTS).filter(generated).map(|label| label.value.as_str());
    let entry = |text: &str| {
        let (rest, port) = text.rsplit_once('.')?;
        let (name, protocol) = rest.rsplit_once('.')?;
        Some((name.to_owned(), (protocol.parse().ok()?, port.parse().ok()?)))
    };
    text.unwrap_or_default().split('_').filter_map(entry).collect()
}

/// The source of keys in selectors of nodes.
pub fn node_key(key: &str) -> crate::selector::SelectorKey {
    crate::selector::SelectorKey { source: Source::Other(NODE.to_owned()), key: key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_range_holds_an_address() {
        let ranges = ["10.0.0.0/8", "10.1.0.0/16", "::/0"].map(|net| net.parse().unwrap()).into();
        let check = |address: &str, want: Option<&str>| {
            let found = longest(&ranges, address.parse().unwrap());
            assert_eq!(found, want.map(|net| net.parse().unwrap()), "{address}");
        };
        check("10.1.2.3", Some("10.1.0.0/16"));
        check("10.2.2.3", Some("10.0.0.0/8"));
        check("11.0.0.1", None);
        check("fd00::1", Some("::/0"));
    }

    #[test]
    fn named_ports_are_read_back() {
        let references = References {
            ports: ["dns".to_owned(), "http".to_owned()].into(),
            ..Default::default()
        };
        let ports = BTreeMap::from([
            ("dns".to_owned(), (17, 53)),
            ("http".to_owned(), (6, 8080)),
            ("metrics".to_owned(), (6, 9090)),
        ]);
        let labels = references.with_ports(&Labels::new(), &ports);
        let read: Vec<_> = named_ports(&labels).into_iter().collect();
        assert_eq!(read, [("dns".into(), (17, 53)), ("http".into(), (6, 8080))]);
        assert!(References::default().with_ports(&Labels::new(), &ports).is_empty());
    }
}
