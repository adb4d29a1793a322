//! Namespaces of nodes and external hosts, and nodes that come and go later.

use crate::error::Error;
use crate::journal::Node;
use crate::link;
use crate::netns::Netns;
use crate::places::FABRIC;
use crate::pods;
use crate::site::Site;
use crate::topology::{Station, Topology};

/// Kernel parameters of a namespace that forwards.
const ROUTER_PARAMETERS: [(&str, &str); 2] =
    [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// A node as the network sees it.
pub fn of_node(node: &Node) -> Station {
    Station {
        name: node.name.clone(),
        addresses: node.addresses.clone(),
        behind: node.pod_cidrs.clone(),
    }
}

/// Makes the namespace of a member.
pub fn create(site: &Site, member: &str, router: bool) -> Result<Netns, Error> {
    let netns = Netns::create(&site.places.netns(member))?;
    netns.set_parameters(&pods::PARAMETERS)?;
    if router {
        netns.set_parameters(&ROUTER_PARAMETERS)?;
    }
    link::loopback_up(&netns)?;
    Ok(netns)
}

/// Joins one more node to the fabric; `link` is the number of its link.
pub fn add_node(site: &Site, node: &Node, link: usize) -> Result<(), Error> {
    let fabric = Netns::at(site.places.netns(FABRIC));
    let topology = Topology::from_link(link, &[of_node(node)], FABRIC);
    let station = create(site, &node.name, true)?;
    for (wire, setup) in topology.wires.iter().zip(&topology.stations) {
        link::connect(&fabric, &station, wire)?;
        link::configure(&station, setup)?;
    }
    link::configure(&fabric, &topology.fabric)
}
