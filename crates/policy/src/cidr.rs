//! Address ranges: as peers of rules, and as labels of identities (facts:
//! `policy.md` sections 2.1, 2.5 and 2.7).
//!
//! A rule never sees an address. Whoever keeps the address book gives every
//! address the label of the longest range that any rule names (see
//! `references`), and ranges match by containing that label.

use ipnet::IpNet;
use model::{Label, Labels, Source};

use crate::options::Options;

/// Which ends a range can mean beyond those outside the cluster, by the
/// standard of the kind that it is written in.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reach {
    /// Nobody else: pods and nodes are never matched by their addresses.
    World,
    /// Whoever has an address in it.
    Everybody,
}

/// What an installation says instead of each kind's own standard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CidrMatch {
    /// Ranges also match nodes.
    pub nodes: bool,
    /// Ranges also match pods and whatever else is in the cluster.
    pub pods: bool,
}

impl CidrMatch {
    /// What applies to a range.
    pub(crate) fn of(reach: Reach, options: &Options) -> Self {
        let everybody = reach == Reach::Everybody;
        options.cidr_match.unwrap_or(Self { nodes: everybody, pods: everybody })
    }
}

/// A range, less some of its parts.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CidrPeer {
    /// The range.
    pub net: IpNet,
    /// Parts that are not meant. Not a denial: another rule may mean them.
    pub except: Vec<IpNet>,
    /// The kind's own standard.
    pub reach: Reach,
}

impl CidrPeer {
    /// Whether an end with these labels is meant.
    pub fn matches(&self, labels: &Labels, options: &Options) -> bool {
        let also = CidrMatch::of(self.reach, options);
        let reachable = match Place::of(labels) {
            Place::World => true,
            Place::Node => also.nodes,
            Place::Cluster => also.pods,
        };
        let ranges: Vec<IpNet> = ranges(labels).collect();
        let within = |net: &IpNet| match ranges.as_slice() {
            [] => net.prefix_len() == 0 && is_world_of(net, labels),
            ranges => ranges.iter().any(|range| net.contains(range)),
        };
        reachable && within(&self.net) && !self.except.iter().any(within)
    }

    /// Every range that it names.
    pub(crate) fn nets(&self) -> impl Iterator<Item = IpNet> {
        [self.net].into_iter().chain(self.except.iter().copied())
    }
}

/// Where an end is, as far as ranges care.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    World,
    Node,
    Cluster,
}

impl Place {
    pub fn of(labels: &Labels) -> Self {
        let reserved = |names: &[&str]| names.iter().any(|name| labels.has_reserved(name));
        // An API server outside the cluster is both: its address is the world's.
        if reserved(&["world", "world-ipv4", "world-ipv6"]) {
            Self::World
        } else if reserved(&["host", "remote-node", "kube-apiserver"]) {
            Self::Node
        } else {
            Self::Cluster
        }
    }
}

/// The range of length zero is the world label itself (facts: section 2.1).
fn is_world_of(net: &IpNet, labels: &Labels) -> bool {
    let family = if net.addr().is_ipv4() { "world-ipv4" } else { "world-ipv6" };
    labels.has_reserved("world") || labels.has_reserved(family)
}

/// The label of a range.
pub fn cidr_label(net: IpNet) -> Label {
    let net = net.trunc();
    let mut address = net.addr().to_string().replace(':', "-");
    // A label neither starts nor ends with `-`.
    if address.starts_with('-') {
        address.insert(0, '0');
    }
    if address.ends_with('-') {
        address.push('0');
    }
    Label {
        key: format!("{address}/{}", net.prefix_len()),
        source: Source::Cidr,
        value: String::new(),
    }
}

/// The ranges that a set of labels names.
pub(crate) fn ranges(labels: &Labels) -> impl Iterator<Item = IpNet> {
    labels
        .iter()
        .filter(|label| label.source == Source::Cidr)
        .filter_map(|label| label.key.replace('-', ":").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check_label(range: &str, want: &str) {
        let label = cidr_label(net(range));
        assert_eq!(label.key, want);
        let labels: Labels = [label].into_iter().collect();
        assert_eq!(ranges(&labels).collect::<Vec<_>>(), [net(range).trunc()]);
    }

    #[test]
    fn labels_of_ranges_are_those_of_the_reference_system() {
        check_label("10.1.2.3/8", "10.0.0.0/8");
        check_label("::1/128", "0--1/128");
        check_label("2001:db8::/32", "2001-db8--0/32");
        check_label("fd00::1/128", "fd00--1/128");
    }

    /// `world` or `pod` or `node`, then ranges; the peer is `NET [!EXCEPT...]`.
    #[track_caller]
    fn check(peer: &str, reach: Reach, end: &str, want: bool) {
        let mut words = peer.split(' ');
        let peer = CidrPeer {
            net: net(words.next().unwrap()),
            except: words.map(|word| net(word.trim_start_matches('!'))).collect(),
            reach,
        };
        let mut words = end.split(' ');
        let mut labels: Labels = match words.next().unwrap() {
            "pod" => [Label::k8s("app", "a")],
            "node" => [Label::reserved("remote-node")],
            world => [Label::reserved(world)],
        }
        .into_iter()
        .collect();
        words.for_each(|word| labels.insert(cidr_label(net(word))));
        assert_eq!(peer.matches(&labels, &Options::default()), want, "{peer:?} {end}");
    }

    #[test]
    fn ranges_match_by_containment() {
        check("10.0.0.0/8", Reach::World, "world 10.1.2.3/32", true);
        check("10.0.0.0/8", Reach::World, "world 10.0.0.0/8", true);
        check("10.0.0.0/8", Reach::World, "world 0.0.0.0/0", false);
        check("10.0.0.0/8", Reach::World, "world 11.0.0.0/8", false);
        check("fd00::/8", Reach::World, "world fd00::1/128", true);
        check("10.0.0.0/8", Reach::World, "world", false);
    }

    #[test]
    fn the_range_of_everything_is_the_world_of_its_family() {
        check("0.0.0.0/0", Reach::World, "world", true);
        check("0.0.0.0/0", Reach::World, "world 8.8.8.8/32", true);
        check("0.0.0.0/0", Reach::World, "world ::/0", false);
        check("0.0.0.0/0", Reach::World, "world-ipv4", true);
        check("0.0.0.0/0", Reach::World, "world-ipv6", false);
    }

    #[test]
    fn what_is_excepted_is_not_meant() {
        check("10.0.0.0/8 !10.1.0.0/16", Reach::World, "world 10.1.0.0/16", false);
        check("10.0.0.0/8 !10.1.0.0/16", Reach::World, "world 10.1.2.0/24", false);
        check("10.0.0.0/8 !10.1.0.0/16", Reach::World, "world 10.0.0.0/8", true);
    }

    #[test]
    fn pods_and_nodes_are_matched_where_the_kind_says_so() {
        check("10.0.0.0/8", Reach::World, "pod 10.0.0.0/8", false);
        check("10.0.0.0/8", Reach::World, "node 10.0.0.0/8", false);
        check("10.0.0.0/8", Reach::Everybody, "pod 10.0.0.0/8", true);
        check("10.0.0.0/8", Reach::Everybody, "node 10.0.0.0/8", true);
        check("0.0.0.0/0", Reach::Everybody, "pod", false);
        check("0.0.0.0/0", Reach::World, "kube-apiserver", false);
    }
}
