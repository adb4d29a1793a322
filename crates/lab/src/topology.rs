//! How the lab's namespaces are joined: a plan, made without touching anything.
//!
//! Every station (a node or an external host) hangs on one router, the fabric,
//! by one link. The fabric is the same link-local neighbour to all of them
//! (169.254.200.1, fe80::c8:1) and knows each address by a host route, so stations
//! may have any addresses whatever, and no subnet is shared. Nothing is
//! translated: a packet arrives with the source address it was sent with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Interface of a station towards the fabric.
pub const UPLINK: &str = "eth0";
/// The fabric's IPv4 address on each of its links.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 200, 1);
/// The fabric's IPv6 address on each of its links.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xc8, 1);

/// A node or an external host, as the network sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Station {
    /// Name of its namespace within the lab.
    pub name: String,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Ranges that are reached through it.
    pub behind: Vec<IpNet>,
}

/// A pair of interfaces: one in the fabric, `eth0` in the station.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wire {
    /// The station.
    pub station: String,
    /// Interface in the fabric.
    pub fabric_link: String,
}

/// One route: to `to`, over `link`, by the neighbour `via` if there is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Destination.
    pub to: IpNet,
    /// Next hop; always taken to be on the link.
    pub via: Option<IpAddr>,
    /// Interface.
    pub link: String,
}

/// What one namespace gets once its links exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setup {
    /// The namespace's name within the lab.
    pub namespace: String,
    /// Addresses and the interfaces they go on.
    pub addresses: Vec<(String, IpNet)>,
    /// Routes.
    pub routes: Vec<Route>,
}

/// The whole network, pods excepted: those are the CNI plugin's work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topology {
    /// One for each station.
    pub wires: Vec<Wire>,
    /// The fabric's.
    pub fabric: Setup,
    /// The stations', in the order of `wires`.
    pub stations: Vec<Setup>,
}

impl Topology {
    /// Joins the stations by a fabric.
    pub fn of(stations: &[Station], fabric: &str) -> Self {
        Self::from_link(0, stations, fabric)
    }

    /// Joins stations by the fabric's links from number `first` on.
    pub fn from_link(first: usize, stations: &[Station], fabric: &str) -> Self {
        let wires: Vec<_> = stations
            .iter()
            .zip(first..)
            .map(|(station, index)| (index, station))
            .map(|(index, station)| Wire {
                station: station.name.clone(),
                fabric_link: format!("to{index}"),
            })
            .collect();
        let mut router = Setup { namespace: fabric.to_owned(), addresses: vec![], routes: vec![] };
        for (station, wire) in stations.iter().zip(&wires) {
            let link = &wire.fabric_link;
            router.addresses.push((link.clone(), IpNet::from(IpAddr::V4(GATEWAY_V4))));
            router.addresses.push((link.clone(), IpNet::from(IpAddr::V6(GATEWAY_V6))));
            for address in &station.addresses {
                router.routes.push(Route {
                    to: IpNet::from(*address),
                    via: None,
                    link: link.clone(),
                });
            }
            for range in &station.behind {
                let via = station.addresses.iter().copied().find(|at| same_family(*at, range));
                router.routes.push(Route { to: *range, via, link: link.clone() });
            }
        }
        Self { wires, fabric: router, stations: stations.iter().map(station_setup).collect() }
    }
}

fn station_setup(station: &Station) -> Setup {
    let addresses =
        station.addresses.iter().map(|at| (UPLINK.to_owned(), IpNet::from(*at))).collect();
    let default = |via: IpAddr, to: IpNet| Route { to, via: Some(via), link: UPLINK.to_owned() };
    let routes = [
        (IpAddr::V4(GATEWAY_V4), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (IpAddr::V6(GATEWAY_V6), IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ]
    .into_iter()
    .filter_map(|(via, any)| Some(default(via, IpNet::new(any, 0).ok()?)))
    .collect();
    Setup { namespace: station.name.clone(), addresses, routes }
}

fn same_family(address: IpAddr, range: &IpNet) -> bool {
    address.is_ipv4() == range.addr().is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Station {
        Station {
            name: "node-1".into(),
            addresses: vec!["172.20.0.11".parse().unwrap(), "fd00:172:20::11".parse().unwrap()],
            behind: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
        }
    }

    #[test]
    fn pod_ranges_are_routed_to_the_node_in_their_own_family() {
        let topology = Topology::of(&[node()], "fabric");
        let via = |range: &str| {
            let range: IpNet = range.parse().unwrap();
            topology.fabric.routes.iter().find(|route| route.to == range).unwrap().via
        };
        assert_eq!(via("10.244.1.0/24"), Some("172.20.0.11".parse().unwrap()));
        assert_eq!(via("fd00:10:244:1::/64"), Some("fd00:172:20::11".parse().unwrap()));
    }

    #[test]
    fn a_station_sends_everything_to_the_fabric() {
        let topology = Topology::of(&[node()], "fabric");
        let routes: Vec<_> =
            topology.stations[0].routes.iter().map(|route| route.to.to_string()).collect();
        assert_eq!(routes, ["0.0.0.0/0", "::/0"]);
    }

    #[test]
    fn interface_names_fit_the_kernel_whatever_stations_are_called() {
        let mut long = node();
        long.name = "a".repeat(63);
        let topology = Topology::of(&[long], "fabric");
        assert!(topology.wires[0].fabric_link.len() <= 15);
    }
}
